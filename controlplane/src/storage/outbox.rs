//! The outbox: every change by number, in the order in which changes became visible.
//!
//! In: entries that changes wrote without a number. Out: numbered entries, to whoever follows.
//! Always holds: numbers are given under one lock (the row of `outbox_head`), to entries that are committed, without a
//! gap, and never again; an entry that was committed before another was begun has the lower number. Any number of
//! control planes may publish at once.
//!
//! Waking: a change wakes the publisher of its own process at once. PostgreSQL tells the other processes by
//! LISTEN/NOTIFY, once a batch. Both are hints only: everybody also looks every [`POLL`].

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sqlx::postgres::PgListener;
use tokio::sync::{Notify, watch};

use super::begin_write;
use super::connect::answered;
use super::database::Database;
use super::error::StorageResult;

/// How often the outbox is looked at without having been told to.
pub const POLL: Duration = Duration::from_millis(500);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// Entries numbered in one transaction, and read at once.
pub const BATCH: u64 = 1_000;
const CHANNEL: &str = "payfence_outbox";

/// One change, by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// From 1, without gaps.
    pub sequence: i64,
    /// Whose row.
    pub account_id: String,
    /// The kind of row ([`super::TenantRow::KIND`]).
    pub kind: String,
    /// The row's public id.
    pub row_id: String,
    /// The row's stable number.
    pub row_key: i64,
    /// `insert` or `update`.
    pub operation: String,
    /// When it was changed, Unix milliseconds.
    pub created_at_ms: i64,
}

/// Entries kept however old they are: a node that is so many behind can be told by changes still.
pub const KEPT_MIN: i64 = 100_000;
/// How long entries are kept beside, milliseconds.
const KEPT_MS: i64 = 7 * 86_400_000;

/// Forgets entries that are old and that enough have come after; says how many. A node that would need them takes a base.
pub(super) async fn prune(
    database: &Database,
    now_ms: i64,
    kept_min: i64,
    step: u64,
) -> StorageResult<u64> {
    // The oldest numbers first, so that what is left has no gap.
    let sql = format!(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM (SELECT id, sequence, created_at_ms FROM outbox \
         WHERE sequence IS NOT NULL ORDER BY sequence LIMIT {step}) AS oldest \
         WHERE sequence <= (SELECT sequence FROM outbox_head WHERE id = 1) - $1 AND created_at_ms < $2)"
    );
    let values = [kept_min.into(), now_ms.saturating_sub(KEPT_MS).into()];
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    Ok(database.execute_raw(statement).await?.rows_affected())
}

/// Wakes the publisher of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Wake(Arc<Notify>);

impl Wake {
    pub(super) fn wake(&self) {
        self.0.notify_one();
    }
}

/// The outbox of one process: a publisher, and what its followers wait for.
#[derive(Clone, Debug)]
pub struct Outbox {
    database: Database,
    wake: Wake,
    head: Arc<watch::Sender<i64>>,
}

impl Outbox {
    pub(super) fn new(database: Database, wake: Wake) -> Self {
        Self { database, wake, head: Arc::new(watch::Sender::new(0)) }
    }

    /// Numbers entries until it is dropped. Errors are logged and tried again.
    pub async fn publish(self) {
        let mut listener = None;
        let mut is_away = false;
        loop {
            match answered(self.publish_once()).await {
                Ok(BATCH..) => continue,
                Ok(_) if is_away => {
                    is_away = false;
                    tracing::info!("the outbox is published again");
                }
                Ok(_) => {}
                Err(error) => {
                    if !is_away {
                        tracing::warn!(%error, "the outbox cannot be published; trying again until it can");
                    }
                    is_away = true;
                    listener = None;
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            if listener.is_none() {
                listener = self.listen().await;
            }
            self.wait(&mut listener).await;
        }
    }

    /// Numbers what is committed and has no number, at most [`BATCH`]; says how many, and tells followers.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn publish_once(&self) -> StorageResult<u64> {
        // Without a lock first: mostly there is nothing, or another process was faster.
        let backend = self.database.get_database_backend();
        let waiting = "SELECT id FROM outbox WHERE sequence IS NULL LIMIT 1";
        let mut count = 0;
        if self.database.query_one_raw(Statement::from_string(backend, waiting)).await?.is_some() {
            count = self.number().await?;
        }
        let head = head(&self.database).await?;
        self.head.send_if_modified(|known| {
            let is_new = *known < head;
            *known = (*known).max(head);
            is_new
        });
        Ok(count)
    }

    async fn number(&self) -> StorageResult<u64> {
        let transaction = begin_write(&self.database).await?;
        let backend = transaction.get_database_backend();
        let lock = if backend == DbBackend::Postgres { " FOR UPDATE" } else { "" };
        let sql = format!("SELECT sequence FROM outbox_head WHERE id = 1{lock}");
        transaction.query_one_raw(Statement::from_string(backend, sql)).await?;
        // A statement of its own: it sees all that was committed before the lock was had.
        let number = format!(
            "UPDATE outbox SET sequence = numbered.sequence FROM (SELECT id AS entry, \
             (SELECT sequence FROM outbox_head WHERE id = 1) + row_number() OVER (ORDER BY id) AS sequence \
             FROM outbox WHERE sequence IS NULL ORDER BY id LIMIT {BATCH}) AS numbered WHERE outbox.id = numbered.entry"
        );
        let count = transaction.execute_unprepared(&number).await?.rows_affected();
        if count > 0 {
            let advance =
                format!("UPDATE outbox_head SET sequence = sequence + {count} WHERE id = 1");
            transaction.execute_unprepared(&advance).await?;
            if backend == DbBackend::Postgres {
                transaction.execute_unprepared(&format!("NOTIFY {CHANNEL}")).await?;
            }
        }
        transaction.commit().await?;
        Ok(count)
    }

    async fn listen(&self) -> Option<PgListener> {
        if self.database.get_database_backend() != DbBackend::Postgres {
            return None;
        }
        let pool = self.database.postgres();
        let listening = async {
            let mut listener = PgListener::connect_with(pool).await?;
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        // An engine without LISTEN is polled, and so is one that does not answer.
        let listening = answered(async { Ok(listening.await?) }).await;
        listening.inspect_err(|error| tracing::debug!(%error, "no LISTEN; polling")).ok()
    }

    async fn wait(&self, listener: &mut Option<PgListener>) {
        let told = async {
            match listener {
                Some(listener) => listener.recv().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let still_listens = tokio::select! {
            () = self.wake.0.notified() => true,
            is_well = told => is_well,
            () = tokio::time::sleep(POLL) => true,
        };
        if !still_listens {
            *listener = None;
        }
    }

    /// The number of the newest entry that this process knows of.
    #[must_use]
    pub fn head(&self) -> i64 {
        *self.head.borrow()
    }

    /// The entries after `sequence` that are numbered, at most [`BATCH`].
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn read_after(&self, sequence: i64) -> StorageResult<Vec<OutboxEntry>> {
        read(&self.database, sequence).await
    }

    /// Everything after `sequence`, now and as it comes.
    #[must_use]
    pub fn follow(&self, sequence: i64) -> Follower {
        Follower { database: self.database.clone(), head: self.head.subscribe(), sequence }
    }
}

pub(super) async fn head<C: ConnectionTrait>(database: &C) -> StorageResult<i64> {
    let sql = "SELECT sequence FROM outbox_head WHERE id = 1";
    let row = database
        .query_one_raw(Statement::from_string(database.get_database_backend(), sql))
        .await?;
    Ok(row.map(|row| row.try_get("", "sequence")).transpose()?.unwrap_or_default())
}

/// One reader of the outbox.
#[derive(Debug)]
pub struct Follower {
    database: Database,
    head: watch::Receiver<i64>,
    sequence: i64,
}

impl Follower {
    /// The last number that was read.
    #[must_use]
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// The next entries, in order, at most [`BATCH`]; waits until there are some. May be dropped and called again.
    ///
    /// # Errors
    /// When the database cannot be asked; the place is kept.
    pub async fn next(&mut self) -> StorageResult<Vec<OutboxEntry>> {
        loop {
            self.head.borrow_and_update();
            let entries = answered(read(&self.database, self.sequence)).await?;
            if let Some(last) = entries.last() {
                self.sequence = last.sequence;
                return Ok(entries);
            }
            // The publisher of this process may be away: then the poll goes on.
            let _ = tokio::time::timeout(POLL, self.head.changed()).await;
        }
    }
}

async fn read<C: ConnectionTrait>(database: &C, after: i64) -> StorageResult<Vec<OutboxEntry>> {
    let statement = Statement::from_sql_and_values(
        database.get_database_backend(),
        format!(
            "SELECT sequence, account_id, kind, row_id, row_key, operation, created_at_ms FROM outbox \
             WHERE sequence > $1 ORDER BY sequence LIMIT {BATCH}"
        ),
        [after.into()],
    );
    let rows = database.query_all_raw(statement).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        entries.push(OutboxEntry {
            sequence: row.try_get("", "sequence")?,
            account_id: row.try_get("", "account_id")?,
            kind: row.try_get("", "kind")?,
            row_id: row.try_get("", "row_id")?,
            row_key: row.try_get("", "row_key")?,
            operation: row.try_get("", "operation")?,
            created_at_ms: row.try_get("", "created_at_ms")?,
        });
    }
    Ok(entries)
}
