//! Opening the database that a URL names.
//!
//! In: `postgres://…` or `sqlite://FILE`. Out: a pool, bounded in size and in every wait.
//! Always holds: what SQLite has answered for is on disk (WAL, synchronous FULL); no statement of PostgreSQL runs
//! longer than [`STATEMENT_TIMEOUT`], and no transaction whose owner has gone silent holds its locks longer than [`IDLE_IN_TRANSACTION`];
//! opening connects to nothing yet.

use std::str::FromStr as _;
use std::time::Duration;

use sea_orm::{SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::database::{Database, Suspicion};
use super::error::{StorageError, StorageResult};
use super::turns::Turns;

/// How long a request waits for a connection before it is told to come back.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a transaction of SQLite waits for the one that writes.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What a connection to SQLite that reads keeps of the file, as `PRAGMA cache_size` has it (KiB, negative): SQLite's own, since all of it is
/// out of date whenever something was written.
const READER_CACHE: &str = "-2000";
/// The same of the one that writes, whose cache stays true.
const WRITER_CACHE: &str = "-16384";
/// How long one statement of PostgreSQL may run.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an open transaction may wait for its owner, whose machine may have lost power.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(30);
/// How long those who follow and publish wait for all the answers of one round: longer than [`super::database::ANSWER_MAX`], which one may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Connections of one control plane to PostgreSQL, where the URL's owner does not say.
pub const CONNECTIONS_DEFAULT: u32 = 16;

/// Why a URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Neither database.
    #[error(
        "the database URL begins neither `postgres://` nor `sqlite://`; give postgres://USER@HOST/NAME or sqlite://FILE"
    )]
    Scheme,
    /// The driver does not understand it. The URL itself, which may hold a password, is left out.
    #[error("the database URL cannot be read: {0}")]
    Form(String),
}

/// Opens a pool without connecting.
pub(super) fn open(url: &str, connections_max: u32) -> Result<Database, UrlError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let options =
            PgConnectOptions::from_str(url).map_err(|error| UrlError::Form(error.to_string()))?;
        let timeout_ms = STATEMENT_TIMEOUT.as_millis().to_string();
        let idle_ms = IDLE_IN_TRANSACTION.as_millis().to_string();
        let options = options.application_name("payfence-controlplane").options([
            ("statement_timeout", timeout_ms.as_str()),
            ("lock_timeout", "5000"),
            ("idle_in_transaction_session_timeout", idle_ms.as_str()),
        ]);
        let suspicion = Suspicion::default();
        let checked = suspicion.clone();
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .after_release(move |connection, _| {
                let checked = checked.clone();
                Box::pin(async move { checked.check(connection).await })
            })
            .connect_lazy_with(options);
        let pool = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
        return Ok(Database::new(pool, suspicion));
    }
    if !url.starts_with("sqlite:") {
        return Err(UrlError::Scheme);
    }
    let options =
        SqliteConnectOptions::from_str(url).map_err(|error| UrlError::Form(error.to_string()))?;
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(SQLITE_BUSY_TIMEOUT);
    let pool = |connections_max, cache: &'static str| {
        let pool = SqlitePoolOptions::new()
            .max_connections(connections_max)
            // Whoever has the connection may wait for another process that writes, and for the disk.
            .acquire_timeout(SQLITE_BUSY_TIMEOUT + ACQUIRE_TIMEOUT)
            // A file has no other end that could be gone.
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().pragma("cache_size", cache));
        SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
    };
    let turns = Turns::new(SQLITE_BUSY_TIMEOUT + ACQUIRE_TIMEOUT);
    let readers = pool(connections_max.min(8), READER_CACHE);
    Ok(Database::with_writer(readers, pool(1, WRITER_CACHE), turns))
}

/// What comes of `asked`, which may be cut off in the middle.
///
/// # Errors
/// Its own, or that no answer came within [`ANSWER_TIMEOUT`].
pub(crate) async fn answered<T>(asked: impl Future<Output = StorageResult<T>>) -> StorageResult<T> {
    tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
        Err(StorageError::Unavailable(text))
    })
}
