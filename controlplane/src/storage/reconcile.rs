//! What a reconciliation reads over all accounts, and what came of it.
//!
//! In: a place to go on from. Out: subscriptions with their sites; the ledger's accounts with their ages; figures.
//! Always holds: nothing that is reconciled is changed; a day is reconciled by one control plane.

use policy::budget::ledger::Account;
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Statement, Value,
};

use super::decisions::OTHERS;
use super::error::StorageResult;
use super::rows::{Entity, Site, Subscription, column};
use super::{Retention, Store};
use crate::reconcile::{Asked, Charges};

const DAY_S: i64 = 86_400;
/// How long a reconciliation may take before its process counts as dead.
const DEAD_AFTER_MS: i64 = 6 * 3_600_000;
/// After what time one that failed is tried again.
const RETRY_AFTER_MS: i64 = 3_600_000;
/// Days of which results are kept.
const KEPT_DAYS: i64 = 400;

/// What came of the last reconciliation that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// When it ended, Unix milliseconds.
    pub ended_at_ms: i64,
    /// Subscriptions that were looked at.
    pub checked: i64,
    /// What did not agree.
    pub differences: i64,
}

/// What waits, over all accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Deliveries of webhooks.
    pub deliveries: i64,
    /// Mails.
    pub mails: i64,
    /// Crossed quotas.
    pub crossings: i64,
    /// Periods with overage that was not told.
    pub overage: i64,
}

impl Store {
    /// What waits.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn waiting(&self) -> StorageResult<Waiting> {
        let sql = "SELECT (SELECT count(*) FROM webhook_deliveries WHERE next_at_ms IS NOT NULL) AS deliveries, \
                   (SELECT count(*) FROM mails WHERE next_at_ms IS NOT NULL) AS mails, \
                   (SELECT count(*) FROM quota_crossings WHERE told_at_ms IS NULL) AS crossings, \
                   (SELECT count(*) FROM overage_books WHERE over_units > told_units) AS overage";
        let backend = self.database.get_database_backend();
        let row = self.database.query_one_raw(Statement::from_string(backend, sql)).await?;
        let Some(row) = row else { return Ok(Waiting::default()) };
        Ok(Waiting {
            deliveries: row.try_get("", "deliveries")?,
            mails: row.try_get("", "mails")?,
            crossings: row.try_get("", "crossings")?,
            overage: row.try_get("", "overage")?,
        })
    }

    /// Subscriptions after this key, by key, of one site or of all.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn subscriptions_after(
        &self,
        key: i64,
        site_id: Option<&str>,
        count: u64,
    ) -> StorageResult<Vec<Subscription>> {
        let mut query = Entity::<Subscription>::find().filter(column::Subscription::Key.gt(key));
        if let Some(site_id) = site_id {
            query = query.filter(column::Subscription::SiteId.eq(site_id));
        }
        let query = query.order_by_asc(column::Subscription::Key).limit(count);
        Ok(query.all(&self.database).await?)
    }

    /// The sites with these ids.
    pub async fn sites_by_id(&self, ids: Vec<String>) -> StorageResult<Vec<Site>> {
        let query = Entity::<Site>::find().filter(column::Site::Id.is_in(ids));
        Ok(query.all(&self.database).await?)
    }

    /// The site with this id or slug.
    pub async fn site_called(&self, name: &str) -> StorageResult<Option<Site>> {
        let is_named =
            Condition::any().add(column::Site::Id.eq(name)).add(column::Site::Slug.eq(name));
        let query = Entity::<Site>::find().filter(is_named).order_by_desc(column::Site::Key);
        Ok(query.one(&self.database).await?)
    }

    /// An account of the ledger, and when it last changed, by the ledger's clock.
    pub async fn ledger_account_at(
        &self,
        entitlement: u128,
    ) -> StorageResult<Option<(Account, i64)>> {
        let Some(account) = self.ledger_account(entitlement).await? else { return Ok(None) };
        let sql = "SELECT updated_at_ms FROM ledger_accounts WHERE entitlement = $1";
        let backend = self.database.get_database_backend();
        let values = [entitlement.to_be_bytes().to_vec().into()];
        let row = self.database.query_one_raw(Statement::from_sql_and_values(backend, sql, values));
        let at_ms = row.await?.map(|row| row.try_get("", "updated_at_ms")).transpose()?;
        Ok(Some((account, at_ms.unwrap_or_default())))
    }

    /// What decisions that nodes ship to the control plane have charged subscriptions of a site.
    pub async fn decisions_charged(
        &self,
        asked: &Asked,
        kept: &Retention,
    ) -> StorageResult<Charges> {
        let mut charges = Charges { kept_ms: Some(kept.days_ms), ..Charges::default() };
        let Some(site_key) = asked.sites.only() else { return Ok(charges) };
        let from_s = asked.since_s.div_euclid(DAY_S).saturating_mul(DAY_S);
        // What was counted together is that of any of them.
        let names = asked.references.iter().map(String::as_str).chain([OTHERS]);
        let mut values: Vec<Value> = vec![site_key.into(), from_s.into()];
        values.extend(names.map(Into::into));
        let marks: Vec<String> = (3..=values.len()).map(|at| format!("${at}")).collect();
        let sql = format!(
            "SELECT k.subscription, d.period, CAST(SUM(d.charge) AS BIGINT) AS units FROM usage_days d JOIN usage_keys k \
             ON k.site_key = d.site_key AND k.id = d.key_id WHERE d.site_key = $1 AND d.at_s >= $2 \
             AND k.subscription IN ({}) GROUP BY k.subscription, d.period",
            marks.join(", ")
        );
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        for row in self.database.query_all_raw(statement).await? {
            let key = (row.try_get("", "subscription")?, row.try_get("", "period")?);
            charges.units.insert(key, row.try_get("", "units")?);
        }
        let sql = "SELECT 1 AS one FROM usage_days WHERE site_key = $1 AND at_s >= $2 LIMIT 1";
        let values: [Value; 2] = [site_key.into(), from_s.into()];
        let row = self.database.query_one_raw(Statement::from_sql_and_values(backend, sql, values));
        charges.has_site = row.await?.is_some();
        Ok(charges)
    }

    /// Begins a day's reconciliation; false where it is done, another control plane is at it, or it failed a while ago.
    pub async fn begin_reconciliation(&self, day: i64) -> StorageResult<bool> {
        let backend = self.database.get_database_backend();
        let forget = "DELETE FROM reconciliations WHERE day < $1";
        let old = [day.saturating_sub(KEPT_DAYS).into()];
        self.database.execute_raw(Statement::from_sql_and_values(backend, forget, old)).await?;
        let sql = "INSERT INTO reconciliations (day, begun_at_ms, retry_at_ms) VALUES ($1, $2, $3) ON CONFLICT (day) DO UPDATE \
                   SET begun_at_ms = excluded.begun_at_ms, retry_at_ms = excluded.retry_at_ms \
                   WHERE reconciliations.ended_at_ms IS NULL AND reconciliations.retry_at_ms <= $2";
        let now_ms = self.world.now_ms();
        let dead_ms = now_ms.saturating_add(DEAD_AFTER_MS);
        self.changes_one(sql, [day.into(), now_ms.into(), dead_ms.into()]).await
    }

    /// Writes down that a day's failed: it is tried again some time later.
    pub async fn put_off_reconciliation(&self, day: i64) -> StorageResult<()> {
        let sql =
            "UPDATE reconciliations SET retry_at_ms = $2 WHERE day = $1 AND ended_at_ms IS NULL";
        let retry_ms = self.world.now_ms().saturating_add(RETRY_AFTER_MS);
        self.changes_one(sql, [day.into(), retry_ms.into()]).await?;
        Ok(())
    }

    /// Writes down what came of a day's.
    pub async fn end_reconciliation(
        &self,
        day: i64,
        checked: i64,
        differences: i64,
    ) -> StorageResult<()> {
        let sql = "UPDATE reconciliations SET ended_at_ms = $2, checked = $3, differences = $4 WHERE day = $1";
        let now_ms = self.world.now_ms();
        self.changes_one(sql, [day.into(), now_ms.into(), checked.into(), differences.into()])
            .await?;
        Ok(())
    }

    /// What came of the last one that ended.
    pub async fn last_reconciliation(&self) -> StorageResult<Option<Reconciled>> {
        let sql = "SELECT ended_at_ms, checked, differences FROM reconciliations WHERE ended_at_ms IS NOT NULL \
                   ORDER BY day DESC LIMIT 1";
        let backend = self.database.get_database_backend();
        let row = self.database.query_one_raw(Statement::from_string(backend, sql)).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Reconciled {
            ended_at_ms: row.try_get("", "ended_at_ms")?,
            checked: row.try_get("", "checked")?,
            differences: row.try_get("", "differences")?,
        }))
    }
}
