//! Calls to Stripe by what they are for, and the idempotency key of each.
//!
//! In: an account, a purpose, a hash of what is asked for. Out: the key to send, the same for as long as the call is the same.
//! Always holds: a key is in the database before it is sent, so that a call that is made again, by whichever process, is the
//! same call to Stripe; a key that Stripe may have forgotten (after 24 hours) is not told from one that it knows, so callers
//! look first where a repeat would make a second thing.

use sea_orm::{ConnectionTrait as _, QueryResult, Statement};

use super::Store;
use super::error::{StorageError, StorageResult};

/// How long calls are remembered, milliseconds: longer than any flow takes to complete, Stripe away for a day included.
const KEPT_MS: i64 = 35 * 24 * 3_600_000;

/// A call that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeCall {
    /// What is sent as `Idempotency-Key`.
    pub key: String,
    /// When it was begun first, Unix milliseconds.
    pub created_at_ms: i64,
    /// When its answer came; `None` where none has yet.
    pub answered_at_ms: Option<i64>,
    /// The id of what it made.
    pub object_id: Option<String>,
}

/// What came of beginning a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StripeCallBegun {
    /// It was not begun before.
    New(StripeCall),
    /// It was, with the same parameters.
    Known(StripeCall),
    /// It was, with others.
    Changed(StripeCall),
}

/// How long after its attempt an unused grant is tried to be given back.
const GRANTS_KEPT_MS: i64 = 86_400_000;

impl Store {
    /// Stores `key` for a purpose, or finds the one that is stored.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn begin_stripe_call(
        &self,
        account_id: &str,
        purpose: &str,
        request_hash: [u8; 32],
        key: &str,
    ) -> StorageResult<StripeCallBegun> {
        let backend = self.database.get_database_backend();
        let now_ms = self.world.now_ms();
        let insert = Statement::from_sql_and_values(
            backend,
            "INSERT INTO stripe_calls (account_id, purpose, idempotency_key, request_hash, created_at_ms) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            [
                account_id.into(),
                purpose.into(),
                key.into(),
                request_hash.to_vec().into(),
                now_ms.into(),
            ],
        );
        let is_new = self.database.execute_raw(insert).await?.rows_affected() == 1;
        let select = Statement::from_sql_and_values(
            backend,
            "SELECT idempotency_key, request_hash, created_at_ms, answered_at_ms, object_id FROM stripe_calls \
             WHERE account_id = $1 AND purpose = $2",
            [account_id.into(), purpose.into()],
        );
        let row = self.database.query_one_raw(select).await?.ok_or_else(|| {
            StorageError::Unavailable("a call to Stripe came and went".to_owned())
        })?;
        let call = read(&row)?;
        if is_new {
            return Ok(StripeCallBegun::New(call));
        }
        match row.try_get::<Vec<u8>>("", "request_hash")? == request_hash {
            true => Ok(StripeCallBegun::Known(call)),
            false => Ok(StripeCallBegun::Changed(call)),
        }
    }

    /// Keeps that a call was answered, and the id of what it made.
    pub async fn end_stripe_call(
        &self,
        account_id: &str,
        purpose: &str,
        object_id: Option<&str>,
    ) -> StorageResult<()> {
        let update = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "UPDATE stripe_calls SET answered_at_ms = $3, object_id = $4 WHERE account_id = $1 AND purpose = $2",
            [
                account_id.into(),
                purpose.into(),
                self.world.now_ms().into(),
                object_id.map(ToOwned::to_owned).into(),
            ],
        );
        self.database.execute_raw(update).await?;
        Ok(())
    }

    /// Forgets a call, so that the purpose can be called for anew: only after Stripe refused it for good, or its answer no
    /// longer holds.
    pub async fn forget_stripe_call(&self, account_id: &str, purpose: &str) -> StorageResult<()> {
        let delete = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "DELETE FROM stripe_calls WHERE account_id = $1 AND purpose = $2",
            [account_id.into(), purpose.into()],
        );
        self.database.execute_raw(delete).await?;
        Ok(())
    }

    /// Forgets calls and states of OAuth that are old, a bounded number at a time; says how many calls.
    pub(super) async fn prune_stripe(&self) -> StorageResult<u64> {
        let backend = self.database.get_database_backend();
        let now_ms = self.world.now_ms();
        let calls = Statement::from_sql_and_values(
            backend,
            "DELETE FROM stripe_calls WHERE (account_id, purpose) IN \
             (SELECT account_id, purpose FROM stripe_calls WHERE created_at_ms < $1 LIMIT 10000)",
            [(now_ms - KEPT_MS).into()],
        );
        let gone = self.database.execute_raw(calls).await?.rows_affected();
        let states = Statement::from_sql_and_values(
            backend,
            "DELETE FROM stripe_oauth_states WHERE expires_at_ms < $1 AND (give_back_at_ms IS NULL OR expires_at_ms < $2)",
            [now_ms.into(), (now_ms - GRANTS_KEPT_MS).into()],
        );
        self.database.execute_raw(states).await?;
        Ok(gone)
    }
}

fn read(row: &QueryResult) -> StorageResult<StripeCall> {
    Ok(StripeCall {
        key: row.try_get("", "idempotency_key")?,
        created_at_ms: row.try_get("", "created_at_ms")?,
        answered_at_ms: row.try_get("", "answered_at_ms")?,
        object_id: row.try_get("", "object_id")?,
    })
}
