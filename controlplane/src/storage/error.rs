//! What can go wrong with the database, sorted by what the caller can do about it.
//!
//! In: errors of the driver. Out: [`StorageError`].
//! Always holds: away, overloaded, restarting and timed out are all `Unavailable`: the same request may succeed later.

use std::sync::Arc;

use sea_orm::{DbErr, RuntimeErr, SqlErr};

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database cannot be asked now; nothing was changed, or it is not known. Trying again is right.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A unique value is taken; the name of the constraint or the columns.
    #[error("a unique value is taken: {0}")]
    Taken(String),
    /// The row was changed by somebody else since it was read.
    #[error("the row was changed since it was read")]
    Stale,
    /// A fault of ours or a damaged row.
    #[error("storage: {0}")]
    Broken(String),
}

impl From<DbErr> for StorageError {
    fn from(error: DbErr) -> Self {
        if let Some(SqlErr::UniqueConstraintViolation(what)) = error.sql_err() {
            return Self::Taken(what);
        }
        let text = error.to_string();
        match error {
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Self::Unavailable(text),
            DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => Self::of(&cause, text),
            _ => Self::Broken(text),
        }
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        Self::of(&Arc::new(error), text)
    }
}

impl StorageError {
    fn of(cause: &sqlx::Error, text: String) -> Self {
        let is_passing = match cause {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(error) => error.code().is_some_and(|code| is_passing(&code)),
            _ => false,
        };
        if is_passing { Self::Unavailable(text) } else { Self::Broken(text) }
    }
}

/// Whether an error code of either database says "later" rather than "never".
fn is_passing(code: &str) -> bool {
    // PostgreSQL, appendix A: connection exceptions, rollbacks by conflict, out of resources, operator intervention
    // (shutdown, timeouts), locks, a system that fails, a standby that only reads.
    const CLASSES: &[&str] = &["08", "40", "53", "57", "58"];
    const CODES: &[&str] = &["55P03", "25006"];
    // SQLite: 5 busy, 6 locked, 10 I/O, 13 full, with their extended codes in the higher bits.
    let sqlite = code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13));
    let is_postgres = code.len() == 5;
    (is_postgres && (CLASSES.iter().any(|class| code.starts_with(class)) || CODES.contains(&code)))
        || (!is_postgres && sqlite)
}

/// What storage returns.
pub type StorageResult<T> = Result<T, StorageError>;
