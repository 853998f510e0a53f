//! Attempts to connect an account by OAuth, from the wish until what came of it.
//!
//! In: a hash of a state, who began it, the browser that went on with it. Out: the attempt, for as long as it is good; grants that came to
//! nothing.
//! Always holds: neither a state nor what a browser shows is kept as text; the first browser that goes on is the only one; that an
//! attempt has come to its end is written in the transaction that writes the account, and until then what Stripe granted is to be given back.

use sea_orm::{ConnectionTrait as _, QueryResult, Statement};

use super::Store;
use super::change::Change;
use super::error::StorageResult;

/// An attempt to connect an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthState {
    /// The account.
    pub account_id: String,
    /// The admin key.
    pub actor_id: String,
    /// `test` or `live`.
    pub mode: String,
    /// The SHA-256 of what the browser shows that went on with it; `None` before any did.
    pub browser_hash: Option<Vec<u8>>,
    /// The account of Stripe's that it connected; `None` before.
    pub stripe_id: Option<String>,
    /// The account of Stripe's for which its owner agreed; `None` before its code was redeemed.
    pub granted_id: Option<String>,
}

/// What was granted and not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedGrant {
    /// The attempt.
    pub state_hash: Vec<u8>,
    /// `test` or `live`.
    pub mode: String,
    /// The account of Stripe's.
    pub granted_id: String,
}

impl Store {
    /// Keeps that somebody began to connect an account.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn keep_oauth_state(
        &self,
        hash: &[u8; 32],
        state: &OauthState,
        expires_at_ms: i64,
    ) -> StorageResult<()> {
        let insert = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "INSERT INTO stripe_oauth_states (state_hash, account_id, actor_id, mode, expires_at_ms) \
             VALUES ($1, $2, $3, $4, $5)",
            [
                hash.to_vec().into(),
                state.account_id.as_str().into(),
                state.actor_id.as_str().into(),
                state.mode.as_str().into(),
                expires_at_ms.into(),
            ],
        );
        self.database.execute_raw(insert).await?;
        Ok(())
    }

    /// The attempt of this state; `None` where there is none, or it has expired.
    pub async fn oauth_state(&self, hash: &[u8; 32]) -> StorageResult<Option<OauthState>> {
        let select = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "SELECT account_id, actor_id, mode, browser_hash, stripe_id, granted_id FROM stripe_oauth_states \
             WHERE state_hash = $1 AND expires_at_ms > $2",
            [hash.to_vec().into(), self.world.now_ms().into()],
        );
        let Some(row) = self.database.query_one_raw(select).await? else { return Ok(None) };
        Ok(Some(OauthState {
            account_id: row.try_get("", "account_id")?,
            actor_id: row.try_get("", "actor_id")?,
            mode: row.try_get("", "mode")?,
            browser_hash: row.try_get("", "browser_hash")?,
            stripe_id: row.try_get("", "stripe_id")?,
            granted_id: row.try_get("", "granted_id")?,
        }))
    }

    /// Makes the attempt one of this browser's, where no other one has gone on with it; says whether it is.
    pub async fn bind_oauth_state(
        &self,
        hash: &[u8; 32],
        browser_hash: &[u8; 32],
    ) -> StorageResult<bool> {
        let update = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "UPDATE stripe_oauth_states SET browser_hash = $2 \
             WHERE state_hash = $1 AND (browser_hash IS NULL OR browser_hash = $2)",
            [hash.to_vec().into(), browser_hash.to_vec().into()],
        );
        Ok(self.database.execute_raw(update).await?.rows_affected() == 1)
    }

    /// Keeps what Stripe granted to an attempt: to be given back when that is over, unless it has connected the account.
    pub async fn keep_oauth_grant(&self, hash: &[u8; 32], granted_id: &str) -> StorageResult<()> {
        let update = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "UPDATE stripe_oauth_states SET granted_id = $2, give_back_at_ms = expires_at_ms WHERE state_hash = $1 AND stripe_id IS NULL",
            [hash.to_vec().into(), granted_id.into()],
        );
        self.database.execute_raw(update).await?;
        Ok(())
    }

    /// Says when what Stripe granted to an attempt is to be given back (again); `None` where it need not be any more.
    pub async fn give_oauth_grant_back(
        &self,
        hash: &[u8],
        at_ms: Option<i64>,
    ) -> StorageResult<()> {
        let update = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "UPDATE stripe_oauth_states SET give_back_at_ms = $2 \
             WHERE state_hash = $1 AND granted_id IS NOT NULL AND stripe_id IS NULL AND give_back_at_ms IS NOT NULL",
            [hash.to_vec().into(), at_ms.into()],
        );
        self.database.execute_raw(update).await?;
        Ok(())
    }

    /// Grants that are to be given back by now, at most `rows_max`.
    pub async fn unused_oauth_grants(&self, rows_max: u64) -> StorageResult<Vec<UnusedGrant>> {
        let select = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            format!(
                "SELECT state_hash, mode, granted_id FROM stripe_oauth_states \
                 WHERE give_back_at_ms <= $1 AND stripe_id IS NULL AND granted_id IS NOT NULL ORDER BY give_back_at_ms LIMIT {rows_max}"
            ),
            [self.world.now_ms().into()],
        );
        let rows = self.database.query_all_raw(select).await?;
        let read = |row: &QueryResult| {
            Ok(UnusedGrant {
                state_hash: row.try_get("", "state_hash")?,
                mode: row.try_get("", "mode")?,
                granted_id: row.try_get("", "granted_id")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Gives an attempt up.
    pub async fn drop_oauth_state(&self, hash: &[u8; 32]) -> StorageResult<()> {
        let expire = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "UPDATE stripe_oauth_states SET expires_at_ms = $2, give_back_at_ms = $2 \
             WHERE state_hash = $1 AND granted_id IS NOT NULL AND stripe_id IS NULL",
            [hash.to_vec().into(), self.world.now_ms().into()],
        );
        if self.database.execute_raw(expire).await?.rows_affected() > 0 {
            return Ok(());
        }
        let delete = Statement::from_sql_and_values(
            self.database.get_database_backend(),
            "DELETE FROM stripe_oauth_states WHERE state_hash = $1",
            [hash.to_vec().into()],
        );
        self.database.execute_raw(delete).await?;
        Ok(())
    }
}

impl Change {
    /// Writes with the change that an attempt has connected its account.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn end_oauth_state(&self, hash: &[u8; 32], stripe_id: &str) -> StorageResult<()> {
        let update = Statement::from_sql_and_values(
            self.transaction.get_database_backend(),
            "UPDATE stripe_oauth_states SET stripe_id = $2, give_back_at_ms = NULL WHERE state_hash = $1",
            [hash.to_vec().into(), stripe_id.into()],
        );
        self.transaction.execute_raw(update).await?;
        Ok(())
    }
}
