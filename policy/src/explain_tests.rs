//! Tests of `explain.rs`.
