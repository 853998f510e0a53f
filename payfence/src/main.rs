//! The `payfence` command.
fn main() {}
