//! The parts of an answer that depend on its reason alone: how its head begins, how its body begins.
//!
//! In: a reason, or a status and texts of its own. Out: bytes appended to the caller's buffer.
//! Always holds: what is kept for a reason was written by the same functions that write the exceptions.

use std::fmt::Display;
use std::sync::LazyLock;

use policy::decision::Reason;

use super::detail::detail_of;
use super::json::{json_display, json_plain};
use crate::http1::write::{self, decimal};

/// The content type of a problem document (RFC 9457 §3).
const PROBLEM_JSON: &str = "application/problem+json";

/// `type` of a 429 (draft-ietf-httpapi-ratelimit-headers-11 §6.1).
pub(super) const QUOTA_EXCEEDED: &str =
    "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Both parts of one reason.
struct Opening {
    head: Box<[u8]>,
    body: Box<[u8]>,
}

/// By `reason as usize`: refusals are written in great numbers, from few long pieces.
static OPENINGS: LazyLock<Box<[Opening]>> = LazyLock::new(|| {
    let of = |reason: &Reason| {
        let status = reason.status().unwrap_or(500);
        let (mut head, mut body) = (Vec::new(), Vec::new());
        write_head(&mut head, status, PROBLEM_JSON);
        write_body(&mut body, *reason, status, None);
        Opening { head: head.into(), body: body.into() }
    };
    Reason::ALL.iter().map(of).collect()
});

/// Appends a problem's head up to and with the name of its request id.
pub(super) fn problem_head(out: &mut Vec<u8>, reason: Reason, status: Option<u16>) {
    match (status, OPENINGS.get(reason as usize)) {
        (None, Some(opening)) => out.extend_from_slice(&opening.head),
        (status, _) => write_head(out, status.unwrap_or(500), PROBLEM_JSON),
    }
}

/// Appends the head of another answer as far.
pub(super) fn write_head(out: &mut Vec<u8>, status: u16, content_type: &str) {
    write::status_line(out, status, write::reason(status).as_bytes());
    rest_of_head(out, content_type);
}

/// Appends what follows the status line and lines that are of one answer alone.
pub(super) fn rest_of_head(out: &mut Vec<u8>, content_type: &str) {
    write::header(out, b"Content-Type", content_type.as_bytes());
    out.extend_from_slice(b"Cache-Control: no-store\r\nPayFence-Request-Id: ");
}

/// Appends a problem document up to and with the key of its request id.
pub(super) fn problem_body(
    out: &mut Vec<u8>,
    reason: Reason,
    status: Option<u16>,
    detail: Option<&dyn Display>,
) {
    match (status, detail, OPENINGS.get(reason as usize)) {
        (None, None, Some(opening)) => out.extend_from_slice(&opening.body),
        (status, detail, _) => {
            write_body(out, reason, status.or(reason.status()).unwrap_or(500), detail);
        }
    }
}

fn write_body(out: &mut Vec<u8>, reason: Reason, status: u16, detail: Option<&dyn Display>) {
    out.extend_from_slice(b"{\"type\":\"");
    if status == 429 {
        out.extend_from_slice(QUOTA_EXCEEDED.as_bytes());
    } else {
        out.extend_from_slice(b"urn:payfence:problem:");
        out.extend_from_slice(reason.as_str().as_bytes());
    }
    out.extend_from_slice(b"\",\"title\":");
    json_plain(out, reason.title());
    out.extend_from_slice(b",\"status\":");
    decimal(out, u64::from(status));
    out.extend_from_slice(b",\"detail\":");
    match detail {
        Some(detail) => json_display(out, detail),
        None => json_plain(out, detail_of(reason)),
    }
    out.extend_from_slice(b",\"reason\":");
    json_plain(out, reason.as_str());
    out.extend_from_slice(b",\"request_id\":");
}
