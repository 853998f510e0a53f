//! Tests of `address.rs`.
