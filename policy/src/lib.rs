//! What a decision is: the model of a policy, the compiled snapshot, path matching, the decision itself and the
//! arithmetic of budgets.
//!
//! In: a policy's text or rows, a request's facts, the time. Out: a snapshot's bytes, a decision.
//! Always holds: no I/O, no clock, no threads; time and randomness come in as arguments.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod address;
pub mod budget;
pub mod compile;
pub mod decide;
pub mod decision;
pub mod delta;
pub mod explain;
pub mod facts;
pub mod ids;
pub mod matcher;
pub mod method;
pub mod model;
pub mod snapshot;
pub mod token;
