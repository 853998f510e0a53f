//! Forgetting what is kept no longer.
//!
//! In: how much is kept. Out: rows that are gone.
//! Always holds: a step takes away some thousands of rows, and holds up writers no longer than that; the newest rows stay.

use sea_orm::{ConnectionTrait as _, Statement, Value};

use super::{DAY_MS, Retention};
use crate::storage::Store;
use crate::storage::error::StorageResult;

/// Rows of a step, unless more were decided in the same microsecond, minute or day.
const STEP: i64 = 5_000;
/// Sites looked at at once.
const SITES: i64 = 500;
/// Streams of a node whose positions stay, however old; as many as a node itself remembers.
const STREAMS_KEPT: i64 = 4_096;

impl Store {
    /// Forgets decisions of a site past the number or the age that is kept; says how many.
    ///
    /// # Errors
    /// When the database cannot be asked; what is gone is gone. So for all below.
    pub async fn prune_decisions(&self, site: i64, kept: &Retention) -> StorageResult<u64> {
        let oldest_us = self.oldest_ms(kept.decisions_ms).saturating_mul(1_000);
        let sql = "SELECT time_us AS at FROM decisions WHERE site_key = $1 ORDER BY time_us DESC LIMIT 1 OFFSET $2";
        let kept_rows = i64::try_from(kept.decisions).unwrap_or(i64::MAX);
        let surplus_us = self.one_number(sql, &[site, kept_rows]).await?;
        let before_us =
            surplus_us.map_or(oldest_us, |at_us| oldest_us.max(at_us.saturating_add(1)));
        self.forget("decisions", "time_us", site, before_us).await
    }

    /// Forgets minutes and days of a site that are too old, and whose use they were; says how many rows.
    pub async fn prune_usage(&self, site: i64, kept: &Retention) -> StorageResult<u64> {
        let minute_s = self.oldest_ms(kept.minutes_ms).div_euclid(60_000) * 60;
        let day_s = self.oldest_ms(kept.days_ms).div_euclid(DAY_MS) * (DAY_MS / 1_000);
        let minutes = self.forget("usage_minutes", "at_s", site, minute_s).await?;
        let days = self.forget("usage_days", "at_s", site, day_s).await?;
        // A day longer: what is still counted by minute is of a day that is kept.
        let old = "DELETE FROM usage_keys WHERE site_key = $1 AND used_at_s < $2";
        let backend = self.database.get_database_backend();
        let used_s = day_s.min(minute_s).saturating_sub(DAY_MS / 1_000);
        let values: [Value; 2] = [site.into(), used_s.into()];
        let done =
            self.database.execute_raw(Statement::from_sql_and_values(backend, old, values)).await?;
        Ok(minutes + days + done.rows_affected())
    }

    /// Forgets where streams of long ago were, of which a node has nothing any more.
    pub async fn prune_positions(&self, kept: &Retention) -> StorageResult<u64> {
        let backend = self.database.get_database_backend();
        let sql = "DELETE FROM decision_positions WHERE updated_at_ms < $1 AND updated_at_ms < COALESCE((SELECT newer.updated_at_ms \
            FROM decision_positions newer WHERE newer.node_key = decision_positions.node_key \
            ORDER BY newer.updated_at_ms DESC LIMIT 1 OFFSET $2), 0)";
        let oldest_ms = self.oldest_ms(kept.decisions_ms.max(kept.minutes_ms));
        let values: [Value; 2] = [oldest_ms.into(), (STREAMS_KEPT - 1).into()];
        let done =
            self.database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(done.rows_affected())
    }

    /// Numbers of sites after one, archived ones too; none where there are no more.
    pub async fn site_keys_after(&self, after: i64) -> StorageResult<Vec<i64>> {
        let sql = format!("SELECT key FROM sites WHERE key > $1 ORDER BY key LIMIT {SITES}");
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, [after.into()]);
        let rows = self.database.query_all_raw(statement).await?;
        rows.iter().map(|row| Ok(row.try_get("", "key")?)).collect()
    }

    fn oldest_ms(&self, kept_ms: i64) -> i64 {
        self.world.now_ms().saturating_sub(kept_ms)
    }

    /// Deletes a site's rows whose `column` is less than `before`, oldest first.
    async fn forget(
        &self,
        table: &str,
        column: &str,
        site: i64,
        before: i64,
    ) -> StorageResult<u64> {
        let backend = self.database.get_database_backend();
        let look = format!(
            "SELECT {column} AS at FROM {table} WHERE site_key = $1 AND {column} < $2 ORDER BY {column} LIMIT 1 OFFSET $3"
        );
        let delete = format!("DELETE FROM {table} WHERE site_key = $1 AND {column} < $2");
        let mut gone = 0;
        loop {
            let end = self.one_number(&look, &[site, before, STEP]).await?;
            // At least the oldest moment, so that every step gets on.
            let until = end.map_or(before, |end| end.saturating_add(1).min(before));
            let values: [Value; 2] = [site.into(), until.into()];
            let statement = Statement::from_sql_and_values(backend, &delete, values);
            gone += self.database.execute_raw(statement).await?.rows_affected();
            if end.is_none() {
                return Ok(gone);
            }
        }
    }

    async fn one_number(&self, sql: &str, values: &[i64]) -> StorageResult<Option<i64>> {
        let backend = self.database.get_database_backend();
        let values = values.iter().map(|value| Value::from(*value));
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let row = self.database.query_one_raw(statement).await?;
        row.map(|row| Ok(row.try_get("", "at")?)).transpose()
    }
}
