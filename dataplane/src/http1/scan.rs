//! Finds the lines of a head, and runs httparse over those that are complete.
//!
//! In: what arrived so far. Out: where the head ends, or the first thing wrong with it. httparse
//! takes a lone LF as a line's end and knows no limits, so lines are counted and checked here first.
//!
//! What always holds: the verdict depends on the bytes alone, never on how they were split into
//! reads, because only complete lines are judged, in order, and the first fault wins.

use super::error::FieldError;
use super::{HEADERS_CAP, Limits};
use memchr::{memchr, memchr_iter};

/// What the lines of a head look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scan {
    /// The start line without its CRLF ends here, when it is complete.
    pub start_line_end: Option<usize>,
    /// The end of the last complete line that is in order.
    pub lines_end: usize,
    /// What follows from the lines.
    pub verdict: Verdict,
}

/// How far the lines of a head go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The head ends at [`Scan::lines_end`].
    Complete,
    /// No end yet.
    Partial,
    /// The line after [`Scan::lines_end`] is at fault.
    Failed(FieldError),
}

/// Splits the head that begins at `from` into lines.
pub(super) fn scan(input: &[u8], from: usize, limits: &Limits) -> Scan {
    let headers_max = limits.headers_max.min(HEADERS_CAP);
    let bounded = input.get(..limits.head_bytes_max).unwrap_or(input);
    let rest = bounded.get(from..).unwrap_or_default();
    let mut found = Scan { start_line_end: None, lines_end: from, verdict: Verdict::Partial };
    let mut headers = 0;
    for offset in memchr_iter(b'\n', rest) {
        let line = rest.get(found.lines_end - from..offset).unwrap_or_default();
        if line.last() != Some(&b'\r') {
            found.verdict = Verdict::Failed(FieldError::LineEnding);
            return found;
        }
        if found.start_line_end.is_none() {
            found.start_line_end = Some(from + offset - 1);
        } else if line.len() == 1 {
            found.lines_end = from + offset + 1;
            found.verdict = Verdict::Complete;
            return found;
        } else if headers == headers_max {
            found.verdict = Verdict::Failed(FieldError::TooMany);
            return found;
        } else {
            headers += 1;
        }
        found.lines_end = from + offset + 1;
    }
    if input.len() > limits.head_bytes_max {
        found.verdict = Verdict::Failed(FieldError::TooLarge);
    }
    found
}

/// Whether bytes that arrived after the first `seen` ones can change an earlier `Partial`. Heads
/// are judged by the line, so a peer that sends byte by byte costs one look per line, not per byte.
pub(super) fn worth_a_look(input: &[u8], seen: usize, limits: &Limits) -> bool {
    let new = input.get(seen..).unwrap_or_default();
    seen == 0
        || memchr(b'\n', new).is_some()
        || input.len() > limits.head_bytes_max
        || (input.len() > limits.uri_bytes_max && memchr(b'\n', input).is_none())
}

/// Says more exactly than httparse what is wrong in a block of complete field lines that it
/// refused. Slow: it runs once, before the connection is closed.
pub(super) fn explain(block: &[u8]) -> FieldError {
    for line in block.split_inclusive(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return FieldError::Folded;
        }
        let Some(colon) = memchr(b':', line) else {
            return FieldError::HeaderName;
        };
        let (name, value) = line.split_at_checked(colon).unwrap_or_default();
        if !is_token(name) {
            let trimmed = name.trim_ascii_end();
            let spaced = trimmed.len() < name.len() && is_token(trimmed);
            return if spaced { FieldError::SpaceBeforeColon } else { FieldError::HeaderName };
        }
        if value.contains(&b'\r') {
            return FieldError::LineEnding;
        }
        if value.iter().any(|&byte| is_forbidden_in_value(byte)) {
            return FieldError::HeaderValue;
        }
    }
    FieldError::HeaderName
}

/// A byte that no field value may hold: control bytes other than HTAB (RFC 9110 §5.5).
pub(super) const fn is_forbidden_in_value(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// RFC 9110 §5.6.2 `tchar`.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// RFC 9110 §5.6.2 `token`: at least one `tchar`.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}
