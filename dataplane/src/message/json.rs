//! JSON strings, appended to an answer's body.
//!
//! In: text. Out: a string of RFC 8259, quoted and escaped. Always holds: what cannot be written becomes the empty string.

use std::fmt::Display;

use serde::Serializer as _;

/// Appends a string.
pub(super) fn json_text(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, text).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"\"\"");
    }
}

/// Appends a string of the gateway's own text, which holds nothing to escape.
pub(super) fn json_plain(out: &mut Vec<u8>, text: &str) {
    debug_assert!(
        text.bytes().all(|byte| (b' '..0x7f).contains(&byte) && !b"\"\\".contains(&byte))
    );
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends what a value shows of itself.
pub(super) fn json_display(out: &mut Vec<u8>, text: &dyn Display) {
    let start = out.len();
    if serde_json::Serializer::new(&mut *out).collect_str(text).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"\"\"");
    }
}
