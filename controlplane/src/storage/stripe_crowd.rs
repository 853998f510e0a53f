//! Many subscriptions of one account of Stripe's that wait at once, as when ten thousand renew in the same minute.
//!
//! In: the inbox. Out: [`Crowd`]s, and their jobs in the order in which their subscriptions came to be, which is the order of Stripe's lists.
//! Always holds: what [`super::stripe_inbox`] does: a job is under its subject's lease, and its events are counted as begun.

use std::collections::{BTreeMap, HashMap};

use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::Value as Json;

use super::error::StorageResult;
use super::stripe_inbox::{Job, Whose, begin_jobs, lease_name};
use super::{Store, begin_write};

/// An account of Stripe's of which many subscriptions wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// Our account.
    pub account_id: String,
    /// `test` or `live`.
    pub mode: String,
    /// The connected account.
    pub stripe_account: String,
    /// The number of the last row whose subscription was claimed.
    after_key: i64,
}

/// A job of a crowd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrowdJob {
    /// The job.
    pub job: Job,
    /// The subscription, by its id at Stripe.
    pub stripe_id: String,
    /// When it was made there, Unix seconds; none where that is not known.
    pub created_s: Option<i64>,
}

impl Crowd {
    /// What the names of its leases begin with.
    #[must_use]
    pub fn prefix(&self) -> String {
        lease_name(&self.mode, &self.stripe_account, "subscription/")
    }
}

impl Store {
    /// The account of which most subscriptions wait, if these are so many.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn stripe_crowd(&self, jobs_min: i64) -> StorageResult<Option<Crowd>> {
        let statement = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "SELECT account_id, mode, stripe_account, COUNT(DISTINCT subject) AS subjects FROM stripe_events \
             WHERE state = 'waiting' AND due_at_ms <= $1 AND subject LIKE '%/subscription/%' \
             GROUP BY account_id, mode, stripe_account HAVING COUNT(DISTINCT subject) >= $2 \
             ORDER BY subjects DESC LIMIT 1",
            [self.world.now_ms().into(), jobs_min.into()],
        );
        let Some(row) = self.database.query_one_raw(statement).await? else { return Ok(None) };
        Ok(Some(Crowd {
            account_id: row.try_get("", "account_id")?,
            mode: row.try_get("", "mode")?,
            stripe_account: row.try_get("", "stripe_account")?,
            after_key: 0,
        }))
    }

    /// The next jobs of a crowd, at most `jobs_max`, for `lease_ms` each: subscriptions that are known here, are due, and that nobody has.
    /// Whether there may be more is known by whether there were any.
    pub async fn claim_stripe_crowd(
        &self,
        crowd: &mut Crowd,
        jobs_max: u64,
        lease_ms: i64,
    ) -> StorageResult<Vec<CrowdJob>> {
        let (now_ms, prefix) = (self.world.now_ms(), crowd.prefix());
        let transaction = begin_write(&self.database).await?;
        let statement = Statement::from_sql_and_values(
            transaction.get_database_backend(),
            format!(
                "SELECT known.key, known.stripe_id, known.facts FROM stripe_subscriptions AS known \
                 WHERE known.account_id = $1 AND known.mode = $2 AND known.key > $3 AND EXISTS \
                 (SELECT 1 FROM stripe_events AS waiting WHERE waiting.subject = $4 || known.stripe_id \
                 AND waiting.state = 'waiting' AND waiting.due_at_ms <= $5) AND NOT EXISTS \
                 (SELECT 1 FROM stripe_leases WHERE stripe_leases.name = $4 || known.stripe_id AND stripe_leases.until_ms >= $5) \
                 ORDER BY known.key LIMIT {jobs_max}"
            ),
            [
                crowd.account_id.as_str().into(),
                crowd.mode.as_str().into(),
                crowd.after_key.into(),
                prefix.as_str().into(),
                now_ms.into(),
            ],
        );
        let (mut subjects, mut made) = (BTreeMap::new(), HashMap::new());
        let mut last_key = crowd.after_key;
        for row in transaction.query_all_raw(statement).await? {
            last_key = row.try_get("", "key")?;
            let (stripe_id, facts): (String, String) =
                (row.try_get("", "stripe_id")?, row.try_get("", "facts")?);
            let name = format!("{prefix}{stripe_id}");
            made.insert(name.clone(), (stripe_id, created_s(&facts)));
            let whose = Whose {
                account_id: crowd.account_id.clone(),
                mode: crowd.mode.clone(),
                stripe_account: crowd.stripe_account.clone(),
            };
            subjects.insert(name, whose);
        }
        let jobs = begin_jobs(&transaction, &*self.world, subjects, lease_ms).await?;
        transaction.commit().await?;
        crowd.after_key = last_key;
        let with_time = jobs.into_iter().filter_map(|job| {
            let (stripe_id, created_s) = made.remove(&job.lease.name)?;
            Some(CrowdJob { job, stripe_id, created_s })
        });
        Ok(with_time.collect())
    }
}

/// When a subscription was made, as it was kept.
fn created_s(facts: &str) -> Option<i64> {
    let facts: Json = serde_json::from_str(facts).ok()?;
    facts["created"].as_i64().filter(|at_s| *at_s > 0)
}
