//! Mails, taken up by whichever control plane comes first.
//!
//! In: what is due, what came of an attempt. Out: mails with their events.
//! Always holds: as for deliveries: one that is taken is nobody else's until its lease is over; what came of an attempt is
//! written only where no later one has begun.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, Statement, Value,
};

use super::error::StorageResult;
use super::rows::{Entity, EventRecord, Mail, column};
use super::{Attempted, Store};

impl Store {
    /// Takes mails that are due for so long, the longest due first.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn take_mails(
        &self,
        count: u64,
        lease_ms: i64,
    ) -> StorageResult<Vec<(Mail, EventRecord)>> {
        let now_ms = self.world.now_ms();
        let sql = format!(
            "UPDATE mails SET attempts = attempts + 1, next_at_ms = $2, updated_at_ms = $1 WHERE next_at_ms <= $1 AND key IN \
             (SELECT key FROM mails WHERE next_at_ms <= $1 ORDER BY next_at_ms, key LIMIT {count}) RETURNING key"
        );
        let values: [Value; 2] = [now_ms.into(), now_ms.saturating_add(lease_ms).into()];
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let rows = self.database.query_all_raw(statement).await?;
        let keys: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get("", "key")).collect();
        let keys = keys?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let query = Entity::<Mail>::find().filter(column::Mail::Key.is_in(keys));
        let mails = query.all(&self.database).await?;
        let ids: Vec<&String> = mails.iter().map(|mail| &mail.event_id).collect();
        let query = Entity::<EventRecord>::find().filter(column::EventRecord::Id.is_in(ids));
        let events = query.all(&self.database).await?;
        let taken = mails.into_iter().filter_map(|mail| {
            let event = events.iter().find(|event| event.id == mail.event_id)?.clone();
            Some((mail, event))
        });
        Ok(taken.collect())
    }

    /// Writes down what came of an attempt to send a mail to somebody, unless another has begun since.
    pub async fn mail_attempted(
        &self,
        mail: &Mail,
        recipient_hash: Option<&[u8; 32]>,
        attempted: &Attempted,
    ) -> StorageResult<bool> {
        let now_ms = self.world.now_ms();
        let ended_at_ms = attempted.next_at_ms.is_none().then_some(now_ms);
        let sql = "UPDATE mails SET status = $3, next_at_ms = $4, error = $5, ended_at_ms = $6, recipient_hash = $7, \
                   updated_at_ms = $8, version = version + 1 WHERE key = $1 AND attempts = $2 AND status = 'pending'";
        let values: [Value; 8] = [
            mail.key.into(),
            mail.attempts.into(),
            attempted.status.into(),
            attempted.next_at_ms.into(),
            attempted.error.clone().into(),
            ended_at_ms.into(),
            recipient_hash.map(|hash| hash.to_vec()).into(),
            now_ms.into(),
        ];
        self.changes_one(sql, values).await
    }

    /// How many mails were sent to somebody since a time.
    pub async fn mails_sent(&self, recipient_hash: &[u8; 32], since_ms: i64) -> StorageResult<i64> {
        let sql = "SELECT count(*) AS count FROM mails WHERE recipient_hash = $1 AND ended_at_ms > $2 AND status = 'sent'";
        let values: [Value; 2] = [recipient_hash.to_vec().into(), since_ms.into()];
        let backend = self.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        let row = self.database.query_one_raw(statement).await?;
        Ok(row.map(|row| row.try_get("", "count")).transpose()?.unwrap_or_default())
    }
}
