//! The decision journal of a node: what every shard decided, in memory that outlives the process, and from there on disk.
//!
//! In: decisions and how they ended. Out: rows in the spool, books of what was used. Always holds: a request is in its shard's ring
//! before it is forwarded; a shard never waits for a disk; what was used can be told after any end of the process.

pub mod ring;
