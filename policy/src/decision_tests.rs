//! Tests of `decision.rs`.
