//! Everything that nodes are told, over all accounts, as it was at one moment.
//!
//! In: the database. Out: rows of sites and their parts, and subscriptions with tokens, page by page.
//! Always holds: all that one reader reads is of one database snapshot, its sequence included, so that what is compiled
//! of it fits together; an entry of the outbox up to that sequence is in it.

use std::collections::HashMap;

use sea_orm::entity::prelude::*;
use sea_orm::{
    AccessMode, Condition, DbBackend, IsolationLevel, QueryOrder as _, QuerySelect as _,
    TransactionOptions,
};

use super::Store;
use super::database::Transaction;
use super::error::StorageResult;
use super::outbox;
use super::rows::{
    Adjustment, Customer, Entity, Plan, PlanRevision, Resource, Site, Subscription, Token, column,
};

/// Values in one `IN (…)`: SQLite takes 32,766 in a statement.
pub(super) const VALUES_MAX: usize = 1_000;

/// A database snapshot that is read from. Dropped, it is given back.
#[derive(Debug)]
pub struct PolicyReader {
    transaction: Transaction,
    now_ms: i64,
}

/// That a subscription which is not archived is on a plan.
const IS_SERVED: &str = "EXISTS (SELECT 1 FROM subscriptions WHERE subscriptions.plan_id = plans.id AND subscriptions.archived_at_ms IS NULL)";

/// All sites that are not archived, with their parts.
#[derive(Clone, Debug, Default)]
pub struct SiteRows {
    /// Sites.
    pub sites: Vec<Site>,
    /// Their resources, in the order in which they were made.
    pub resources: Vec<Resource>,
    /// Their plans, those that are not archived and those that subscriptions are on all the same.
    pub plans: Vec<Plan>,
    /// What plans said before.
    pub revisions: Vec<PlanRevision>,
}

/// A subscription and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRows {
    /// The subscription.
    pub subscription: Subscription,
    /// The customer's reference.
    pub customer: String,
    /// All its tokens.
    pub tokens: Vec<Token>,
    /// What was adjusted by hand and counts still.
    pub adjustments: Vec<Adjustment>,
}

impl Store {
    /// A reader of the database as it is now.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn policy_reader(&self) -> StorageResult<PolicyReader> {
        let options = match self.database.get_database_backend() {
            DbBackend::Postgres => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..TransactionOptions::default()
            },
            // A transaction that only reads sees SQLite as it was at its first statement.
            _ => TransactionOptions::default(),
        };
        let transaction = self.database.begin(options).await?;
        Ok(PolicyReader { transaction, now_ms: self.world.now_ms() })
    }
}

impl PolicyReader {
    /// The last number of the outbox.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn sequence(&self) -> StorageResult<i64> {
        outbox::head(&self.transaction).await
    }

    /// Every site that is not archived.
    pub async fn sites(&self) -> StorageResult<SiteRows> {
        let database = &self.transaction;
        let sites = Entity::<Site>::find()
            .filter(column::Site::ArchivedAtMs.is_null())
            .order_by_asc(column::Site::Key);
        let resources = Entity::<Resource>::find()
            .filter(column::Resource::ArchivedAtMs.is_null())
            .order_by_asc(column::Resource::Key);
        let is_told =
            Condition::any().add(column::Plan::ArchivedAtMs.is_null()).add(Expr::cust(IS_SERVED));
        let plans = Entity::<Plan>::find().filter(is_told).order_by_asc(column::Plan::Key);
        let revisions = Entity::<PlanRevision>::find().order_by_asc(column::PlanRevision::Key);
        Ok(SiteRows {
            sites: sites.all(database).await?,
            resources: resources.all(database).await?,
            plans: plans.all(database).await?,
            revisions: revisions.all(database).await?,
        })
    }

    /// The subscriptions that are not archived after this key, by key, at most `rows_max`.
    pub async fn subscriptions_after(
        &self,
        key: i64,
        rows_max: u64,
    ) -> StorageResult<Vec<SubscriptionRows>> {
        let subscriptions = Entity::<Subscription>::find()
            .filter(column::Subscription::Key.gt(key))
            .filter(column::Subscription::ArchivedAtMs.is_null())
            .order_by_asc(column::Subscription::Key)
            .limit(rows_max);
        let subscriptions = subscriptions.all(&self.transaction).await?;
        self.complete(subscriptions).await
    }

    /// These subscriptions, archived ones too, by key.
    pub async fn subscriptions(&self, keys: &[i64]) -> StorageResult<Vec<SubscriptionRows>> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(VALUES_MAX) {
            let query = Entity::<Subscription>::find()
                .filter(column::Subscription::Key.is_in(keys.iter().copied()))
                .order_by_asc(column::Subscription::Key);
            found.extend(query.all(&self.transaction).await?);
        }
        self.complete(found).await
    }

    /// The slugs of these sites, archived ones too, by site id.
    pub async fn slugs(&self, site_ids: &[&str]) -> StorageResult<HashMap<String, String>> {
        let mut slugs = HashMap::with_capacity(site_ids.len());
        for ids in site_ids.chunks(VALUES_MAX) {
            let query = Entity::<Site>::find().filter(column::Site::Id.is_in(ids.iter().copied()));
            let rows = query.all(&self.transaction).await?;
            slugs.extend(rows.into_iter().map(|row| (row.id, row.slug)));
        }
        Ok(slugs)
    }

    async fn complete(
        &self,
        subscriptions: Vec<Subscription>,
    ) -> StorageResult<Vec<SubscriptionRows>> {
        let mut tokens: HashMap<String, Vec<Token>> = HashMap::with_capacity(subscriptions.len());
        let mut customers: HashMap<String, String> = HashMap::new();
        for part in subscriptions.chunks(VALUES_MAX) {
            let ids = part.iter().map(|row| row.id.as_str());
            let query = Entity::<Token>::find()
                .filter(column::Token::SubscriptionId.is_in(ids))
                .order_by_asc(column::Token::Key);
            for token in query.all(&self.transaction).await? {
                tokens.entry(token.subscription_id.clone()).or_default().push(token);
            }
            let ids = part.iter().map(|row| row.customer_id.as_str());
            let query = Entity::<Customer>::find().filter(column::Customer::Id.is_in(ids));
            let rows = query.all(&self.transaction).await?;
            customers.extend(rows.into_iter().map(|row| (row.id, row.reference)));
        }
        let mut adjustments: HashMap<String, Vec<Adjustment>> = HashMap::new();
        for part in subscriptions.chunks(VALUES_MAX) {
            let ids = part.iter().map(|row| row.id.as_str());
            let counts = Condition::any()
                .add(column::Adjustment::ExpiresAtMs.is_null())
                .add(column::Adjustment::ExpiresAtMs.gt(self.now_ms));
            let query = Entity::<Adjustment>::find()
                .filter(column::Adjustment::SubscriptionId.is_in(ids))
                .filter(counts)
                .order_by_asc(column::Adjustment::Key);
            for row in query.all(&self.transaction).await? {
                adjustments.entry(row.subscription_id.clone()).or_default().push(row);
            }
        }
        let complete = |subscription: Subscription| SubscriptionRows {
            customer: customers.get(&subscription.customer_id).cloned().unwrap_or_default(),
            tokens: tokens.remove(&subscription.id).unwrap_or_default(),
            adjustments: adjustments.remove(&subscription.id).unwrap_or_default(),
            subscription,
        };
        Ok(subscriptions.into_iter().map(complete).collect())
    }
}
