//! Deliveries of webhooks, taken up by whichever control plane comes first.
//!
//! In: what is due, what came of an attempt. Out: deliveries with their endpoints and events.
//! Always holds: a delivery that is taken is nobody else's until its lease is over, which is written in the statement that
//! takes it; what came of an attempt is written only where no later attempt has begun. These rows record what
//! happened, so no audit entry is written for them.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, Statement, Value,
};

use super::error::StorageResult;
use super::rows::{Entity, EventRecord, WebhookDelivery, WebhookEndpoint, column};
use super::{Change, Store};

/// Events, deliveries and mails are kept this long after they were made, milliseconds.
const KEPT_MS: i64 = 30 * 86_400_000;
/// Rows forgotten in one statement.
const PRUNE_BATCH: u64 = 5_000;
/// Due deliveries looked at when some are taken.
const DUE_MAX: u64 = 2_000;

/// A delivery that was taken.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// The delivery; `attempts` counts the one that begins.
    pub delivery: WebhookDelivery,
    /// Where it goes.
    pub endpoint: WebhookEndpoint,
    /// What it tells.
    pub event: EventRecord,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// `pending`, `delivered` or `failed`.
    pub status: &'static str,
    /// When it is tried again.
    pub next_at_ms: Option<i64>,
    /// The answer's status.
    pub answer_status: Option<i64>,
    /// Why it did not go well.
    pub error: Option<String>,
}

/// Which deliveries to take.
#[derive(Clone, Debug)]
pub struct Take<'a> {
    /// At most so many.
    pub count: u64,
    /// Of one endpoint at most so many.
    pub per_endpoint: u64,
    /// None of these endpoints.
    pub except: &'a [String],
    /// For so long, milliseconds.
    pub lease_ms: i64,
}

impl Store {
    /// Takes deliveries that are due, the longest due first.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn take_deliveries(&self, take: &Take<'_>) -> StorageResult<Vec<DueDelivery>> {
        let now_ms = self.world.now_ms();
        let mut values: Vec<Value> =
            vec![now_ms.into(), now_ms.saturating_add(take.lease_ms).into()];
        let marks: Vec<String> = (1..=take.except.len()).map(|at| format!("${}", at + 2)).collect();
        values.extend(take.except.iter().map(|id| id.as_str().into()));
        let except = match marks.is_empty() {
            true => String::new(),
            false => format!("AND endpoint_id NOT IN ({})", marks.join(", ")),
        };
        let (count, place_max) = (take.count, take.per_endpoint);
        // Whoever waits for the same row here finds it taken: the outer condition is looked at again.
        let sql = format!(
            "UPDATE webhook_deliveries SET attempts = attempts + 1, next_at_ms = $2, updated_at_ms = $1 \
             WHERE next_at_ms <= $1 AND key IN (SELECT key FROM (SELECT key, next_at_ms, row_number() OVER \
             (PARTITION BY endpoint_id ORDER BY next_at_ms, key) AS place FROM (SELECT key, endpoint_id, next_at_ms \
             FROM webhook_deliveries WHERE next_at_ms <= $1 {except} ORDER BY next_at_ms, key LIMIT {DUE_MAX}) AS due) \
             AS placed WHERE place <= {place_max} ORDER BY next_at_ms, key LIMIT {count}) RETURNING key"
        );
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let rows = self.database.query_all_raw(statement).await?;
        let keys: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get("", "key")).collect();
        self.whole_deliveries(keys?).await
    }

    async fn whole_deliveries(&self, keys: Vec<i64>) -> StorageResult<Vec<DueDelivery>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let query =
            Entity::<WebhookDelivery>::find().filter(column::WebhookDelivery::Key.is_in(keys));
        let deliveries = query.all(&self.database).await?;
        let ids =
            |id: fn(&WebhookDelivery) -> &String| deliveries.iter().map(id).collect::<Vec<_>>();
        let endpoints = Entity::<WebhookEndpoint>::find()
            .filter(column::WebhookEndpoint::Id.is_in(ids(|row| &row.endpoint_id)))
            .all(&self.database)
            .await?;
        let events = Entity::<EventRecord>::find()
            .filter(column::EventRecord::Id.is_in(ids(|row| &row.event_id)))
            .all(&self.database)
            .await?;
        let due = deliveries.into_iter().filter_map(|delivery| {
            let endpoint = endpoints.iter().find(|row| row.id == delivery.endpoint_id)?.clone();
            let event = events.iter().find(|row| row.id == delivery.event_id)?.clone();
            Some(DueDelivery { delivery, endpoint, event })
        });
        Ok(due.collect())
    }

    /// Writes down what came of an attempt, unless another has begun since.
    pub async fn delivery_attempted(
        &self,
        delivery: &WebhookDelivery,
        attempted: &Attempted,
    ) -> StorageResult<bool> {
        let now_ms = self.world.now_ms();
        let ended_at_ms = attempted.next_at_ms.is_none().then_some(now_ms);
        let sql = "UPDATE webhook_deliveries SET status = $3, next_at_ms = $4, answer_status = $5, error = $6, \
                   ended_at_ms = $7, updated_at_ms = $8, version = version + 1 \
                   WHERE key = $1 AND attempts = $2 AND status = 'pending'";
        let values: [Value; 8] = [
            delivery.key.into(),
            delivery.attempts.into(),
            attempted.status.into(),
            attempted.next_at_ms.into(),
            attempted.answer_status.into(),
            attempted.error.clone().into(),
            ended_at_ms.into(),
            now_ms.into(),
        ];
        self.changes_one(sql, values).await
    }

    /// Notes that an endpoint took something, or did not: since when it fails.
    pub async fn endpoint_answered(
        &self,
        endpoint: &WebhookEndpoint,
        is_well: bool,
    ) -> StorageResult<()> {
        if is_well && endpoint.failing_since_ms.is_none() {
            return Ok(());
        }
        let (sql, values): (_, Vec<Value>) = if is_well {
            (
                "UPDATE webhook_endpoints SET failing_since_ms = NULL WHERE key = $1",
                vec![endpoint.key.into()],
            )
        } else {
            let sql = "UPDATE webhook_endpoints SET failing_since_ms = $2 WHERE key = $1 AND failing_since_ms IS NULL";
            (sql, vec![endpoint.key.into(), self.world.now_ms().into()])
        };
        let backend = self.database.get_database_backend();
        self.database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(())
    }

    /// Endpoints that are to be turned off, with why: account, id, reason. Nothing went well since `failing_since_ms`, or
    /// more than `waiting_max` deliveries wait.
    pub async fn failing_endpoints(
        &self,
        failing_since_ms: i64,
        waiting_max: i64,
    ) -> StorageResult<Vec<(String, String, &'static str)>> {
        const LONG: &str = "nothing could be delivered for three days";
        const MANY: &str = "too many deliveries were waiting";
        let sql = "SELECT account_id, id, 0 AS many FROM webhook_endpoints WHERE disabled_at_ms IS NULL \
                   AND archived_at_ms IS NULL AND failing_since_ms <= $1 UNION ALL \
                   SELECT account_id, id, 1 AS many FROM webhook_endpoints WHERE disabled_at_ms IS NULL AND id IN \
                   (SELECT endpoint_id FROM webhook_deliveries WHERE next_at_ms IS NOT NULL GROUP BY endpoint_id \
                   HAVING count(*) > $2)";
        let values: [Value; 2] = [failing_since_ms.into(), waiting_max.into()];
        let backend = self.database.get_database_backend();
        let mut found = Vec::new();
        for row in self
            .database
            .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
            .await?
        {
            let many: i32 = row.try_get("", "many")?;
            let reason = if many == 0 { LONG } else { MANY };
            found.push((row.try_get("", "account_id")?, row.try_get("", "id")?, reason));
        }
        Ok(found)
    }

    /// Forgets events with their deliveries and mails, and what crossed its quota, a month after; says how many events.
    pub async fn prune_notifications(&self) -> StorageResult<u64> {
        let until_ms = self.world.now_ms().saturating_sub(KEPT_MS);
        let backend = self.database.get_database_backend();
        let old = format!(
            "SELECT id FROM events WHERE created_at_ms < $1 ORDER BY created_at_ms LIMIT {PRUNE_BATCH}"
        );
        let mut count = 0;
        for table in ["webhook_deliveries", "mails", "events"] {
            let column = if table == "events" { "id" } else { "event_id" };
            let sql = format!("DELETE FROM {table} WHERE {column} IN ({old})");
            let statement = Statement::from_sql_and_values(backend, sql, [until_ms.into()]);
            count = self.database.execute_raw(statement).await?.rows_affected();
        }
        // A year's quota is told of once in the year.
        let sql = "DELETE FROM quota_crossings WHERE crossed_at_ms < $1 AND period_end_s < $2";
        let values = [until_ms.into(), until_ms.div_euclid(1_000).into()];
        self.database.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(count)
    }

    /// Runs an UPDATE that is to change one row; whether it did.
    pub(super) async fn changes_one<const N: usize>(
        &self,
        sql: &str,
        values: [Value; N],
    ) -> StorageResult<bool> {
        let backend = self.database.get_database_backend();
        let done = self.database.execute_raw(Statement::from_sql_and_values(backend, sql, values));
        Ok(done.await?.rows_affected() == 1)
    }
}

impl Change {
    /// How many deliveries wait for an endpoint.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn waiting_deliveries(&self, endpoint_id: &str) -> StorageResult<u64> {
        let sql = "SELECT count(*) AS waiting FROM webhook_deliveries WHERE account_id = $1 AND endpoint_id = $2 \
                   AND next_at_ms IS NOT NULL";
        let values: [Value; 2] = [self.account_id.as_str().into(), endpoint_id.into()];
        let backend = self.transaction.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let row = self.transaction.query_one_raw(statement).await?;
        let waiting: i64 = row.map(|row| row.try_get("", "waiting")).transpose()?.unwrap_or(0);
        Ok(u64::try_from(waiting).unwrap_or_default())
    }

    /// Has deliveries that were given up sent again, of those made since a time, oldest first; says how many, and whether there are
    /// more.
    pub async fn replay_deliveries(
        &mut self,
        endpoint_id: &str,
        since_ms: i64,
        count: u64,
    ) -> StorageResult<(u64, bool)> {
        let given_up = "FROM webhook_deliveries WHERE account_id = $1 AND endpoint_id = $2 AND created_at_ms >= $3 AND status = 'failed'";
        let sql = format!(
            "UPDATE webhook_deliveries SET status = 'pending', attempts = 0, begun_at_ms = $4, next_at_ms = $4, ended_at_ms = NULL, \
             updated_at_ms = $4, version = version + 1 WHERE key IN (SELECT key {given_up} ORDER BY key LIMIT {count})"
        );
        let whose: [Value; 3] =
            [self.account_id.as_str().into(), endpoint_id.into(), since_ms.into()];
        let values: Vec<Value> = whose.iter().cloned().chain([self.now_ms.into()]).collect();
        let backend = self.transaction.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let replayed = self.transaction.execute_raw(statement).await?.rows_affected();
        let more = format!("SELECT 1 AS one {given_up} LIMIT 1");
        let more = Statement::from_sql_and_values(backend, more, whose);
        Ok((replayed, self.transaction.query_one_raw(more).await?.is_some()))
    }

    /// Gives up what waits for an endpoint.
    pub async fn give_up_deliveries(
        &mut self,
        endpoint_id: &str,
        error: &str,
    ) -> StorageResult<()> {
        let sql = "UPDATE webhook_deliveries SET status = 'failed', next_at_ms = NULL, error = $3, ended_at_ms = $4, \
                   updated_at_ms = $4, version = version + 1 \
                   WHERE account_id = $1 AND endpoint_id = $2 AND next_at_ms IS NOT NULL";
        let values: [Value; 4] =
            [self.account_id.as_str().into(), endpoint_id.into(), error.into(), self.now_ms.into()];
        let backend = self.transaction.get_database_backend();
        self.transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        Ok(())
    }
}
