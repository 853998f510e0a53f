//! Tests of `token.rs`.
