//! Forgetting the ledger's accounts of entitlements that ended long ago.
//!
//! In: accounts of subscriptions that were archived. Out: how many are gone.
//! Always holds: an account goes only when its subscription was archived, nobody has reported of it, and all its periods are over, each for
//! [`KEPT_MS`] at least: longer than anything is settled by it (late reports 34 days, overage books 40). A subscription that
//! was archived stays so, and its reference with it, so no entitlement comes back to an account that is gone. A report that comes
//! even then is answered, as for any period that is long over: it counts no more.

use policy::budget::ledger::Account;
use sea_orm::{ConnectionTrait as _, Statement, Value};

use super::error::StorageResult;
use super::{Store, ledger};

/// How long an account is kept after its end, milliseconds.
const KEPT_MS: i64 = 60 * 86_400_000;
/// Accounts looked at in one statement.
const PAGE: u64 = 500;

impl Store {
    /// Forgets accounts that ended long ago, page by page; says how many.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn prune_ledger(&self) -> StorageResult<u64> {
        let before_ms = self.ledger_now_ms().await?.saturating_sub(KEPT_MS);
        let backend = self.database.get_database_backend();
        let sql = format!(
            "SELECT l.entitlement, l.state, l.updated_at_ms FROM ledger_accounts l \
             JOIN entitlement_names n ON n.entitlement = l.entitlement \
             JOIN subscriptions s ON s.key = n.subscription_key \
             WHERE s.archived_at_ms < $1 AND l.updated_at_ms < $1 AND l.entitlement > $2 \
             ORDER BY l.entitlement LIMIT {PAGE}"
        );
        let (mut gone, mut after): (u64, Vec<u8>) = (0, Vec::new());
        loop {
            let values: [Value; 2] = [before_ms.into(), after.clone().into()];
            let page = Statement::from_sql_and_values(backend, sql.as_str(), values);
            let rows = self.database.query_all_raw(page).await?;
            if rows.is_empty() {
                return Ok(gone);
            }
            for row in rows {
                after = row.try_get("", "entitlement")?;
                let account = ledger::read(&row.try_get::<Vec<u8>>("", "state")?)?;
                if !is_over(&account, before_ms.div_euclid(1_000)) {
                    continue;
                }
                // What was reported meanwhile stays.
                let sql =
                    "DELETE FROM ledger_accounts WHERE entitlement = $1 AND updated_at_ms = $2";
                let updated_at_ms: i64 = row.try_get("", "updated_at_ms")?;
                let values: [Value; 2] = [after.clone().into(), updated_at_ms.into()];
                let delete = Statement::from_sql_and_values(backend, sql, values);
                gone += self.database.execute_raw(delete).await?.rows_affected();
            }
        }
    }
}

/// Whether all periods were over at a time.
fn is_over(account: &Account, at_s: i64) -> bool {
    account.current.end_s <= at_s && account.books.iter().all(|books| books.period.end_s <= at_s)
}
