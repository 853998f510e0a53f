//! A node's side of what leaves it and of what it is told: the rows of the decision log, the spool that keeps them, the sinks that take
//! them; the link to a control plane, and the wire that both ends share.
//!
//! In: rows of the shards' journals, a control plane's snapshots. Out: segments on disk, rows in sinks, snapshots in force. Always holds:
//! a row that is in the spool is whole; no thread here is a shard's.
#![forbid(unsafe_code)]

pub mod background;
pub mod books;
pub mod checkpoint;
pub mod control;
mod disk;
pub mod lease_log;
pub mod recover;
pub mod row;
pub mod ship;
pub mod sink;
pub mod spool;
pub mod tls;
pub mod wire;
