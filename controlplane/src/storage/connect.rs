//! Opening the database that a URL names.
//!
//! In: `postgres://…` or `sqlite://FILE`. Out: a pool, bounded in size and in every wait.
//! Always holds: what SQLite has answered for is on disk (WAL, synchronous FULL); no statement of PostgreSQL runs
//! longer than [`STATEMENT_TIMEOUT`]; opening connects to nothing yet.

use std::str::FromStr as _;
use std::time::Duration;

use sea_orm::{DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// How long a request waits for a connection before it is told to come back.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one statement of PostgreSQL may run.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
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
pub(super) fn open(url: &str, connections_max: u32) -> Result<DatabaseConnection, UrlError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        let options =
            PgConnectOptions::from_str(url).map_err(|error| UrlError::Form(error.to_string()))?;
        let timeout_ms = STATEMENT_TIMEOUT.as_millis().to_string();
        let options = options
            .application_name("payfence-controlplane")
            .options([("statement_timeout", timeout_ms.as_str()), ("lock_timeout", "5000")]);
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .connect_lazy_with(options);
        return Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool));
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
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new()
        .max_connections(connections_max.min(8))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options);
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}
