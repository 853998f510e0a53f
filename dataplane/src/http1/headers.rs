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
    /// `Strict-Transport-Security` (RFC 6797).
    StrictTransportSecurity,
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

const fn fold_byte(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

/// Whether two names are the same without case and with `_` standing for `-`: the test for names
/// that only a site knows (its `token_header`, its `origin_headers`).
pub fn same_name_folded(left: &[u8], right: &[u8]) -> bool {
    let differ = |differ: u8, (a, b): (&u8, &u8)| differ | (fold_byte(*a) ^ fold_byte(*b));
    left.len() == right.len()
        && left.first().map(|byte| fold_byte(*byte)) == right.first().map(|byte| fold_byte(*byte))
        // Without an early exit the compiler makes vectors of it.
        && left.iter().zip(right).fold(0, differ) == 0
}

/// Classifies a request header name.
pub fn classify_request(name: &[u8]) -> Classified<RequestName> {
    use RequestName as N;
    let candidates: &[(&[u8], N)] = match name.len() {
        2 => &[(b"te", N::Te)],
        4 => &[(b"host", N::Host)],
        6 => &[(b"cookie", N::Cookie), (b"expect", N::Expect), (b"origin", N::Origin)],
        7 => &[(b"trailer", N::Trailer), (b"upgrade", N::Upgrade)],
        9 => &[(b"forwarded", N::Forwarded), (b"x-real-ip", N::XRealIp)],
        10 => &[(b"connection", N::Connection), (b"keep-alive", N::HopByHop)],
        13 => &[
            (b"authorization", N::Authorization),
            (b"x-rewrite-url", N::Override),
            (b"x-http-method", N::Override),
        ],
        14 => &[
            (b"content-length", N::ContentLength),
            (b"x-original-url", N::Override),
            (b"http2-settings", N::HopByHop),
        ],
        15 => &[(b"x-forwarded-for", N::XForwardedFor)],
        16 => &[(b"x-forwarded-host", N::XForwardedHost), (b"proxy-connection", N::HopByHop)],
        17 => &[
            (b"x-forwarded-proto", N::XForwardedProto),
            (b"transfer-encoding", N::TransferEncoding),
            (b"x-method-override", N::Override),
        ],
        18 => &[(b"proxy-authenticate", N::HopByHop)],
        19 => &[(b"proxy-authorization", N::HopByHop)],
        22 => &[(b"x-http-method-override", N::Override)],
        29 => &[(b"access-control-request-method", N::AccessControlRequestMethod)],
        _ => &[],
    };
    classify(name, candidates, &[(b"payfence-", N::PayFence)])
}

/// Classifies a response header name.
pub fn classify_response(name: &[u8]) -> Classified<ResponseName> {
    use ResponseName as N;
    let candidates: &[(&[u8], N)] = match name.len() {
        2 => &[(b"te", N::Te)],
        4 => &[(b"date", N::Date), (b"vary", N::Vary)],
        6 => &[(b"server", N::Server)],
        7 => &[(b"trailer", N::Trailer), (b"upgrade", N::Upgrade)],
        9 => &[(b"ratelimit", N::RateLimit)],
        10 => &[(b"connection", N::Connection), (b"keep-alive", N::HopByHop)],
        11 => &[(b"retry-after", N::RetryAfter)],
        13 => &[(b"payfence-cost", N::PayFenceCost)],
        14 => &[(b"content-length", N::ContentLength)],
        16 => &[
            (b"ratelimit-policy", N::RateLimitPolicy),
            (b"www-authenticate", N::WwwAuthenticate),
            (b"proxy-connection", N::HopByHop),
        ],
        17 => &[
            (b"transfer-encoding", N::TransferEncoding),
            (b"x-ratelimit-limit", N::XRateLimit),
            (b"x-ratelimit-reset", N::XRateLimit),
        ],
        18 => &[(b"proxy-authenticate", N::HopByHop)],
        19 => &[(b"proxy-authorization", N::HopByHop)],
        21 => &[(b"x-ratelimit-remaining", N::XRateLimit)],
        25 => &[
            (b"proxy-authentication-info", N::HopByHop),
            (b"strict-transport-security", N::StrictTransportSecurity),
        ],
        _ => &[],
    };
    let prefixes: &[(&[u8], N)] =
        &[(b"payfence-", N::PayFence), (b"access-control-", N::AccessControl)];
    classify(name, candidates, prefixes)
}

/// Finds a name among those of its length, and else by how it begins.
fn classify<N: Copy + Default>(
    name: &[u8],
    candidates: &[(&[u8], N)],
    prefixes: &[(&[u8], N)],
) -> Classified<N> {
    let whole = candidates.iter().find(|(known, _)| same_name_folded(name, known));
    let found = whole.or_else(|| {
        prefixes.iter().find(|(prefix, _)| {
            name.get(..prefix.len()).is_some_and(|begin| same_name_folded(begin, prefix))
        })
    });
    match found {
        Some(&(_, class)) => Classified { name: class, underscored: name.contains(&b'_') },
        None => Classified::default(),
    }
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
