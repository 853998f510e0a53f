//! What a decision may look at, extracted from a request's head; and what of it is the token and must be removed.
//!
//! In: header fields, query and connection facts, as byte slices of the received head. Out: [`Facts`], borrowed from
//! them, and helpers that tell the writer which values to leave out.
//! Always holds: nothing allocates; what is recognised as a token here is recognised by the removing helpers too.

use std::net::IpAddr;

use crate::token::{TOKEN_CHARS_MAX, is_pf_form};

/// Where a site's clients put their tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenPlaces<'s> {
    /// The header besides `Authorization: Bearer`; compared without case.
    pub header: &'s str,
    /// The query parameter, if the site has one; compared exactly, after percent-decoding.
    pub query: Option<&'s str>,
    /// Whether keys of other systems are taken.
    pub foreign: bool,
}

/// A token as the client meant it: percent-decoding undone where it came in the query.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack; boxing it would allocate")]
pub enum TokenValue<'a> {
    /// A part of the head.
    Borrowed(&'a [u8]),
    /// Decoded from the query.
    Decoded {
        /// The value, followed by zeroes.
        bytes: [u8; TOKEN_CHARS_MAX],
        /// Bytes of `bytes` that count.
        len: usize,
    },
}

impl TokenValue<'_> {
    /// The token's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Decoded { bytes, len } => bytes.get(..*len).unwrap_or_default(),
        }
    }
}

/// What a request has in the places for a token.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack; boxing it would allocate")]
pub enum Presented<'a> {
    /// No place has a value.
    Nothing,
    /// Some place has a value, but none that can be a token of this site.
    Unusable,
    /// The value that counts.
    Token(TokenValue<'a>),
}

/// What a decision may look at.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The method as received.
    pub method: &'a [u8],
    /// The path as received, less the `/SLUG` that named the site; never empty.
    pub path: &'a [u8],
    /// The token.
    pub token: Presented<'a>,
    /// The first `Origin` header.
    pub origin: Option<&'a [u8]>,
    /// Whether there is an `Access-Control-Request-Method` header.
    pub has_access_control_request_method: bool,
    /// Whether the request has a body.
    pub has_body: bool,
    /// The client's address, behind trusted proxies already resolved.
    pub client: IpAddr,
}

/// The parts of a request's head that are not headers.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// The method as received.
    pub method: &'a [u8],
    /// The path as received, less `/SLUG`; empty counts as `/`.
    pub path: &'a [u8],
    /// What stands after the first `?`.
    pub query: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    /// Extracts the facts in one pass over the headers.
    pub fn extract(
        line: RequestLine<'a>,
        headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        places: TokenPlaces<'_>,
        has_body: bool,
        client: IpAddr,
    ) -> Self {
        let mut authorization = Place::default();
        let mut token_header = Place::default();
        let mut origin = None;
        let mut has_access_control_request_method = false;
        for (name, value) in headers {
            if name.eq_ignore_ascii_case(b"authorization") {
                if let Some(value) = bearer(value) {
                    authorization.see(value, places.foreign);
                }
            } else if name.eq_ignore_ascii_case(b"origin") {
                origin = origin.or(Some(value));
            } else if name.eq_ignore_ascii_case(b"access-control-request-method") {
                has_access_control_request_method = true;
            }
            if name.eq_ignore_ascii_case(places.header.as_bytes()) {
                token_header.see(value.trim_ascii(), places.foreign);
            }
        }
        let token = match authorization.token.or(token_header.token) {
            Some(value) => Presented::Token(TokenValue::Borrowed(value)),
            None => {
                let seen = authorization.has_value || token_header.has_value;
                in_query(line.query, places, seen)
            }
        };
        let path = if line.path.is_empty() { b"/" } else { line.path };
        Self {
            method: line.method,
            path,
            token,
            origin,
            has_access_control_request_method,
            has_body,
            client,
        }
    }

    /// Whether this is a CORS preflight (Fetch standard, CORS-preflight request). The method must be exactly `OPTIONS`:
    /// what an origin makes of another case cannot be known.
    #[must_use]
    pub fn is_preflight(&self) -> bool {
        self.method == b"OPTIONS"
            && self.origin.is_some()
            && self.has_access_control_request_method
            && !self.has_body
    }
}

/// A path of the gateway's own, which is never forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayPath {
    /// `/.payfence/usage`.
    Usage,
    /// Anything else under `/.payfence/`.
    Unknown,
}

impl GatewayPath {
    /// Whether a site's path, as received and without query, is the gateway's own. It is compared as it stands: another
    /// spelling of it goes to the origin like any path.
    #[must_use]
    pub fn of(path: &[u8]) -> Option<Self> {
        match path.strip_prefix(b"/.payfence/")? {
            b"usage" => Some(Self::Usage),
            _ => Some(Self::Unknown),
        }
    }
}

/// What has been seen of one place for a token, over repeated headers.
#[derive(Default)]
struct Place<'a> {
    has_value: bool,
    token: Option<&'a [u8]>,
}

impl<'a> Place<'a> {
    fn see(&mut self, value: &'a [u8], foreign: bool) {
        if value.is_empty() {
            return;
        }
        self.has_value = true;
        if self.token.is_none() && (foreign || is_pf_form(value)) {
            self.token = Some(value);
        }
    }
}

/// The credentials of an `Authorization` value of scheme Bearer, whatever its case (RFC 9110 §11.1, RFC 6750 §2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.trim_ascii().split_first_chunk::<6>()?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer");
    let separated = rest.first().is_some_and(|byte| *byte == b' ' || *byte == b'\t');
    (is_bearer && separated).then(|| rest.trim_ascii())
}

/// The token in the query, when neither header has one.
fn in_query<'a>(
    query: Option<&'a [u8]>,
    places: TokenPlaces<'_>,
    mut has_value: bool,
) -> Presented<'a> {
    let (Some(query), Some(name)) = (query, places.query) else {
        return if has_value { Presented::Unusable } else { Presented::Nothing };
    };
    for parameter in query.split(|byte| *byte == b'&') {
        let Some(value) = value_of(parameter, name) else { continue };
        if value.is_empty() {
            continue;
        }
        has_value = true;
        if places.foreign || starts_pf(value) {
            return decode(value).map_or(Presented::Unusable, Presented::Token);
        }
    }
    if has_value { Presented::Unusable } else { Presented::Nothing }
}

/// The raw value of a query parameter if its name, percent-decoded, is `name`.
fn value_of<'a>(parameter: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let at = parameter.iter().position(|byte| *byte == b'=')?;
    let (raw_name, value) = (parameter.get(..at)?, parameter.get(at + 1..)?);
    percent_decoded(raw_name).eq(name.bytes()).then_some(value)
}

fn starts_pf(raw_value: &[u8]) -> bool {
    percent_decoded(raw_value).take(3).eq(*b"pf_")
}

/// Undoes percent-encoding; `None` when the value is too long to be a token.
fn decode(raw_value: &[u8]) -> Option<TokenValue<'_>> {
    if !raw_value.contains(&b'%') {
        return Some(TokenValue::Borrowed(raw_value));
    }
    let mut bytes = [0; TOKEN_CHARS_MAX];
    let mut len = 0;
    for byte in percent_decoded(raw_value) {
        *bytes.get_mut(len)? = byte;
        len += 1;
    }
    Some(TokenValue::Decoded { bytes, len })
}

/// The bytes of `raw` with `%XX` replaced; a `%` without two digits stands for itself. `+` stays: no token holds a space.
fn percent_decoded(raw: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let hex = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut rest = raw;
    std::iter::from_fn(move || {
        let (first, after) = rest.split_first()?;
        rest = after;
        if *first == b'%'
            && let [high, low, after_pair @ ..] = after
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            rest = after_pair;
            return Some(high << 4 | low);
        }
        Some(*first)
    })
}

/// Whether a request header carries a token that the origin must not see: a value of `pf_` form, or the key of another
/// system that was looked up, in a place for tokens. The name compares with `_` for `-`, as many origins read it.
/// Not to be asked when the site says `forward_token = true`.
#[must_use]
pub fn is_token_header(
    name: &[u8],
    value: &[u8],
    places: TokenPlaces<'_>,
    looked_up: Option<&[u8]>,
) -> bool {
    let is_token = |value: &[u8]| is_pf_form(value) || looked_up == Some(value);
    if name.eq_ignore_ascii_case(b"authorization") && bearer(value).is_some_and(is_token) {
        return true;
    }
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == places.header.len()
        && name.iter().map(fold).eq(places.header.as_bytes().iter().map(fold))
        && is_token(value.trim_ascii())
}

/// Appends to `out` the query without the parameters that carry a token the origin must not see, all other bytes as they
/// were. Returns whether anything was removed; when it was and nothing was appended, the `?` goes too.
/// Not to be asked when the site says `forward_token = true`.
pub fn strip_token_query(
    query: &[u8],
    places: TokenPlaces<'_>,
    looked_up: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> bool {
    let Some(name) = places.query else {
        out.extend_from_slice(query);
        return false;
    };
    let is_token = |parameter: &[u8]| {
        value_of(parameter, name).is_some_and(|value| {
            starts_pf(value)
                || looked_up.is_some_and(|token| percent_decoded(value).eq(token.iter().copied()))
        })
    };
    let (mut removed, mut is_first) = (false, true);
    for parameter in query.split(|byte| *byte == b'&') {
        if is_token(parameter) {
            removed = true;
            continue;
        }
        if !is_first {
            out.push(b'&');
        }
        is_first = false;
        out.extend_from_slice(parameter);
    }
    removed
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
