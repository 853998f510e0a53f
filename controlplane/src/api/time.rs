//! Times as callers see them: RFC 3339 in UTC.
//!
//! In: Unix milliseconds. Out: text; and back.
//! Always holds: a time that is stored can be shown, and shown times read back alike.

use jiff::Timestamp;

/// A stored time.
#[must_use]
pub fn shown(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// A stored time, where there is one.
#[must_use]
pub fn shown_opt(at_ms: Option<i64>) -> Option<String> {
    at_ms.map(shown)
}

/// A time that a caller sent.
///
/// # Errors
/// What is allowed.
pub fn read(text: &str) -> Result<i64, String> {
    const WHAT: &str =
        "expected a date and time with an offset from 1970 to 9999, as in 2026-11-01T00:00:00Z";
    match text.parse::<Timestamp>() {
        Ok(at) if at.as_millisecond() >= 0 && !text.contains('[') => Ok(at.as_millisecond()),
        _ => Err(WHAT.to_owned()),
    }
}
