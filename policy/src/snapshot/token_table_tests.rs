//! Tests of `token_table`.
