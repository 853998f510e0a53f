//! The one way to change rows of tenants.
//!
//! In: an account, who acts, rows. Out: the rows with an audit entry and an outbox entry each, all or nothing.
//! Always holds: nothing is written before [`Change::commit`] returns well; entries are written last, so that of two
//! changes of one row the one that came second has the higher outbox number; an audit entry holds no secret.

use std::sync::Arc;

use sea_orm::entity::prelude::*;
use sea_orm::{DbBackend, QuerySelect as _, Statement};
use serde_json::Value as Json;

use super::database::{Executor, Transaction};
use super::error::{StorageError, StorageResult};
use super::idempotency::{Claim, StoredAnswer};
use super::outbox::Wake;
use super::rows::{AuditEntry, Stamp, TenantRow};
use super::tenant::Tenant;
use crate::ids::{is_id, new_id};
use crate::world::World;

/// Who changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// `admin_key`, `command` or `system`.
    pub kind: &'static str,
    /// The key's id, or the name of the command or part.
    pub id: String,
    /// The request it came with.
    pub request_id: Option<String>,
}

/// What is done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Insert,
    Update,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
        }
    }
}

#[derive(Debug)]
struct Entry {
    kind: &'static str,
    operation: Operation,
    row_id: String,
    row_key: i64,
    before: Option<Json>,
    after: Json,
}

/// A transaction that changes rows of one account. Dropped, it changes nothing.
#[derive(Debug)]
pub struct Change {
    pub(super) transaction: Transaction,
    pub(super) account_id: String,
    pub(super) actor: Actor,
    pub(super) world: Arc<dyn World>,
    pub(super) wake: Wake,
    pub(super) now_ms: i64,
    pub(super) claim: Option<Claim>,
    entries: Vec<Entry>,
}

impl Change {
    pub(super) fn new(
        transaction: Transaction,
        account_id: &str,
        actor: Actor,
        world: Arc<dyn World>,
        wake: Wake,
    ) -> Self {
        let now_ms = world.now_ms();
        let account_id = account_id.to_owned();
        let entries = Vec::new();
        Self { transaction, account_id, actor, world, wake, now_ms, claim: None, entries }
    }

    /// The account's rows, as this change sees them.
    #[must_use]
    pub fn tenant(&self) -> Tenant<'_> {
        Tenant { executor: Executor::Open(&self.transaction), account_id: self.account_id.clone() }
    }

    /// The clock and the randomness that rows are made with.
    #[must_use]
    pub fn world(&self) -> &Arc<dyn World> {
        &self.world
    }

    /// When the change is, Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// A new id for a row of this kind.
    #[must_use]
    pub fn new_id<R: TenantRow>(&self) -> String {
        new_id(R::PREFIX, &*self.world)
    }

    /// A row that nobody else can change until this change is over; `None` where the account has none.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn lock<R: TenantRow>(&self, id: &str) -> StorageResult<Option<R>> {
        if !is_id(id) {
            return Ok(None);
        }
        let query = self.tenant().select::<R>().filter(R::columns().id.eq(id));
        // SQLite has one writer at a time and no row locks.
        let query = match self.transaction.get_database_backend() {
            DbBackend::Postgres => query.lock_exclusive(),
            _ => query,
        };
        Ok(query.one(&self.transaction).await?)
    }

    /// A row that nobody else can change until this change is over, though others may hold it likewise; `None` where
    /// the account has none.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn share<R: TenantRow>(&self, id: &str) -> StorageResult<Option<R>> {
        if !is_id(id) {
            return Ok(None);
        }
        let query = self.tenant().select::<R>().filter(R::columns().id.eq(id));
        let query = match self.transaction.get_database_backend() {
            DbBackend::Postgres => query.lock_shared(),
            _ => query,
        };
        Ok(query.one(&self.transaction).await?)
    }

    /// Inserts a row. Its key, version and times are set here; its id, where it is empty.
    ///
    /// # Errors
    /// When a unique value is taken, or the database cannot be asked.
    pub async fn insert<R: TenantRow>(&mut self, mut row: R) -> StorageResult<R> {
        let id = if row.id().is_empty() { self.new_id::<R>() } else { row.id().to_owned() };
        row.stamp(Stamp::New { id: &id, account_id: &self.account_id, now_ms: self.now_ms });
        let row: R = insert_row(row, &self.transaction).await?;
        self.note(&row, Operation::Insert, None);
        Ok(row)
    }

    /// Inserts a row that itself records what happened (an event, a delivery, a mail): no audit or outbox entry is written
    /// for it.
    ///
    /// # Errors
    /// As [`Change::insert`].
    pub async fn record<R: TenantRow>(&mut self, mut row: R) -> StorageResult<R> {
        let id = if row.id().is_empty() { self.new_id::<R>() } else { row.id().to_owned() };
        row.stamp(Stamp::New { id: &id, account_id: &self.account_id, now_ms: self.now_ms });
        insert_row(row, &self.transaction).await
    }

    /// Changes a row to `after`, if it still is as `before`. Its head stays, but for version and time.
    ///
    /// # Errors
    /// `Stale` when somebody else changed it; as [`Change::insert`] otherwise.
    pub async fn update<R: TenantRow>(&mut self, before: &R, mut after: R) -> StorageResult<R> {
        if before.account_id() != self.account_id || after.id() != before.id() {
            return Err(StorageError::Broken(format!("{} is not this account's row", before.id())));
        }
        let stamp =
            Stamp::Changed { key: before.key(), version: before.version(), now_ms: self.now_ms };
        after.stamp(stamp);
        let columns = R::columns();
        let mut active = after.clone().into_active_model().reset_all();
        active.not_set(columns.key);
        let done = R::Entity::update_many()
            .set(active)
            .filter(columns.account_id.eq(self.account_id.as_str()))
            .filter(columns.key.eq(before.key()))
            .filter(columns.version.eq(before.version()))
            .exec(&self.transaction)
            .await?;
        if done.rows_affected != 1 {
            return Err(StorageError::Stale);
        }
        self.note(&after, Operation::Update, Some(before.facts()));
        Ok(after)
    }

    /// Makes a slug this account's for ever. What customers use is counted under slug and reference alone, so nobody
    /// else may ever have it; the same account may, and its customers go on from what they used.
    ///
    /// # Errors
    /// `Taken` when it is another account's, whether a site of that has it still or not.
    pub async fn own_slug(&mut self, slug: &str) -> StorageResult<()> {
        // Of two at once the second waits here for the first; sites refer to this row, so none is made around it.
        let insert = Statement::from_sql_and_values(
            self.transaction.get_database_backend(),
            "INSERT INTO slug_owners (slug, account_id) VALUES ($1, $2) ON CONFLICT (slug) \
             DO UPDATE SET slug = excluded.slug WHERE slug_owners.account_id = excluded.account_id",
            [slug.into(), self.account_id.as_str().into()],
        );
        match self.transaction.execute_raw(insert).await?.rows_affected() {
            0 => Err(StorageError::Taken("slug_owners".to_owned())),
            _ => Ok(()),
        }
    }

    /// Says which custom hosts a site has, all of them.
    ///
    /// # Errors
    /// `Taken` when another site has one of them.
    pub async fn set_hosts(&mut self, site_id: &str, hosts: &[String]) -> StorageResult<()> {
        let backend = self.transaction.get_database_backend();
        let delete = Statement::from_sql_and_values(
            backend,
            "DELETE FROM site_hosts WHERE site_id = $1 AND account_id = $2",
            [site_id.into(), self.account_id.as_str().into()],
        );
        self.transaction.execute_raw(delete).await?;
        for host in hosts {
            let insert = Statement::from_sql_and_values(
                backend,
                "INSERT INTO site_hosts (host, site_id, account_id) VALUES ($1, $2, $3)",
                [host.as_str().into(), site_id.into(), self.account_id.as_str().into()],
            );
            self.transaction.execute_raw(insert).await?;
        }
        Ok(())
    }

    fn note<R: TenantRow>(&mut self, row: &R, operation: Operation, before: Option<Json>) {
        self.entries.push(Entry {
            kind: R::KIND,
            operation,
            row_id: row.id().to_owned(),
            row_key: row.key(),
            before,
            after: row.facts(),
        });
    }

    /// Has the audit log say of a row what was done with much that belongs to it, as one entry.
    pub fn note_done<R: TenantRow>(&mut self, row: &R, what: Json) {
        self.note(row, Operation::Update, Some(row.facts()));
        if let Some(entry) = self.entries.last_mut() {
            entry.after = what;
        }
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// When the database cannot be asked: it is then not known whether the change was made.
    pub async fn commit(self) -> StorageResult<()> {
        self.commit_with(None).await
    }

    /// As [`Change::commit`], keeping the answer for a request that is sent again with the same idempotency key.
    ///
    /// # Errors
    /// As [`Change::commit`].
    pub async fn commit_with(mut self, answer: Option<&StoredAnswer>) -> StorageResult<()> {
        if let (Some(claim), Some(answer)) = (&self.claim, answer) {
            claim.answer(answer, &self.transaction).await?;
        }
        for entry in std::mem::take(&mut self.entries) {
            self.write(entry).await?;
        }
        self.transaction.commit().await?;
        self.wake.wake();
        Ok(())
    }

    async fn write(&self, entry: Entry) -> StorageResult<()> {
        let mut audit = AuditEntry {
            actor_kind: self.actor.kind.to_owned(),
            actor_id: self.actor.id.clone(),
            request_id: self.actor.request_id.clone(),
            action: format!("{}.{}", entry.kind, entry.operation.as_str()),
            kind: entry.kind.to_owned(),
            row_id: entry.row_id.clone(),
            before: entry.before.map(|facts| facts.to_string()),
            after: Some(entry.after.to_string()),
            ..AuditEntry::default()
        };
        let id = new_id(AuditEntry::PREFIX, &*self.world);
        audit.stamp(Stamp::New { id: &id, account_id: &self.account_id, now_ms: self.now_ms });
        insert_row(audit, &self.transaction).await?;
        let statement = Statement::from_sql_and_values(
            self.transaction.get_database_backend(),
            "INSERT INTO outbox (account_id, kind, row_id, row_key, operation, created_at_ms) VALUES ($1, $2, $3, $4, $5, $6)",
            [
                self.account_id.as_str().into(),
                entry.kind.into(),
                entry.row_id.into(),
                entry.row_key.into(),
                entry.operation.as_str().into(),
                self.now_ms.into(),
            ],
        );
        self.transaction.execute_raw(statement).await?;
        Ok(())
    }
}

async fn insert_row<R: TenantRow>(row: R, transaction: &Transaction) -> StorageResult<R> {
    let mut active = row.into_active_model().reset_all();
    active.not_set(R::columns().key);
    Ok(active.insert(transaction).await?)
}
