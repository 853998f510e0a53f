//! The one place that knows header names: what each means to a gateway.
//!
//! In: a field name as received. Out: its class, and whether it had `_` where the known name has
//! `-`. What always holds: an underscored name is never acted upon as the header it resembles (an
//! origin may read it as that header, so it is dropped where that header would be dropped or
//! written anew).

/// What a request header name means to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestName {
    /// Nothing in particular: passed on.
    #[default]
    Other,
    /// `Connection`.
    Connection,
    /// For one hop only, and of no use to us: `Keep-Alive`, `Proxy-Connection`,
    /// `Proxy-Authenticate`, `Proxy-Authorization`, `HTTP2-Settings`.
    HopByHop,
    /// `Host`.
    Host,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Upgrade`.
    Upgrade,
    /// `Expect`.
    Expect,
    /// `Authorization`.
    Authorization,
    /// `Cookie`.
    Cookie,
    /// `Origin`.
    Origin,
    /// `Access-Control-Request-Method`.
    AccessControlRequestMethod,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `X-Forwarded-Proto`.
    XForwardedProto,
    /// `X-Forwarded-Host`.
    XForwardedHost,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Real-IP`.
    XRealIp,
    /// Names that make some origins act on another path or method: `X-Original-URL`,
    /// `X-Rewrite-URL`, `X-HTTP-Method`, `X-HTTP-Method-Override`, `X-Method-Override`.
    Override,
    /// Any name that begins `PayFence-`.
    PayFence,
}

impl RequestName {
    /// Whether a trailer field of this name passes: not those of framing, nor any that the gateway
    /// drops, adds or looks for a token in (RFC 9110 §6.5.1).
    pub const fn passes_in_trailers(self) -> bool {
        matches!(self, Self::Other | Self::Cookie | Self::Origin | Self::AccessControlRequestMethod)
    }
}

/// What a response header name means to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResponseName {
    /// Nothing in particular: passed on.
    #[default]
    Other,
    /// `Connection`.
    Connection,
    /// For one hop only, and of no use to us: `Keep-Alive`, `Proxy-Connection`,
    /// `Proxy-Authenticate`, `Proxy-Authorization`, `Proxy-Authentication-Info`.
    HopByHop,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Upgrade`.
    Upgrade,
    /// `Date`.
    Date,
    /// `Server`.
    Server,
    /// `Retry-After`.
    RetryAfter,
    /// `WWW-Authenticate`.
    WwwAuthenticate,
    /// Any name that begins `Access-Control-`.
    AccessControl,
    /// `Vary`.
    Vary,
    /// `RateLimit`.
    RateLimit,
    /// `RateLimit-Policy`.
    RateLimitPolicy,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining`, `X-RateLimit-Reset`.
    XRateLimit,
    /// `PayFence-Cost`.
    PayFenceCost,
    /// Any other name that begins `PayFence-`.
    PayFence,
}

impl ResponseName {
    /// Whether a trailer field of this name passes: not those of framing, nor any that the gateway
    /// drops or replaces (RFC 9110 §6.5.1).
    pub const fn passes_in_trailers(self) -> bool {
        matches!(
            self,
            Self::Other
                | Self::Date
                | Self::Server
                | Self::RetryAfter
                | Self::WwwAuthenticate
                | Self::AccessControl
                | Self::Vary
        )
    }
}

/// A class, and how exactly the name matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Classified<N> {
    /// What the name means.
    pub name: N,
    /// The name has at least one `_` where the known name has `-`.
    pub underscored: bool,
}

/// Longer than every name that is known in full.
const FOLD_BYTES: usize = 32;

/// A name in lower case with `-` for `_`, cut off after [`FOLD_BYTES`].
struct Folded {
    bytes: [u8; FOLD_BYTES],
    len: usize,
}

impl Folded {
    fn new(name: &[u8]) -> Self {
        let mut bytes = [0; FOLD_BYTES];
        for (slot, &byte) in bytes.iter_mut().zip(name) {
            *slot = fold_byte(byte);
        }
        Self { bytes, len: name.len() }
    }

    /// The whole name; empty when it is longer than every known one.
    fn whole(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn begins(&self, prefix: &[u8]) -> bool {
        self.len >= prefix.len() && self.bytes.starts_with(prefix)
    }
}

const fn fold_byte(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

/// Whether two names are the same without case and with `_` standing for `-`: the test for names
/// that only a site knows (its `token_header`, its `origin_headers`).
pub fn same_name_folded(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(a, b)| fold_byte(*a) == fold_byte(*b))
}

/// Classifies a request header name.
pub fn classify_request(name: &[u8]) -> Classified<RequestName> {
    use RequestName as N;
    let folded = Folded::new(name);
    let class = match folded.whole() {
        b"te" => N::Te,
        b"host" => N::Host,
        b"cookie" => N::Cookie,
        b"expect" => N::Expect,
        b"origin" => N::Origin,
        b"trailer" => N::Trailer,
        b"upgrade" => N::Upgrade,
        b"forwarded" => N::Forwarded,
        b"x-real-ip" => N::XRealIp,
        b"connection" => N::Connection,
        b"authorization" => N::Authorization,
        b"content-length" => N::ContentLength,
        b"x-forwarded-for" => N::XForwardedFor,
        b"x-forwarded-host" => N::XForwardedHost,
        b"x-forwarded-proto" => N::XForwardedProto,
        b"transfer-encoding" => N::TransferEncoding,
        b"access-control-request-method" => N::AccessControlRequestMethod,
        b"x-original-url"
        | b"x-rewrite-url"
        | b"x-http-method"
        | b"x-method-override"
        | b"x-http-method-override" => N::Override,
        b"keep-alive"
        | b"proxy-connection"
        | b"proxy-authenticate"
        | b"proxy-authorization"
        | b"http2-settings" => N::HopByHop,
        _ if folded.begins(b"payfence-") => N::PayFence,
        _ => return Classified::default(),
    };
    Classified { name: class, underscored: has_underscore(name) }
}

/// Classifies a response header name.
pub fn classify_response(name: &[u8]) -> Classified<ResponseName> {
    use ResponseName as N;
    let folded = Folded::new(name);
    let class = match folded.whole() {
        b"te" => N::Te,
        b"date" => N::Date,
        b"vary" => N::Vary,
        b"server" => N::Server,
        b"trailer" => N::Trailer,
        b"upgrade" => N::Upgrade,
        b"ratelimit" => N::RateLimit,
        b"connection" => N::Connection,
        b"retry-after" => N::RetryAfter,
        b"payfence-cost" => N::PayFenceCost,
        b"content-length" => N::ContentLength,
        b"ratelimit-policy" => N::RateLimitPolicy,
        b"www-authenticate" => N::WwwAuthenticate,
        b"transfer-encoding" => N::TransferEncoding,
        b"x-ratelimit-limit" | b"x-ratelimit-reset" | b"x-ratelimit-remaining" => N::XRateLimit,
        b"keep-alive"
        | b"proxy-connection"
        | b"proxy-authenticate"
        | b"proxy-authorization"
        | b"proxy-authentication-info" => N::HopByHop,
        _ if folded.begins(b"payfence-") => N::PayFence,
        _ if folded.begins(b"access-control-") => N::AccessControl,
        _ => return Classified::default(),
    };
    Classified { name: class, underscored: has_underscore(name) }
}

fn has_underscore(name: &[u8]) -> bool {
    name.contains(&b'_')
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
