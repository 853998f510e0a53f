//! Which bearers are good now, all at once.
//!
//! In: a kind of bearers. Out: their hashes.
//! Always holds: none that was revoked; what has expired may be among them, since it is looked up all the same.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait as _, Statement};

use super::Store;
use super::error::StorageResult;

/// What a caller shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// An administrator's key.
    AdminKey,
    /// A node's token.
    NodeToken,
}

impl Store {
    /// The hashes of all that are not revoked; none where there are more than `count`.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn good_hashes(
        &self,
        bearer: Bearer,
        count: u64,
    ) -> StorageResult<Option<HashSet<Vec<u8>>>> {
        let table = match bearer {
            Bearer::AdminKey => "admin_keys",
            Bearer::NodeToken => "node_tokens",
        };
        let limit = count.saturating_add(1);
        let sql = format!("SELECT hash FROM {table} WHERE revoked_at_ms IS NULL LIMIT {limit}");
        let statement = Statement::from_string(self.database.get_database_backend(), sql);
        let rows = self.database.query_all_raw(statement).await?;
        if rows.len() as u64 > count {
            return Ok(None);
        }
        let hashes: Result<HashSet<Vec<u8>>, _> =
            rows.iter().map(|row| row.try_get("", "hash")).collect();
        Ok(Some(hashes?))
    }
}
