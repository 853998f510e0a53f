//! Requests for keys of free plans, from the wish until whoever has the address redeems the link that was sent there.
//!
//! In: a plan and an address, the hash of a link. Out: the request, for as long as it is good.
//! Always holds: one row for a plan and an address, gone some days after it was last asked for; no link is kept as text; nothing of it is in
//! the audit log, which strangers could fill; a link is spent in the transaction that makes its key.

use sea_orm::{ConnectionTrait as _, Statement, Value};

use super::Store;
use super::change::Change;
use super::error::StorageResult;

/// Old ones that one step deletes at most.
const PRUNE_STEP: u64 = 10_000;

/// What a link is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeRequest {
    /// The account that owns the plan.
    pub account_id: String,
    /// The plan.
    pub plan_id: String,
    /// The address, in lower case.
    pub email: String,
    /// Until when the link is good, Unix milliseconds.
    pub link_until_ms: i64,
}

/// When an address was last asked of to be sent a link, and by which event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeAsked {
    /// When, Unix milliseconds.
    pub asked_at_ms: i64,
    /// The event that its mail goes with; `None` once its link is spent.
    pub event_id: Option<String>,
}

impl Store {
    /// The request whose newest link has this hash; `None` where there is none, or it is over.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn free_request_of_link(
        &self,
        hash: &[u8; 32],
    ) -> StorageResult<Option<FreeRequest>> {
        let select = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "SELECT account_id, plan_id, email, link_until_ms FROM free_requests \
             WHERE link_hash = $1 AND link_until_ms > $2",
            [hash.to_vec().into(), self.world.now_ms().into()],
        );
        let Some(row) = self.database.query_one_raw(select).await? else { return Ok(None) };
        Ok(Some(FreeRequest {
            account_id: row.try_get("", "account_id")?,
            plan_id: row.try_get("", "plan_id")?,
            email: row.try_get("", "email")?,
            link_until_ms: row.try_get("", "link_until_ms")?,
        }))
    }

    /// Makes a link the one of a request, as its mail is written; whether the request waits for this mail still.
    pub async fn keep_free_link(
        &self,
        event_id: &str,
        hash: &[u8],
        until_ms: i64,
    ) -> StorageResult<bool> {
        let sql = "UPDATE free_requests SET link_hash = $2, link_until_ms = $3, until_ms = $3 WHERE event_id = $1 AND until_ms > $4";
        let values: [Value; 4] =
            [event_id.into(), hash.to_vec().into(), until_ms.into(), self.world.now_ms().into()];
        self.changes_one(sql, values).await
    }

    /// Forgets requests that are over, a bounded number at a time.
    pub(super) async fn prune_free_requests(&self) -> StorageResult<()> {
        let sql = format!(
            "DELETE FROM free_requests WHERE (plan_id, email) IN \
             (SELECT plan_id, email FROM free_requests WHERE until_ms <= $1 LIMIT {PRUNE_STEP})"
        );
        let backend = self.database.get_database_backend();
        let values = [self.world.now_ms().into()];
        self.database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(())
    }
}

impl Change {
    /// When an address last asked for a plan, as far as it is known still.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn free_asked(&self, plan_id: &str, email: &str) -> StorageResult<Option<FreeAsked>> {
        let select = Statement::from_sql_and_values(
            self.transaction.get_database_backend(),
            "SELECT asked_at_ms, event_id FROM free_requests WHERE plan_id = $1 AND email = $2",
            [plan_id.into(), email.into()],
        );
        let Some(row) = self.transaction.query_one_raw(select).await? else { return Ok(None) };
        let (asked_at_ms, event_id) =
            (row.try_get("", "asked_at_ms")?, row.try_get("", "event_id")?);
        Ok(Some(FreeAsked { asked_at_ms, event_id }))
    }

    /// How many addresses asked for a plan after a time, and the earliest of these times.
    pub async fn free_asked_since(
        &self,
        plan_id: &str,
        since_ms: i64,
    ) -> StorageResult<(i64, Option<i64>)> {
        let select = Statement::from_sql_and_values(
            self.transaction.get_database_backend(),
            "SELECT count(*) AS count, min(asked_at_ms) AS first_ms FROM free_requests WHERE plan_id = $1 AND asked_at_ms > $2",
            [plan_id.into(), since_ms.into()],
        );
        let Some(row) = self.transaction.query_one_raw(select).await? else { return Ok((0, None)) };
        Ok((row.try_get("", "count")?, row.try_get("", "first_ms")?))
    }

    /// Keeps that an address asked for a plan now. A link that was sent before stays good until another is written.
    pub async fn keep_free_request(
        &self,
        plan_id: &str,
        email: &str,
        event_id: &str,
        until_ms: i64,
    ) -> StorageResult<()> {
        let insert = Statement::from_sql_and_values(
            self.transaction.get_database_backend(),
            "INSERT INTO free_requests (plan_id, email, account_id, event_id, asked_at_ms, until_ms) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (plan_id, email) DO UPDATE SET event_id = excluded.event_id, asked_at_ms = excluded.asked_at_ms, \
             until_ms = excluded.until_ms",
            [
                plan_id.into(),
                email.into(),
                self.account_id.as_str().into(),
                event_id.into(),
                self.now_ms.into(),
                until_ms.into(),
            ],
        );
        self.transaction.execute_raw(insert).await?;
        Ok(())
    }

    /// Spends a link with the change; whether it was good still. When it was asked for stays for `kept_ms`, since that bounds mails.
    pub async fn spend_free_link(&self, hash: &[u8; 32], kept_ms: i64) -> StorageResult<bool> {
        let update = Statement::from_sql_and_values(
            self.transaction.get_database_backend(),
            "UPDATE free_requests SET link_hash = NULL, link_until_ms = NULL, event_id = NULL, until_ms = asked_at_ms + $3 \
             WHERE link_hash = $1 AND link_until_ms > $2",
            [hash.to_vec().into(), self.now_ms.into(), kept_ms.into()],
        );
        Ok(self.transaction.execute_raw(update).await?.rows_affected() == 1)
    }
}
