//! Throwing away what only grows: old answers, old entries of the outbox, old entries of the audit log, old checkouts that nobody paid.
//!
//! In: the time, how long the audit log is kept. Out: how much is gone.
//! Always holds: one step deletes at most [`STEP`] rows of a kind and looks at no more of the audit log, so that no change waits long for it;
//! what is deleted is older than was said. Several control planes may do it at once.

use sea_orm::{ConnectionTrait, Statement};

use super::database::Database;
use super::error::StorageResult;
use super::{idempotency, outbox};

/// Rows of a kind that one step deletes at most.
pub const STEP: u64 = 10_000;
/// How long entries of the audit log are kept where nobody says, days.
pub const AUDIT_DAYS_DEFAULT: u32 = 400;
const DAY_MS: i64 = 86_400_000;
/// How long checkouts are kept that expired: anybody can begin one on a public page.
const EXPIRED_KEPT_MS: i64 = 60 * DAY_MS;

/// What one step has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Answers to requests that may be sent again.
    pub answers: u64,
    /// Entries of the outbox.
    pub outbox: u64,
    /// Entries of the audit log.
    pub audit: u64,
    /// Checkouts that nobody paid.
    pub checkouts: u64,
}

impl Pruned {
    /// Whether there may be more.
    #[must_use]
    pub fn has_more(&self) -> bool {
        [self.answers, self.outbox, self.audit, self.checkouts].contains(&STEP)
    }
}

/// One step.
pub(super) async fn step(
    database: &Database,
    now_ms: i64,
    audit_days: u32,
) -> StorageResult<Pruned> {
    Ok(Pruned {
        answers: idempotency::prune(database, now_ms, STEP).await?,
        outbox: outbox::prune(database, now_ms, outbox::KEPT_MIN, STEP).await?,
        audit: audit(database, now_ms, audit_days, STEP).await?,
        checkouts: checkouts(database, now_ms).await?,
    })
}

/// Deletes entries of the audit log that are older than so many days, 0 for none, of all accounts; says how many.
pub(super) async fn audit<C: ConnectionTrait>(
    database: &C,
    now_ms: i64,
    days: u32,
    step: u64,
) -> StorageResult<u64> {
    if days == 0 {
        return Ok(0);
    }
    // By the oldest of the primary key, which is the order of time but for changes that ran at once: no look at the rest of the table.
    let sql = format!(
        "DELETE FROM audit_log WHERE key IN (SELECT key FROM \
         (SELECT key, created_at_ms FROM audit_log ORDER BY key LIMIT {step}) AS oldest WHERE created_at_ms < $1)"
    );
    let before_ms = now_ms.saturating_sub(i64::from(days) * DAY_MS);
    let backend = database.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [before_ms.into()]);
    Ok(database.execute_raw(statement).await?.rows_affected())
}

/// Deletes checkouts that Stripe has said expired, long ago: none of them can be paid any more.
async fn checkouts<C: ConnectionTrait>(database: &C, now_ms: i64) -> StorageResult<u64> {
    let sql = format!(
        "DELETE FROM checkouts WHERE key IN (SELECT key FROM checkouts WHERE status = 'expired' AND created_at_ms < $1 \
         ORDER BY created_at_ms LIMIT {STEP})"
    );
    let before_ms = now_ms.saturating_sub(EXPIRED_KEPT_MS);
    let backend = database.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, [before_ms.into()]);
    Ok(database.execute_raw(statement).await?.rows_affected())
}
