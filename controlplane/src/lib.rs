//! The control plane: what accounts, sites, plans, customers and tokens there are, in PostgreSQL or SQLite, behind
//! REST.
//!
//! In: HTTP requests with admin keys. Out: rows, an audit log, and an outbox by whose numbers nodes are told.
//! Always holds: a change, its audit entry and its outbox entry are one transaction; rows of one account are never seen
//! through another's key; of keys and tokens only hashes are kept.
//!
//! # To add a table
//! A new step at the end of `storage/schema.rs` with its SQL file (`{ROW}` are the columns that every row of a tenant
//! has), and three lines in the `rows!` of `storage/rows.rs`. Fields that are secret carry `#[serde(skip)]`, so that the
//! audit log never has them. Queries start at [`storage::Tenant::select`] and its `get`, `one`, `all`, `count`, `page`;
//! writing is [`storage::Change::insert`] and `update`, which write the audit and the outbox entries themselves. Rows
//! are archived or revoked, not deleted.
//!
//! # To add an endpoint
//! A file below `api/endpoints`, after the model of `sites/create.rs` (POST), `update.rs` (PATCH), `list.rs`, `get.rs`;
//! its line in `endpoints.rs`. [`api::gate::Gate`] gives the rows to whoever may: `read`, `write`, `write_once` (POST).
//! Errors are [`api::problem::Problem`]; faults of fields that nodes know come from [`domain::policy_text`]. Then write
//! the description anew: `PAYFENCE_UPDATE_GOLDEN=1 cargo nextest run -p controlplane openapi`.
//!
//! # To add a test
//! `tests/it` runs everything on both databases: `both(async |place| …)` gives a fresh database and an API around it.
//! The walk over all routes (`tenancy.rs`) takes in a new endpoint by itself; where its path has a new `{…_id}` or its
//! body a new shape, say in `tests/it/samples.rs` how to make one, and in `tests/api/run.py` for the fuzzer; what ends a row
//! stands in `tests/api/hooks.py`, too.
#![forbid(unsafe_code)]

pub mod analytics;
pub mod api;
pub mod billing;
pub mod domain;
mod guesses;
pub mod ids;
pub mod init;
pub mod metrics;
pub mod notify;
pub mod overage;
pub mod reconcile;
pub mod secrets;
pub mod server;
pub mod storage;
pub mod sync;
pub mod tls;
pub mod world;

#[cfg(test)]
#[path = "../tests/it/main.rs"]
mod it;
