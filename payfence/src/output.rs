//! Writing to standard output and standard error.
//!
//! In: text. Out: lines.
//! Always holds: a reader that has gone away (`| head`) is no failure and no panic.

use std::fmt::Arguments;
use std::io::{self, Write as _};

/// A line for programs and people: what was asked for.
pub fn line(text: Arguments<'_>) {
    // Nobody reads it any more: there is nothing to do about it.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A line about the work: advice, warnings.
pub fn note(text: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Why the command failed.
pub fn error(text: Arguments<'_>) {
    note(format_args!("error: {text}"));
}
