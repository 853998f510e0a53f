//! Bringing the tables up to what this version needs.
//!
//! In: a database of any earlier version, or an empty one. Out: the tables of [`super::schema`].
//! Always holds: one process at a time; all missing steps in one transaction, so that a crash leaves the version
//! before; a database of a later version is refused, not touched.

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use super::begin_write;
use super::database::Database;
use super::error::{StorageError, StorageResult};
use super::schema::{self, STEPS};

/// The advisory lock of PostgreSQL that migrations are run under: `payfence` in ASCII.
const LOCK: i64 = 0x7061_7966_656e_6365;
const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (name TEXT NOT NULL PRIMARY KEY, applied_at_ms BIGINT NOT NULL)";

/// Runs the steps that are missing; says how many.
pub(super) async fn run(database: &Database, now_ms: i64) -> StorageResult<usize> {
    let backend = database.get_database_backend();
    let is_postgres = backend == DbBackend::Postgres;
    let transaction = begin_write(database).await?;
    if is_postgres {
        transaction.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    }
    transaction.execute_unprepared(TABLE).await?;
    let rows = transaction
        .query_all_raw(Statement::from_string(backend, "SELECT name FROM migrations"))
        .await?;
    let mut done = Vec::with_capacity(rows.len());
    for row in rows {
        done.push(row.try_get::<String>("", "name")?);
    }
    if let Some(unknown) = done.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        return Err(StorageError::Broken(format!(
            "the database has had the step {unknown}, which this version does not know; run the version that made it, or a later one"
        )));
    }
    let missing = STEPS.iter().filter(|step| !done.iter().any(|name| name == step.name));
    let mut count = 0;
    for step in missing {
        transaction.execute_unprepared(&schema::statements(step, is_postgres)).await?;
        let insert = format!(
            "INSERT INTO migrations (name, applied_at_ms) VALUES ('{}', {now_ms})",
            step.name
        );
        transaction.execute_unprepared(&insert).await?;
        count += 1;
    }
    transaction.commit().await?;
    Ok(count)
}
