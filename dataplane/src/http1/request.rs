//! Request heads: bytes to method, target, header lines and the facts that follow from them.
//!
//! In: what a client sent so far. Out: `Partial`, a filled [`RequestHead`] and the head's length,
//! or why it is refused. Path and query stay byte for byte as received.
//!
//! What always holds: a head that parses has one reading (RFC 9112); the result does not depend on
//! how the bytes were split into reads; a warm head is refilled without allocating.

use std::mem::MaybeUninit;

use httparse::ParserConfig;
use memchr::memchr;

use super::error::HeadError;
use super::fields::{self, ConnectionOptions, Entry, Fields, Framing, Header, Span};
use super::headers::{RequestName, classify_request};
use super::host::{same_host, split_host_port};
use super::request_line::{
    RequestLine, check_begun_line, is_target, request_line, skip_empty_lines, split_absolute,
};
use super::scan::{Verdict, explain, scan, worth_a_look};
use super::{HEADERS_CAP, Limits, Parse, Upgrade, Version};

/// How a request's body is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFraming {
    /// No body, and no field that says so.
    #[default]
    None,
    /// `Content-Length`, possibly 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

impl BodyFraming {
    /// Whether no body byte can follow.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// The forms of a request target that are accepted (RFC 9112 §3.2). Authority-form belongs to
/// `CONNECT`, which is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*`, for `OPTIONS` alone.
    Asterisk,
}

/// What follows from a request head as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestFacts {
    /// The version of the request line.
    pub version: Version,
    /// The form of the target.
    pub target_form: TargetForm,
    /// How the body is delimited.
    pub framing: BodyFraming,
    /// The client lets the connection persist (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The client waits for `100 Continue`: HTTP/1.1, with a body to come (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// `TE` names `trailers`.
    pub te_trailers: bool,
    /// `Connection: upgrade` with `Upgrade`. [`Upgrade::WebSocket`] only on an HTTP/1.1 `GET`
    /// without a body (RFC 6455 §4.1); all else is [`Upgrade::Other`].
    pub upgrade: Option<Upgrade>,
}

/// A request head's places in the input: scratch that is filled by [`parse_request`] and read
/// through [`RequestHead::view`].
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    facts: RequestFacts,
    method: Span,
    target: Span,
    authority: Span,
    path: Span,
    query: Option<Span>,
    host: Option<Span>,
    fields: Fields<RequestName>,
}

impl RequestHead {
    /// An empty head; it allocates when first filled.
    pub fn new() -> Self {
        Self::default()
    }

    /// What follows from the head as a whole.
    pub const fn facts(&self) -> RequestFacts {
        self.facts
    }

    /// The head over the bytes it was parsed from. Other bytes give wrong or empty parts, never a
    /// panic.
    pub const fn view<'a>(&'a self, input: &'a [u8]) -> Request<'a> {
        Request { head: self, input }
    }

    fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }
}

/// Which headers an exchange passes on as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ForwardRules {
    /// The site's `allow_override_headers`.
    pub override_headers: bool,
    /// The peer is a trusted proxy: its `Forwarded` and `X-Real-IP` stay.
    pub trusted_peer: bool,
}

/// A parsed request head with its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    head: &'a RequestHead,
    input: &'a [u8],
}

impl<'a> Request<'a> {
    /// What follows from the head as a whole.
    pub const fn facts(&self) -> RequestFacts {
        self.head.facts
    }

    /// The method as received: a token; methods are case-sensitive (RFC 9110 §9.1).
    pub fn method(&self) -> &'a [u8] {
        self.head.method.of(self.input)
    }

    /// Whether the response to this request has no body whatever its header says.
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    /// Whether sending it twice has the effect of sending it once (RFC 9110 §9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE")
    }

    /// The whole request target as received.
    pub fn target(&self) -> &'a [u8] {
        self.head.target.of(self.input)
    }

    /// The path as received. An absolute-form target without a path has `/` (RFC 9110 §4.2.3), or
    /// `*` when the method is `OPTIONS` and there is no query (RFC 9112 §3.2.4).
    pub fn path(&self) -> &'a [u8] {
        if !self.head.path.is_empty() {
            return self.head.path.of(self.input);
        }
        if self.method() == b"OPTIONS" && self.head.query.is_none() { b"*" } else { b"/" }
    }

    /// The query as received, without its `?`; `Some` and empty when a `?` ends the target.
    pub fn query(&self) -> Option<&'a [u8]> {
        self.head.query.map(|span| span.of(self.input))
    }

    /// `host[:port]` as received: the value of `Host`, or without one (HTTP/1.0) the authority of
    /// an absolute-form target. Always of a form that [`split_host_port`] accepts.
    pub fn host(&self) -> Option<&'a [u8]> {
        let authority = Some(self.head.authority).filter(|span| !span.is_empty());
        self.head.host.or(authority).map(|span| span.of(self.input))
    }

    /// All header lines in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a, RequestName>> + Clone + use<'a> {
        self.head.fields.iter(self.input)
    }

    /// Appends the header lines that `passes` accepts, as they were received.
    pub fn write_headers(
        &self,
        out: &mut Vec<u8>,
        passes: impl FnMut(&Header<'a, RequestName>) -> bool,
    ) {
        self.head.fields.write(self.input, out, passes);
    }

    /// The values of all headers of one class, none that are merely underscored.
    pub fn values(&self, class: RequestName) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.headers()
            .filter(move |header| header.class == class && !header.underscored)
            .map(|header| header.value)
    }

    /// The values of all headers of this name, without case: for names that only a site knows.
    pub fn values_named<'n>(
        &self,
        name: &'n [u8],
    ) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a, 'n> {
        self.headers()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// Whether `Connection` names this field.
    pub fn is_nominated(&self, name: &[u8]) -> bool {
        self.head.fields.is_nominated(self.input, name)
    }

    /// Whether a header is passed on as it is. Headers that the gateway writes itself (`Host`,
    /// framing, `TE`, `Upgrade`, `Expect`, `X-Forwarded-*`) are not, nor are hop-by-hop ones, those
    /// that `Connection` names, and look-alikes with `_` of any that is dropped or written.
    pub fn forwards(&self, header: &Header<'_, RequestName>, rules: ForwardRules) -> bool {
        use RequestName as N;
        match header.class {
            N::Other => !self.is_nominated(header.name),
            N::Authorization | N::Cookie | N::Origin | N::AccessControlRequestMethod => {
                !self.is_nominated(header.name)
            }
            // A trusted proxy says these for itself: a client behind it must not be able to strip
            // them by naming them in a Connection that the proxy let through.
            N::Forwarded | N::XRealIp => rules.trusted_peer && !header.underscored,
            N::Override => rules.override_headers && !self.is_nominated(header.name),
            N::Trailer => self.head.facts.framing == BodyFraming::Chunked && !header.underscored,
            N::Connection
            | N::HopByHop
            | N::Host
            | N::ContentLength
            | N::TransferEncoding
            | N::Te
            | N::Upgrade
            | N::Expect
            | N::XForwardedFor
            | N::XForwardedProto
            | N::XForwardedHost
            | N::PayFence => false,
        }
    }
}

/// Parses a request head from the front of `input`.
///
/// `seen` is how many bytes of the same input an earlier call has answered with
/// [`Parse::Partial`] (0 on the first): it makes a head that trickles in cheap, and changes no
/// result. On `Complete` the head is filled; otherwise its content is of no use.
pub fn parse_request(
    input: &[u8],
    seen: usize,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<Parse, HeadError> {
    if !worth_a_look(input, seen, limits) {
        return Ok(Parse::Partial);
    }
    head.clear();
    let Some(from) = skip_empty_lines(input)? else {
        return Ok(Parse::Partial);
    };
    let scan = scan(input, from, limits);
    let Some(line_end) = scan.start_line_end else {
        let rest = input.get(from..).unwrap_or_default();
        let begun = memchr(b'\n', rest).and_then(|end| rest.get(..end)).unwrap_or(rest);
        check_begun_line(begun.strip_suffix(b"\r").unwrap_or(begun), limits)?;
        return unfinished(scan.verdict);
    };
    let line = input.get(from..line_end).unwrap_or_default();
    let line = request_line(line, limits)?;
    head.take_line(input, line)?;
    let lines = input.get(from..scan.lines_end).unwrap_or_default();
    let header_block = input.get(line_end + 2..scan.lines_end).unwrap_or_default();
    let mut scratch = [const { MaybeUninit::uninit() }; HEADERS_CAP];
    let mut parsed = httparse::Request::new(&mut []);
    ParserConfig::default()
        .parse_request_with_uninit_headers(&mut parsed, lines, &mut scratch)
        .map_err(|_| explain(header_block))?;
    if scan.verdict != Verdict::Complete {
        return unfinished(scan.verdict);
    }
    head.take_headers(input, parsed.headers)?;
    Ok(Parse::Complete { len: scan.lines_end })
}

fn unfinished(verdict: Verdict) -> Result<Parse, HeadError> {
    match verdict {
        Verdict::Failed(error) => Err(error.into()),
        Verdict::Complete | Verdict::Partial => Ok(Parse::Partial),
    }
}

impl RequestHead {
    /// Takes in the request line and takes the target apart.
    fn take_line(&mut self, input: &[u8], line: RequestLine<'_>) -> Result<(), HeadError> {
        self.facts.version = line.version;
        self.method = Span::within(input, line.method);
        self.target = Span::within(input, line.target);
        if matches!(line.method, b"CONNECT" | b"TRACE") {
            return Err(HeadError::MethodRefused);
        }
        if !is_target(line.target) {
            return Err(HeadError::Target);
        }
        let path_and_query = match line.target {
            b"*" if line.method == b"OPTIONS" => {
                self.facts.target_form = TargetForm::Asterisk;
                line.target
            }
            [b'/', ..] => line.target,
            absolute => {
                self.facts.target_form = TargetForm::Absolute;
                let (authority, rest) = split_absolute(absolute)?;
                self.authority = Span::within(input, authority);
                rest
            }
        };
        let (path, query) = match memchr(b'?', path_and_query) {
            Some(mark) => (path_and_query.get(..mark), path_and_query.get(mark + 1..)),
            None => (Some(path_and_query), None),
        };
        self.path = Span::within(input, path.unwrap_or_default());
        self.query = query.map(|query| Span::within(input, query));
        Ok(())
    }

    /// Takes in the header lines and draws the facts from them, in one pass.
    fn take_headers(
        &mut self,
        input: &[u8],
        headers: &[httparse::Header<'_>],
    ) -> Result<(), HeadError> {
        let mut framing = Framing::default();
        let mut options = ConnectionOptions::default();
        let mut expects = false;
        let mut upgrade = None;
        for header in headers {
            let class = classify_request(header.name.as_bytes());
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
                RequestName::Host if self.host.is_some() => return Err(HeadError::HostRepeated),
                RequestName::Host => self.host = Some(Span::within(input, value)),
                RequestName::ContentLength => framing.content_length(value)?,
                RequestName::TransferEncoding => framing.transfer_encoding(value)?,
                RequestName::Connection => self.fields.connection(input, value, &mut options)?,
                RequestName::Upgrade => upgrade = fields::upgrade(value, upgrade),
                RequestName::Te => {
                    self.facts.te_trailers |=
                        fields::list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
                }
                // Anything but one plain value has been read differently by different servers,
                // which then disagree on where the body is.
                RequestName::Expect if expects || !value.eq_ignore_ascii_case(b"100-continue") => {
                    return Err(HeadError::Expect);
                }
                RequestName::Expect => expects = true,
                _ => {}
            }
        }
        let version = self.facts.version;
        framing.check(version)?;
        self.facts.framing = match framing.content_length {
            _ if framing.chunked => BodyFraming::Chunked,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::None,
        };
        self.facts.keep_alive = options.persists(version);
        self.facts.expect_continue =
            expects && version == Version::Http11 && !self.facts.framing.is_empty();
        self.facts.upgrade = self.upgrade(input, upgrade.filter(|_| options.upgrade));
        self.check_host(input)
    }

    fn upgrade(&self, input: &[u8], asked: Option<Upgrade>) -> Option<Upgrade> {
        let allowed = self.facts.version == Version::Http11
            && self.facts.framing.is_empty()
            && self.method.of(input) == b"GET";
        asked.map(|protocol| if allowed { protocol } else { Upgrade::Other })
    }

    /// RFC 9112 §3.2: `Host` once in HTTP/1.1, valid, and the same as the target's authority.
    fn check_host(&self, input: &[u8]) -> Result<(), HeadError> {
        let Some(host) = self.host else {
            return match self.facts.version {
                Version::Http11 => Err(HeadError::HostMissing),
                Version::Http10 => Ok(()),
            };
        };
        let host = host.of(input);
        if split_host_port(host).is_none() {
            return Err(HeadError::HostInvalid);
        }
        if self.facts.target_form == TargetForm::Absolute {
            let https = matches!(self.target.of(input).get(4), Some(b's' | b'S'));
            let default_port = if https { 443 } else { 80 };
            if !same_host(host, self.authority.of(input), default_port) {
                return Err(HeadError::HostMismatch);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "request_properties_tests.rs"]
mod properties;
