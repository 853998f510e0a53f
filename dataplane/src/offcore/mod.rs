//! Threads that may block: admin listener, DNS, policy and certificate files, signals.

pub mod admin;
pub mod certificate_files;
pub mod certificate_watch;
pub mod control_source;
pub mod control_state;
mod decision_feed;
pub mod file_watch;
mod lease_writer;
pub mod ledger;
pub mod origin_faults;
pub mod origin_files;
pub mod policy_source;
pub mod policy_watch;
pub mod reload;
pub mod remote_ledger;
pub mod resolver;
pub mod signals;
pub mod state;
pub mod tls_state;
