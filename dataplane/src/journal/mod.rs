//! The decision journal of a node: what every shard decided, in memory that outlives the process, and from there on disk.
//!
//! In: decisions and how they ended. Out: rows in the spool, books of what was used. Always holds: a request is in its shard's ring
//! before it is forwarded; a shard never waits for a disk; what was used can be told after any end of the process.

pub mod drain;
pub mod live;
pub mod ring;
pub mod start;
pub mod state;
mod stream;
mod syncing;

use std::path::{Path, PathBuf};

/// Where rings are when nobody says: memory, on every Linux.
pub const SHARED_MEMORY: &str = "/dev/shm";

/// Where a node with this data directory has its journal.
fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("journal")
}

/// Where a node with this data directory has the rows of its journal.
#[must_use]
pub fn spool_folder(data_dir: &Path) -> PathBuf {
    folder(data_dir).join("spool")
}
