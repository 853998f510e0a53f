//! A node's side of what leaves it: the rows of the decision log, the spool that keeps them, the sinks that take them.
//!
//! In: rows of the shards' journals. Out: segments on disk, rows in sinks. Always holds: a row that is in the spool is whole; no
//! thread here is a shard's.
#![forbid(unsafe_code)]

pub mod background;
pub mod books;
pub mod checkpoint;
mod disk;
pub mod lease_log;
pub mod recover;
pub mod row;
pub mod ship;
pub mod sink;
pub mod spool;
