//! Tests of `decide.rs`.
