//! What the control plane knows, in PostgreSQL or SQLite.
//!
//! In: a database URL, an account, rows. Out: rows of that account; changes with their audit and outbox entries.
//! Always holds: rows of tenants are read through [`Tenant`] and written through [`Change`] alone, both of which carry
//! the account; one transaction holds a change, its audit entry and its outbox entry; neither database is asked for
//! anything that the other could not do.

use std::sync::Arc;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    SqliteTransactionMode, TransactionOptions,
};

mod billing_lookups;
mod billing_rows;
mod change;
mod connect;
mod crossings;
mod database;
mod decisions;
mod deliveries;
mod error;
mod free_requests;
mod good_hashes;
mod idempotency;
mod ledger;
mod ledger_ended;
mod mails;
mod migrate;
mod nodes;
mod oauth_states;
pub mod outbox;
mod overage;
mod policy_rows;
mod prune;
mod reconcile;
mod rekey;
mod rows;
mod schema;
mod stripe_calls;
mod stripe_claims;
mod stripe_crowd;
mod stripe_event_rows;
mod stripe_inbox;
mod stripe_leases;
mod stripe_sweeps;
mod tenant;
mod turns;

pub use billing_rows::{
    Checkout, KeyClaim, PlanPrice, StripeAccount, StripeCustomer, StripeSubscription,
};
pub use change::{Actor, Change};
pub(crate) use connect::answered;
pub use connect::{CONNECTIONS_DEFAULT, UrlError};
pub use crossings::{Crossing, NamedEntitlement, PERCENTS};
pub use decisions::{
    DAY_MS, OTHERS, OwnSites, ReadDecisions, Retention, SiteSpan, TakenDecisions, Unreadable,
};
pub use deliveries::{Attempted, DueDelivery, Take};
pub use error::{StorageError, StorageResult};
pub use free_requests::{FreeAsked, FreeRequest};
pub use good_hashes::Bearer;
pub use idempotency::{StoredAnswer, Work, WorkBegun, WorkEnd};
pub use ledger::Taken;
pub use nodes::{Admission, KnownNode, NodeReport, NodesLag, Start};
pub use oauth_states::{OauthState, UnusedGrant};
pub use outbox::{Outbox, OutboxEntry};
pub use overage::{OverageBook, OverageDue, OverageSpan, OverageTold};
pub use policy_rows::{PolicyReader, SiteRows, SubscriptionRows};
pub use prune::{AUDIT_DAYS_DEFAULT, Pruned};
pub use reconcile::{Reconciled, Waiting};
pub use rows::{
    Account, Adjustment, AdminKey, AuditEntry, Columns, Customer, EventRecord, Mail, Member, Node,
    NodeToken, OverageEvent, Plan, PlanRevision, Resource, Site, Stamp, Subscription, TenantRow,
    Token, WebhookDelivery, WebhookEndpoint,
};
pub use stripe_calls::{StripeCall, StripeCallBegun};
pub use stripe_claims::JobClaim;
pub use stripe_crowd::{Crowd, CrowdJob};
pub use stripe_event_rows::{StripeEvent, StripeReversal, StripeSweep};
pub use stripe_inbox::{Arrived, EventState, InboxState, Job, JobEvent, Kept, lease_name};
pub use stripe_leases::Lease;
pub use tenant::{Page, Tenant, Window};

/// The columns of each table, for filters.
pub mod column {
    pub use super::billing_rows::column::*;
    pub use super::rows::column::*;
    pub use super::stripe_event_rows::column::*;
}

use crate::secrets::Keyring;
use crate::world::World;
use database::{Database, Executor, Transaction};
use idempotency::{Claim, Claimed};
use outbox::Wake;

/// The database. Clones share one pool.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    world: Arc<dyn World>,
    wake: Wake,
    outbox: Outbox,
}

/// A key by which a client knows its request again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// What the client sent.
    pub key: String,
    /// The SHA-256 of method, path and body.
    pub request_hash: [u8; 32],
}

/// What came of beginning a change.
#[derive(Debug)]
pub enum Begun {
    /// It can be made.
    New(Change),
    /// The same request was answered before; this is the answer.
    Answered(StoredAnswer),
    /// The key was used for another request.
    KeyReused,
    /// Somebody else is at the same request.
    Running,
}

impl Store {
    /// Opens the database that `url` names, without connecting yet.
    ///
    /// # Errors
    /// When the URL is of no use.
    pub fn open(url: &str, connections_max: u32, world: Arc<dyn World>) -> Result<Self, UrlError> {
        let database = connect::open(url, connections_max)?;
        let wake = Wake::default();
        let outbox = Outbox::new(database.clone(), wake.clone());
        Ok(Self { database, world, wake, outbox })
    }

    /// Brings the tables up to date; says how many steps that took.
    ///
    /// # Errors
    /// When the database cannot be asked, or is of a later version.
    pub async fn migrate(&self) -> StorageResult<usize> {
        migrate::run(&self.database, self.world.now_ms()).await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> StorageResult<()> {
        self.database.execute_unprepared("SELECT 1").await?;
        Ok(())
    }

    /// The clock and the randomness that rows are made with.
    #[must_use]
    pub fn world(&self) -> &Arc<dyn World> {
        &self.world
    }

    /// The changes by number.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// An account's rows.
    #[must_use]
    pub fn tenant(&self, account_id: &str) -> Tenant<'_> {
        Tenant { executor: Executor::Pool(&self.database), account_id: account_id.to_owned() }
    }

    /// Begins a change of an account's rows.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn change(&self, account_id: &str, actor: Actor) -> StorageResult<Change> {
        let transaction = begin_write(&self.database).await?;
        let (world, wake) = (self.world.clone(), self.wake.clone());
        Ok(Change::new(transaction, account_id, actor, world, wake))
    }

    /// As [`Store::change`], for a request that may be sent again. `claimed_by` is the account whose key it is, which is the
    /// changed one but for the operator.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn change_once(
        &self,
        account_id: &str,
        actor: Actor,
        key: &IdempotencyKey,
        claimed_by: &str,
    ) -> StorageResult<Begun> {
        let mut change = self.change(account_id, actor).await?;
        let (hash, now_ms) = (key.request_hash, change.now_ms());
        match Claim::take(claimed_by, &key.key, hash, now_ms, &change.transaction).await? {
            Claimed::New(claim) => {
                change.claim = Some(claim);
                Ok(Begun::New(change))
            }
            Claimed::Answered(answer) => Ok(Begun::Answered(answer)),
            Claimed::Other => Ok(Begun::KeyReused),
            Claimed::Running(_) => Ok(Begun::Running),
        }
    }

    /// The admin key with this hash, of whichever account: how a request's account is known at all.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn admin_key_by_hash(&self, hash: &[u8; 32]) -> StorageResult<Option<AdminKey>> {
        let query = rows::Entity::<AdminKey>::find();
        let query = query.filter(column::AdminKey::Hash.eq(hash.to_vec()));
        Ok(query.one(&self.database).await?)
    }

    /// Whether an account has a key of the operator's.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn is_operators(&self, account_id: &str) -> StorageResult<bool> {
        let query = rows::Entity::<AdminKey>::find()
            .filter(column::AdminKey::AccountId.eq(account_id))
            .filter(column::AdminKey::IsOperator.eq(true));
        Ok(query.one(&self.database).await?.is_some())
    }

    /// The oldest account that has a key of the operator's.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn operators_account(&self) -> StorageResult<Option<String>> {
        let query = rows::Entity::<AdminKey>::find()
            .filter(column::AdminKey::IsOperator.eq(true))
            .order_by_asc(column::AdminKey::Key);
        Ok(query.one(&self.database).await?.map(|key| key.account_id))
    }

    /// All accounts, for an operator: newest first.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn accounts(&self, window: Window<'_>) -> StorageResult<Option<Page<Account>>> {
        tenant::all_accounts(&self.database, window).await
    }

    /// Whether there is any account.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn is_empty(&self) -> StorageResult<bool> {
        let window = Window { limit: 1, starting_after: None };
        Ok(self.accounts(window).await?.is_none_or(|page| page.rows.is_empty()))
    }

    /// Throws away one step of what is old; entries of the audit log after so many days, 0 for never.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn prune(&self, audit_days: u32) -> StorageResult<Pruned> {
        self.prune_stripe().await?;
        self.prune_inbox().await?;
        self.prune_free_requests().await?;
        prune::step(&self.database, self.world.now_ms(), audit_days).await
    }

    /// The same of the audit log alone, at another time and with another step.
    ///
    /// # Errors
    /// When the database cannot be asked.
    #[cfg(test)]
    pub(crate) async fn prune_audit(
        &self,
        now_ms: i64,
        days: u32,
        step: u64,
    ) -> StorageResult<u64> {
        prune::audit(&self.database, now_ms, days, step).await
    }

    /// The same, keeping only so many entries of the outbox.
    ///
    /// # Errors
    /// When the database cannot be asked.
    #[cfg(test)]
    pub(crate) async fn prune_outbox(&self, now_ms: i64, kept_min: i64) -> StorageResult<u64> {
        outbox::prune(&self.database, now_ms, kept_min, prune::STEP).await
    }

    /// Seals every secret anew that was sealed with another key than the first; says how many.
    ///
    /// # Errors
    /// When the database cannot be asked, or a secret cannot be opened.
    pub async fn rekey(&self, keyring: &Keyring) -> StorageResult<u64> {
        rekey::run(&self.database, keyring, &*self.world).await
    }

    /// Runs a statement as it is, for tests that damage a database.
    #[cfg(test)]
    pub(crate) async fn raw(&self, sql: &str) {
        self.database.execute_unprepared(sql).await.unwrap();
    }

    /// The number `n` of a query, for tests that look into tables.
    #[cfg(test)]
    pub(crate) async fn raw_number(&self, sql: &str) -> i64 {
        let statement = sea_orm::Statement::from_string(self.database.get_database_backend(), sql);
        self.database.query_one_raw(statement).await.unwrap().unwrap().try_get("", "n").unwrap()
    }

    /// The text `n` of a query, for tests that look into tables.
    #[cfg(test)]
    pub(crate) async fn raw_text(&self, sql: &str) -> String {
        let statement = sea_orm::Statement::from_string(self.database.get_database_backend(), sql);
        self.database.query_one_raw(statement).await.unwrap().unwrap().try_get("", "n").unwrap()
    }

    /// Closes all connections, waiting for those in use.
    pub async fn close(self) {
        if let Err(error) = self.database.close().await {
            tracing::debug!(%error, "closing the database");
        }
    }
}

/// Begins a transaction that writes: in SQLite at once the only one, so that it can never fail half-way for another.
async fn begin_write(database: &Database) -> StorageResult<Transaction> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    Ok(database.begin(options).await?)
}
