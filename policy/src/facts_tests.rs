//! Tests of `facts.rs`.
