//! Response heads: bytes to status, header lines, and how the body is delimited.
//!
//! In: what an origin sent so far, and whether the request was `HEAD`. Out: `Partial`, a filled
//! [`ResponseHead`] and the head's length, or why it is no answer.
//!
//! What always holds: the body's framing has one reading (RFC 9112 §6.3) or the response is
//! refused; the result does not depend on how the bytes were split into reads.

use std::mem::MaybeUninit;

use httparse::ParserConfig;

use super::error::ResponseError;
use super::fields::{self, ConnectionOptions, Entry, Fields, Framing, Header, Span};
use super::headers::{ResponseName, classify_response};
use super::scan::{Verdict, explain, is_forbidden_in_value, scan, worth_a_look};
use super::{HEADERS_CAP, Limits, Parse, Upgrade, Version};

/// How a response's body is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResponseFraming {
    /// No body: 1xx, 204, 304, or the answer to `HEAD`.
    #[default]
    None,
    /// `Content-Length`, possibly 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Everything until the origin closes.
    UntilClose,
}

/// What follows from a response head as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseFacts {
    /// The version of the status line.
    pub version: Version,
    /// The status, 100 to 999.
    pub status: u16,
    /// How the body is delimited.
    pub framing: ResponseFraming,
    /// `Content-Length`, for an answer without a body too: what a `GET` would have brought.
    pub content_length: Option<u64>,
    /// The origin's connection may carry another request once the body is read.
    pub keep_alive: bool,
    /// What `Upgrade` names in a 101, whether or not `Connection` does too.
    pub upgrade: Option<Upgrade>,
}

impl ResponseFacts {
    /// An interim response (RFC 9110 §15.2) that a final one follows; 101 is none.
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// 101: the connection now speaks another protocol.
    pub const fn is_switching(&self) -> bool {
        self.status == 101
    }
}

/// A response head's places in the input: scratch that is filled by [`parse_response`] and read
/// through [`ResponseHead::view`].
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    facts: ResponseFacts,
    reason: Span,
    fields: Fields<ResponseName>,
}

impl ResponseHead {
    /// An empty head; it allocates when first filled.
    pub fn new() -> Self {
        Self::default()
    }

    /// What follows from the head as a whole.
    pub const fn facts(&self) -> ResponseFacts {
        self.facts
    }

    /// The head over the bytes it was parsed from. Other bytes give wrong or empty parts, never a
    /// panic.
    pub const fn view<'a>(&'a self, input: &'a [u8]) -> Response<'a> {
        Response { head: self, input }
    }

    fn clear(&mut self) {
        self.facts = ResponseFacts::default();
        self.reason = Span::default();
        self.fields.clear();
    }
}

/// A parsed response head with its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    head: &'a ResponseHead,
    input: &'a [u8],
}

impl<'a> Response<'a> {
    /// What follows from the head as a whole.
    pub const fn facts(&self) -> ResponseFacts {
        self.head.facts
    }

    /// The reason phrase as received; often empty.
    pub fn reason(&self) -> &'a [u8] {
        self.head.reason.of(self.input)
    }

    /// All header lines in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a, ResponseName>> + Clone + use<'a> {
        self.head.fields.iter(self.input)
    }

    /// Appends the header lines that `passes` accepts, as they were received.
    pub fn write_headers(
        &self,
        out: &mut Vec<u8>,
        passes: impl FnMut(&Header<'a, ResponseName>) -> bool,
    ) {
        self.head.fields.write(self.input, out, passes);
    }

    /// The values of all headers of one class, none that are merely underscored.
    pub fn values(&self, class: ResponseName) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.headers()
            .filter(move |header| header.class == class && !header.underscored)
            .map(|header| header.value)
    }

    /// Whether `Connection` names this field.
    pub fn is_nominated(&self, name: &[u8]) -> bool {
        self.head.fields.is_nominated(self.input, name)
    }

    /// Whether a header is passed on as it is. `rate_limit`: the answer carries the gateway's own
    /// `RateLimit` fields, so the origin's are dropped. Framing and hop-by-hop headers, those that
    /// `Connection` names, and any `PayFence-*` never pass; `Trailer` does with a chunked body.
    pub fn forwards(&self, header: &Header<'_, ResponseName>, rate_limit: bool) -> bool {
        use ResponseName as N;
        match header.class {
            N::Other
            | N::Date
            | N::Server
            | N::RetryAfter
            | N::WwwAuthenticate
            | N::AccessControl
            | N::Vary
            | N::StrictTransportSecurity => !self.is_nominated(header.name),
            N::RateLimit | N::RateLimitPolicy | N::XRateLimit => {
                !rate_limit && !self.is_nominated(header.name)
            }
            N::Trailer => {
                self.head.facts.framing == ResponseFraming::Chunked && !header.underscored
            }
            N::Connection
            | N::HopByHop
            | N::ContentLength
            | N::TransferEncoding
            | N::Te
            | N::Upgrade
            | N::PayFenceCost
            | N::PayFence => false,
        }
    }
}

/// Parses a response head from the front of `input`; `seen` as in
/// [`parse_request`](super::parse_request). Interim responses are heads of their own: call again
/// with what follows.
pub fn parse_response(
    input: &[u8],
    seen: usize,
    request_was_head: bool,
    limits: &Limits,
    head: &mut ResponseHead,
) -> Result<Parse, ResponseError> {
    if !worth_a_look(input, seen, limits) {
        return Ok(Parse::Partial);
    }
    head.clear();
    // Noise is refused at its first byte, without waiting for a line's end.
    if !input.iter().zip(b"HTTP/").all(|(got, wanted)| got == wanted) {
        return Err(ResponseError::StatusLine);
    }
    let scan = scan(input, 0, limits);
    let Some(line_end) = scan.start_line_end else {
        return unfinished(scan.verdict);
    };
    head.take_line(input, input.get(..line_end).unwrap_or_default())?;
    let lines = input.get(..scan.lines_end).unwrap_or_default();
    let header_block = input.get(line_end + 2..scan.lines_end).unwrap_or_default();
    let mut scratch = [const { MaybeUninit::uninit() }; HEADERS_CAP];
    let mut parsed = httparse::Response::new(&mut []);
    ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, lines, &mut scratch)
        .map_err(|_| explain(header_block))?;
    if scan.verdict != Verdict::Complete {
        return unfinished(scan.verdict);
    }
    head.take_headers(input, parsed.headers, request_was_head)?;
    Ok(Parse::Complete { len: scan.lines_end })
}

fn unfinished(verdict: Verdict) -> Result<Parse, ResponseError> {
    match verdict {
        Verdict::Failed(error) => Err(error.into()),
        Verdict::Complete | Verdict::Partial => Ok(Parse::Partial),
    }
}

impl ResponseHead {
    /// Takes in a complete status line, without its CRLF (RFC 9112 §4). The space before an empty
    /// reason phrase may be missing, as many servers leave it out.
    fn take_line(&mut self, input: &[u8], line: &[u8]) -> Result<(), ResponseError> {
        let mut parts = line.splitn(3, |&byte| byte == b' ');
        self.facts.version = match parts.next() {
            Some(b"HTTP/1.1") => Version::Http11,
            Some(b"HTTP/1.0") => Version::Http10,
            Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(ResponseError::Version);
            }
            _ => return Err(ResponseError::StatusLine),
        };
        self.facts.status = parts
            .next()
            .filter(|digits| digits.len() == 3)
            .and_then(fields::decimal)
            .and_then(|status| u16::try_from(status).ok())
            .filter(|&status| status >= 100)
            .ok_or(ResponseError::StatusLine)?;
        let reason = parts.next().unwrap_or_default();
        if reason.iter().any(|&byte| is_forbidden_in_value(byte)) {
            return Err(ResponseError::StatusLine);
        }
        self.reason = Span::within(input, reason);
        Ok(())
    }

    /// Takes in the header lines and draws the facts from them, in one pass.
    fn take_headers(
        &mut self,
        input: &[u8],
        headers: &[httparse::Header<'_>],
        request_was_head: bool,
    ) -> Result<(), ResponseError> {
        let mut framing = Framing::default();
        let mut options = ConnectionOptions::default();
        for header in headers {
            let class = classify_response(header.name.as_bytes());
            let value = header.value;
            self.fields.entries.push(Entry {
                name: Span::within(input, header.name.as_bytes()),
                value: Span::within(input, value),
                class,
            });
            if class.underscored {
                continue;
            }
            match class.name {
                ResponseName::ContentLength => framing.content_length(value)?,
                ResponseName::TransferEncoding => framing.transfer_encoding(value)?,
                ResponseName::Connection => self.fields.connection(input, value, &mut options)?,
                ResponseName::Upgrade => {
                    self.facts.upgrade = fields::upgrade(value, self.facts.upgrade);
                }
                _ => {}
            }
        }
        framing.check(self.facts.version)?;
        self.facts.content_length = framing.content_length;
        let status = self.facts.status;
        let bodiless = request_was_head || status < 200 || status == 204 || status == 304;
        self.facts.framing = match framing.content_length {
            _ if bodiless => ResponseFraming::None,
            _ if framing.chunked => ResponseFraming::Chunked,
            Some(length) => ResponseFraming::Length(length),
            None => ResponseFraming::UntilClose,
        };
        // An origin that announces a body where none may be (RFC 9110 §8.6, RFC 9112 §6.1) may
        // well send one: nothing after such a head can be taken for the next response.
        let announces_body = framing.chunked || framing.content_length.is_some_and(|len| len > 0);
        let doubtful = announces_body && (status < 200 || status == 204);
        self.facts.keep_alive = options.persists(self.facts.version)
            && self.facts.framing != ResponseFraming::UntilClose
            && !doubtful;
        Ok(())
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
