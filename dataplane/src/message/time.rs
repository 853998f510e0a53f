//! Moments as text.
//!
//! In: Unix seconds. Out: `Date` (RFC 9110 §5.6.7) and RFC 3339 in UTC.
//! Always holds: a time outside the years that can be written leaves the field out or becomes null,
//! and never stops an answer.

use std::io::Write;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Appends a `Date` header line.
pub(super) fn date_header(out: &mut Vec<u8>, now_s: i64) {
    let start = out.len();
    out.extend_from_slice(b"Date: ");
    let written = Timestamp::from_second(now_s)
        .and_then(|time| DateTimePrinter::new().print_timestamp_rfc9110(&time, &mut *out));
    match written {
        Ok(()) => out.extend_from_slice(b"\r\n"),
        Err(_) => out.truncate(start),
    }
}

/// Appends a moment as JSON: a string in RFC 3339, or null.
pub(super) fn json_time(out: &mut Vec<u8>, time_s: i64) {
    let start = out.len();
    let written =
        Timestamp::from_second(time_s).is_ok_and(|time| write!(out, "\"{time}\"").is_ok());
    if !written {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
