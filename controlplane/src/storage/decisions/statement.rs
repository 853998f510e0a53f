//! Statements over many rows.
//!
//! In: the rows' values, one after the other. Out: a few statements.
//! Always holds: rows go in their order; there are few sizes of statements, so that a connection prepares each once.

use sea_orm::{ConnectionTrait as _, Statement, Value};

use crate::storage::database::Transaction;
use crate::storage::error::StorageResult;

/// Rows of one statement: SQLite takes 32,766 values in one.
const SIZES: [usize; 4] = [256, 32, 4, 1];

/// Inserts rows of `width` values each.
pub(super) async fn insert_many(
    transaction: &Transaction,
    head: &str,
    tail: &str,
    width: usize,
    mut values: Vec<Value>,
) -> StorageResult<()> {
    let backend = transaction.get_database_backend();
    while !values.is_empty() {
        let rows = values.len().div_ceil(width);
        let size = SIZES.into_iter().find(|size| *size <= rows).unwrap_or(1);
        let rest = values.split_off(values.len().min(size * width));
        let sql = format!("{head} {} {tail}", marks(width, size));
        transaction.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        values = rest;
    }
    Ok(())
}

/// `($1, $2), ($3, $4)`.
fn marks(width: usize, rows: usize) -> String {
    let row = |row: usize| {
        let marks: Vec<String> = (1..=width).map(|at| format!("${}", row * width + at)).collect();
        format!("({})", marks.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}
