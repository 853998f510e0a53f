//! The control link against a real HTTP server in this process, which misbehaves in every way.
//!
//! In: faults. Out: what the node then has in force. Always holds: whatever a server does, a node ends with the right policy once it
//! behaves, and never goes back meanwhile.
#![allow(clippy::disallowed_methods, reason = "deadlines of tests")]

mod faults;
mod ledger;
mod node;
mod restarts;
mod server;
