//! Answers kept for requests that are sent again.
//!
//! In: a key that the client chose and a hash of its request. Out: a claim on the key, or the answer that was given.
//! Always holds: the key is taken and the answer kept in the transaction of the change itself, so there is neither a
//! change without an answer nor an answer without a change; of two requests at once the second waits for the first.
//!
//! Work that is no one transaction, since Stripe is asked in between, takes its key before ([`Store::begin_work`]) and gives it back or
//! an answer after ([`Store::end_work`]); whoever dies in between holds it for [`WORK_MS`], and the next goes on where it was.

use sea_orm::{ConnectionTrait, Statement};

use super::database::Transaction;
use super::error::{StorageError, StorageResult};
use super::{IdempotencyKey, Store, begin_write};

/// How long work that took a key is believed to run, milliseconds: longer than any request may.
const WORK_MS: i64 = 40_000;
/// How long an answer is kept, milliseconds.
pub const KEPT_MS: i64 = 24 * 3_600_000;

/// An answer as it is given again: without any secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The status.
    pub status: u16,
    /// The JSON body.
    pub body: String,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Location`.
    pub location: Option<String>,
}

/// What came of claiming a key.
#[derive(Debug)]
pub(super) enum Claimed {
    /// It was free.
    New(Claim),
    /// The same request was answered before.
    Answered(StoredAnswer),
    /// Another request was.
    Other,
    /// The same request is being worked on, since when.
    Running(i64),
}

/// What came of beginning work.
#[derive(Debug)]
pub enum WorkBegun {
    /// It is the caller's.
    New(Work),
    /// The same request was answered before; this is the answer.
    Answered(StoredAnswer),
    /// The key was used for another request.
    KeyReused,
    /// Somebody else is at the same request.
    Running,
}

/// Work that holds a key.
#[derive(Debug)]
pub struct Work {
    account_id: String,
    key: String,
    taken_at_ms: i64,
}

/// What becomes of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkEnd {
    /// The work is not done again: this is its answer.
    Answer(StoredAnswer),
    /// The same request does the work anew, and no other request has the key.
    Anew,
    /// Nothing was done; the key is free.
    Refused,
}

/// A key that this change has taken.
#[derive(Debug)]
pub(super) struct Claim {
    account_id: String,
    key: String,
}

impl Claim {
    /// Takes `key`, waiting for whoever is about to.
    pub(super) async fn take(
        account_id: &str,
        key: &str,
        request_hash: [u8; 32],
        now_ms: i64,
        transaction: &Transaction,
    ) -> StorageResult<Claimed> {
        let backend = transaction.get_database_backend();
        let old = Statement::from_sql_and_values(
            backend,
            "DELETE FROM idempotency_keys WHERE account_id = $1 AND idempotency_key = $2 AND created_at_ms < $3",
            [account_id.into(), key.into(), (now_ms - KEPT_MS).into()],
        );
        transaction.execute_raw(old).await?;
        let insert = Statement::from_sql_and_values(
            backend,
            "INSERT INTO idempotency_keys (account_id, idempotency_key, request_hash, status, body, created_at_ms) \
             VALUES ($1, $2, $3, 0, '', $4) ON CONFLICT DO NOTHING",
            [account_id.into(), key.into(), request_hash.to_vec().into(), now_ms.into()],
        );
        if transaction.execute_raw(insert).await?.rows_affected() == 1 {
            let claim = Self { account_id: account_id.to_owned(), key: key.to_owned() };
            return Ok(Claimed::New(claim));
        }
        let select = Statement::from_sql_and_values(
            backend,
            "SELECT request_hash, status, body, etag, location, created_at_ms FROM idempotency_keys \
             WHERE account_id = $1 AND idempotency_key = $2",
            [account_id.into(), key.into()],
        );
        // It can only be gone if it was pruned this very moment.
        let row = transaction.query_one_raw(select).await?.ok_or_else(|| {
            StorageError::Unavailable("an idempotency key came and went".to_owned())
        })?;
        if row.try_get::<Vec<u8>>("", "request_hash")? != request_hash {
            return Ok(Claimed::Other);
        }
        if row.try_get::<i64>("", "status")? == 0 {
            return Ok(Claimed::Running(row.try_get("", "created_at_ms")?));
        }
        Ok(Claimed::Answered(StoredAnswer {
            status: u16::try_from(row.try_get::<i64>("", "status")?).unwrap_or(200),
            body: row.try_get("", "body")?,
            etag: row.try_get("", "etag")?,
            location: row.try_get("", "location")?,
        }))
    }

    /// Keeps the answer.
    pub(super) async fn answer(
        &self,
        answer: &StoredAnswer,
        transaction: &Transaction,
    ) -> StorageResult<()> {
        let statement = Statement::from_sql_and_values(
            transaction.get_database_backend(),
            "UPDATE idempotency_keys SET status = $3, body = $4, etag = $5, location = $6 \
             WHERE account_id = $1 AND idempotency_key = $2",
            [
                self.account_id.as_str().into(),
                self.key.as_str().into(),
                i64::from(answer.status).into(),
                answer.body.as_str().into(),
                answer.etag.clone().into(),
                answer.location.clone().into(),
            ],
        );
        transaction.execute_raw(statement).await?;
        Ok(())
    }
}

impl Store {
    /// Takes a key for work that is no one transaction.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn begin_work(
        &self,
        account_id: &str,
        key: &IdempotencyKey,
    ) -> StorageResult<WorkBegun> {
        let transaction = begin_write(&self.database).await?;
        let now_ms = self.world.now_ms();
        let work = |taken_at_ms| Work {
            account_id: account_id.to_owned(),
            key: key.key.clone(),
            taken_at_ms,
        };
        let hash = key.request_hash;
        let begun = match Claim::take(account_id, &key.key, hash, now_ms, &transaction).await? {
            Claimed::New(_) => WorkBegun::New(work(now_ms)),
            Claimed::Answered(answer) => return Ok(WorkBegun::Answered(answer)),
            Claimed::Other => return Ok(WorkBegun::KeyReused),
            Claimed::Running(since_ms) if since_ms > now_ms - WORK_MS => {
                return Ok(WorkBegun::Running);
            }
            Claimed::Running(since_ms) => {
                let sql = "UPDATE idempotency_keys SET created_at_ms = $3 \
                           WHERE account_id = $1 AND idempotency_key = $2 AND status = 0 AND created_at_ms = $4";
                let values =
                    [account_id.into(), key.key.as_str().into(), now_ms.into(), since_ms.into()];
                let backend = transaction.get_database_backend();
                let take = Statement::from_sql_and_values(backend, sql, values);
                if transaction.execute_raw(take).await?.rows_affected() != 1 {
                    return Ok(WorkBegun::Running);
                }
                WorkBegun::New(work(now_ms))
            }
        };
        transaction.commit().await?;
        Ok(begun)
    }

    /// Says what became of work, where it holds its key still.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn end_work(&self, work: &Work, end: WorkEnd) -> StorageResult<()> {
        let mut values: Vec<sea_orm::Value> = vec![
            work.account_id.as_str().into(),
            work.key.as_str().into(),
            work.taken_at_ms.into(),
        ];
        let of_this =
            "account_id = $1 AND idempotency_key = $2 AND created_at_ms = $3 AND status = 0";
        let sql = match end {
            WorkEnd::Answer(answer) => {
                values.extend([
                    i64::from(answer.status).into(),
                    answer.body.into(),
                    answer.etag.into(),
                    answer.location.into(),
                ]);
                "UPDATE idempotency_keys SET status = $4, body = $5, etag = $6, location = $7 WHERE "
            }
            WorkEnd::Anew => {
                values.push(work.taken_at_ms.saturating_sub(WORK_MS).into());
                "UPDATE idempotency_keys SET created_at_ms = $4 WHERE "
            }
            WorkEnd::Refused => "DELETE FROM idempotency_keys WHERE ",
        };
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, format!("{sql}{of_this}"), values);
        self.database.execute_raw(statement).await?;
        Ok(())
    }
}

/// Forgets answers that are older than [`KEPT_MS`], a bounded number at a time; says how many.
pub(super) async fn prune<C: ConnectionTrait>(
    database: &C,
    now_ms: i64,
    step: u64,
) -> StorageResult<u64> {
    let statement = Statement::from_sql_and_values(
        database.get_database_backend(),
        format!(
            "DELETE FROM idempotency_keys WHERE (account_id, idempotency_key) IN \
             (SELECT account_id, idempotency_key FROM idempotency_keys WHERE created_at_ms < $1 LIMIT {step})"
        ),
        [(now_ms - KEPT_MS).into()],
    );
    Ok(database.execute_raw(statement).await?.rows_affected())
}
