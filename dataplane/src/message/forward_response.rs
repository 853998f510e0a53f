//! The head of an origin's response as the client receives it.
//!
//! In: the origin's parsed head, the entitlement's figures, what the client speaks. Out: a head in
//! HTTP/1.1, and what the origin says the request cost.
//! Always holds: how the body is delimited is written anew for this hop (RFC 9112 §6); limit fields
//! and `PayFence-*` come from the gateway alone; an HTTP/1.0 client gets no chunks and no 1xx.

use policy::budget::Figures;

use super::limits::limit_headers;
use super::request_id::RequestId;
use super::time::date_header;
use crate::http1::headers::classify_response;
use crate::http1::write::{end, header, header_decimal, response_framing, status_line};
use crate::http1::{Response, ResponseFacts, ResponseFraming, ResponseName, Upgrade, Version};

/// The most units that `PayFence-Cost` may name.
pub const COST_MAX: u64 = 1_000_000_000;

/// What an origin says a request cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Nothing: the charge stays.
    None,
    /// So many units, at most [`COST_MAX`].
    Units(u64),
    /// Something that is no cost, or more than one: the charge stays, and it is counted.
    Ignored,
}

/// What is changed in a response.
#[derive(Debug, Clone, Copy)]
pub struct ResponseEdit<'a> {
    /// From row 11 of the decision table on: the origin's limit fields are dropped, known figures or not.
    pub is_metered: bool,
    /// The entitlement's figures, written as limit fields.
    pub figures: Option<&'a Figures>,
    /// The site's `Strict-Transport-Security`, in place of the origin's; only where the request came over TLS
    /// (RFC 6797 §7.2).
    pub hsts: Option<&'a str>,
    /// Unix seconds.
    pub now_s: i64,
    /// The request's id.
    pub request_id: &'a RequestId,
    /// What the client speaks.
    pub client_version: Version,
    /// The client's connection ends with this response.
    pub close: bool,
    /// How the body is delimited towards the client: [`client_framing`].
    pub framing_out: ResponseFraming,
}

/// How a body is delimited towards the client. Of one that ends with the origin's connection an
/// HTTP/1.1 client learns by chunks that it is complete; an HTTP/1.0 client knows no chunks.
#[must_use]
pub const fn client_framing(facts: &ResponseFacts, client: Version) -> ResponseFraming {
    match (facts.framing, client) {
        (ResponseFraming::UntilClose, Version::Http11) => ResponseFraming::Chunked,
        (ResponseFraming::Chunked, Version::Http10) => ResponseFraming::UntilClose,
        (framing, _) => framing,
    }
}

/// Appends the head of a final response or of a 101.
pub fn write_response(out: &mut Vec<u8>, response: &Response<'_>, edit: &ResponseEdit<'_>) {
    let facts = response.facts();
    status_line(out, facts.status, response.reason());
    let mut has_date = false;
    response.write_headers(out, |line| {
        let passes = response.forwards(line, edit.is_metered)
            && match line.class {
                // Without chunks there are no trailers to announce.
                ResponseName::Trailer => edit.framing_out == ResponseFraming::Chunked,
                ResponseName::StrictTransportSecurity => edit.hsts.is_none(),
                _ => true,
            };
        has_date |= passes && line.class == ResponseName::Date && !line.underscored;
        passes
    });
    if !has_date && facts.status >= 200 {
        // RFC 9110 §6.6.1: a recipient with a clock adds what the origin left out.
        date_header(out, edit.now_s);
    }
    if let Some(figures) = edit.figures {
        limit_headers(out, figures, edit.now_s);
    }
    if let Some(hsts) = edit.hsts {
        header(out, b"Strict-Transport-Security", hsts.as_bytes());
    }
    header(out, b"PayFence-Request-Id", edit.request_id.as_bytes());
    framing(out, &facts, edit.framing_out);
    connection(out, &facts, edit);
    end(out);
}

fn framing(out: &mut Vec<u8>, facts: &ResponseFacts, framing_out: ResponseFraming) {
    response_framing(out, framing_out);
    // The answer to HEAD and 304 say what a GET would have brought; 1xx and 204 may not (RFC 9110
    // §8.6).
    let may_tell = facts.status >= 200 && facts.status != 204;
    if framing_out == ResponseFraming::None
        && may_tell
        && let Some(length) = facts.content_length
    {
        header_decimal(out, b"Content-Length", length);
    }
}

fn connection(out: &mut Vec<u8>, facts: &ResponseFacts, edit: &ResponseEdit<'_>) {
    if facts.is_switching() {
        header(out, b"Connection", b"Upgrade");
        if facts.upgrade == Some(Upgrade::WebSocket) {
            header(out, b"Upgrade", b"websocket");
        }
    } else if edit.close || edit.framing_out == ResponseFraming::UntilClose {
        header(out, b"Connection", b"close");
    } else if edit.client_version == Version::Http10 {
        header(out, b"Connection", b"keep-alive");
    }
}

/// Appends the head of an interim response (RFC 9110 §15.2); nothing for an HTTP/1.0 client, which
/// would take it for the final one. Returns whether anything was appended.
pub fn interim(out: &mut Vec<u8>, response: &Response<'_>, client: Version) -> bool {
    if client == Version::Http10 {
        return false;
    }
    status_line(out, response.facts().status, response.reason());
    response.write_headers(out, |line| {
        response.forwards(line, true) && line.class != ResponseName::StrictTransportSecurity
    });
    end(out);
    true
}

/// Whether a trailer field of the origin's is passed on to the client (RFC 9110 §6.5.1).
#[must_use]
pub fn response_trailer_passes(name: &[u8]) -> bool {
    classify_response(name).name.passes_in_trailers()
}

/// Reads `PayFence-Cost`: exactly one, a decimal integer of at most [`COST_MAX`].
#[must_use]
pub fn cost_header(response: &Response<'_>) -> Cost {
    let mut values = response.values(ResponseName::PayFenceCost);
    let Some(first) = values.next() else { return Cost::None };
    if values.next().is_some() || first.is_empty() {
        return Cost::Ignored;
    }
    let units = first.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(sum * 10 + digit).filter(|sum| *sum <= COST_MAX)
    });
    units.map_or(Cost::Ignored, Cost::Units)
}

#[cfg(test)]
#[path = "forward_response_tests.rs"]
mod tests;
