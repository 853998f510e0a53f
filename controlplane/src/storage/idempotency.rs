//! Answers kept for requests that are sent again.
//!
//! In: a key that the client chose and a hash of its request. Out: a claim on the key, or the answer that was given.
//! Always holds: the key is taken and the answer kept in the transaction of the change itself, so there is neither a
//! change without an answer nor an answer without a change; of two requests at once the second waits for the first.

use sea_orm::{ConnectionTrait, Statement};

use super::database::Transaction;
use super::error::{StorageError, StorageResult};

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
            "SELECT request_hash, status, body, etag, location FROM idempotency_keys \
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
