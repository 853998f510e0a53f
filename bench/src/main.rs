//! Comparisons with real peers.
fn main() {}
