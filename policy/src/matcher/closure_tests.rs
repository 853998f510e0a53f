//! Tests of closure.
