//! Which jobs of the inbox are begun next.
//!
//! In: how many, and beside which crowd. Out: [`Job`]s under their subjects' leases.
//! Always holds: checkouts come before all else, whatever waits longer, since a buyer stands there for the key; all others in the order
//! in which they are due. What a crowd is about to fetch is left to it, and nothing else of its account is.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

use super::database::Transaction;
use super::error::StorageResult;
use super::stripe_inbox::{Job, Whose, begin_jobs};
use super::{Store, begin_write};

/// Events looked through for one subject each, so that a few busy ones hide no others.
const SCAN_FACTOR: u64 = 8;
/// A buyer waits for what this is about. The index `stripe_events_buyers` has these, by the same words.
const OF_BUYERS: &str =
    "waiting.kind IN ('checkout.session.completed', 'checkout.session.async_payment_succeeded')";
/// What a renewal is told by, a sweep that finds it included. Of a subscription of a crowd's account that has anything else, the crowd
/// need not be waited for.
const OF_RENEWALS: &str = "'customer.subscription.updated', 'invoice.upcoming', 'invoice.created', 'invoice.paid', 'invoice.payment_failed', \
     'invoice.payment_action_required', 'payfence.subscription.differs'";

/// How many jobs are to be begun, and which.
#[derive(Clone, Copy, Debug)]
pub struct JobClaim<'a> {
    /// At most so many that nobody stands and waits for.
    pub jobs_max: u64,
    /// At most so many in all.
    pub all_max: u64,
    /// How long each is had, milliseconds.
    pub lease_ms: i64,
    /// What the leases' names of a crowd that is being worked off begin with: its renewals are left to it.
    pub beside: Option<&'a str>,
}

impl Store {
    /// Subjects that are due and that nobody has, at most `jobs_max`, for `lease_ms` each.
    ///
    /// # Errors
    /// When the database cannot be asked: then none is claimed. So for all below.
    pub async fn claim_stripe_jobs(&self, jobs_max: u64, lease_ms: i64) -> StorageResult<Vec<Job>> {
        let claim = JobClaim { jobs_max, all_max: jobs_max, lease_ms, beside: None };
        self.claim_stripe_jobs_of(claim).await
    }

    /// The same as a claim says, checkouts first.
    pub async fn claim_stripe_jobs_of(&self, claim: JobClaim<'_>) -> StorageResult<Vec<Job>> {
        let now_ms = self.world.now_ms();
        let of_others = match claim.beside {
            None => format!("NOT {OF_BUYERS}"),
            Some(prefix) => format!(
                "NOT {OF_BUYERS} AND \
                 (substr(waiting.subject, 1, {}) <> $2 OR waiting.kind NOT IN ({OF_RENEWALS}))",
                prefix.chars().count()
            ),
        };
        let of_buyers = Looked { which: OF_BUYERS, value: None, jobs_max: claim.all_max };
        let others = Looked { which: &of_others, value: claim.beside, jobs_max: claim.jobs_max };
        // Whoever writes keeps all others from it on SQLite, and mostly there is nothing.
        let is_nothing = !of_buyers.is_any(&self.database, now_ms).await?
            && (claim.jobs_max == 0 || !others.is_any(&self.database, now_ms).await?);
        if is_nothing {
            return Ok(Vec::new());
        }
        let transaction = begin_write(&self.database).await?;
        let mut subjects = of_buyers.subjects(&transaction, now_ms).await?;
        let left = claim.all_max.saturating_sub(subjects.len() as u64).min(claim.jobs_max);
        if left > 0 {
            let others = Looked { jobs_max: left, ..others };
            for (subject, whose) in others.subjects(&transaction, now_ms).await? {
                subjects.entry(subject).or_insert(whose);
            }
        }
        let jobs = begin_jobs(&transaction, &*self.world, subjects, claim.lease_ms).await?;
        transaction.commit().await?;
        Ok(jobs)
    }
}

/// That nobody has the subject.
const NOBODYS: &str = "NOT EXISTS (SELECT 1 FROM stripe_leases WHERE stripe_leases.name = waiting.subject \
     AND stripe_leases.until_ms >= $1)";

/// What is looked for.
struct Looked<'a> {
    /// A condition; `$2` in it is the value.
    which: &'a str,
    value: Option<&'a str>,
    jobs_max: u64,
}

impl Looked<'_> {
    fn values(&self, now_ms: i64) -> Vec<Value> {
        let mut values: Vec<Value> = vec![now_ms.into()];
        values.extend(self.value.map(Value::from));
        values
    }

    /// Whether there are any, without writing.
    async fn is_any(&self, connection: &impl ConnectionTrait, now_ms: i64) -> StorageResult<bool> {
        let sql = format!(
            "SELECT 1 AS is_any FROM stripe_events AS waiting \
             WHERE waiting.state = 'waiting' AND waiting.due_at_ms <= $1 AND ({}) AND {NOBODYS} LIMIT 1",
            self.which
        );
        let backend = connection.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, self.values(now_ms));
        Ok(connection.query_one_raw(statement).await?.is_some())
    }

    /// Subjects that are due, those that wait longest.
    async fn subjects(
        &self,
        transaction: &Transaction,
        now_ms: i64,
    ) -> StorageResult<BTreeMap<String, Whose>> {
        let backend = transaction.get_database_backend();
        let lock = match backend {
            DbBackend::Postgres => " FOR UPDATE OF waiting SKIP LOCKED",
            // One writer at a time, which this transaction is.
            _ => "",
        };
        let sql = format!(
            "SELECT waiting.subject, waiting.account_id, waiting.mode, waiting.stripe_account FROM stripe_events AS waiting \
             WHERE waiting.state = 'waiting' AND waiting.due_at_ms <= $1 AND ({}) AND {NOBODYS} \
             ORDER BY waiting.due_at_ms, waiting.key LIMIT {}{lock}",
            self.which,
            self.jobs_max.saturating_mul(SCAN_FACTOR)
        );
        let statement = Statement::from_sql_and_values(backend, sql, self.values(now_ms));
        let mut subjects = BTreeMap::new();
        for row in transaction.query_all_raw(statement).await? {
            if (subjects.len() as u64) < self.jobs_max {
                let whose = Whose {
                    account_id: row.try_get("", "account_id")?,
                    mode: row.try_get("", "mode")?,
                    stripe_account: row.try_get("", "stripe_account")?,
                };
                subjects.insert(row.try_get("", "subject")?, whose);
            }
        }
        Ok(subjects)
    }
}
