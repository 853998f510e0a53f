//! Host names and URLs as a policy names them.
//!
//! In: text. Out: [`HostName`] and [`Origin`] in one normal form.
//! Always holds: names are lower-case ASCII without trailing dot; two spellings of one host compare equal.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The longest host name in its written form (RFC 1035 §2.3.4), characters.
pub const HOST_CHARS_MAX: usize = 253;

/// A host: a DNS name or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostName {
    /// Lower-case, without trailing dot.
    Name(String),
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
}

impl HostName {
    /// Parses a host without port; IPv6 in brackets.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return address
                .parse::<Ipv6Addr>()
                .map(|address| Self::Address(IpAddr::V6(address)))
                .map_err(|_| "expected an IPv6 address between [ and ]".to_owned());
        }
        if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        // A last label of digits would be read as an address by some (WHATWG URL, "ends in a number").
        let ends_in_number =
            name.rsplit('.').next().is_none_or(|label| label.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > HOST_CHARS_MAX || ends_in_number || !name.split('.').all(is_label) {
            return Err(
                "expected a host name (letters, digits, `-`, `_` and dots; no port, no `*`), an \
                 IPv4 address, or an IPv6 address in brackets"
                    .to_owned(),
            );
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(formatter),
            Self::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
        }
    }
}

/// A DNS label (RFC 1123 §2.1), and `_`, which container networks use.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Whether `text` is a slug: a DNS label in lower case, letters, digits and `-`.
#[must_use]
pub fn is_slug(text: &str) -> bool {
    is_label(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// How an origin is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// Where a site's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// http or https.
    pub scheme: Scheme,
    /// The host to connect to.
    pub host: HostName,
    /// The port to connect to.
    pub port: u16,
    /// What stands before every path: empty, or `/` and more, not ending in `/`.
    pub path_prefix: String,
}

impl Origin {
    /// Parses `http://host[:port][/prefix]` or the same with https.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub fn parse(url: &str) -> Result<Self, String> {
        const WHAT: &str =
            "expected a URL such as http://127.0.0.1:9000 or https://api.example.com/v2";
        let fail = |problem: &str| format!("{WHAT}: {problem}");
        let (scheme, rest) = url.split_once("://").ok_or_else(|| fail("it has no scheme"))?;
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return Err(fail("the scheme must be http or https")),
        };
        if rest.contains(['?', '#']) {
            return Err(fail("no query and no fragment is allowed"));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(fail("no user name and password is allowed; use origin_headers"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| fail("the port is not a number"))?;
        let port = match port {
            None => default_port,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(fail("the port must be 1 to 65535")),
            },
        };
        let host = HostName::parse(host).map_err(|problem| fail(&problem))?;
        let path_prefix = path.trim_end_matches('/');
        if !path_prefix.split('/').skip(1).all(is_plain_segment) {
            return Err(fail(
                "the path prefix may hold visible ASCII, but no empty, `.` or `..` segment",
            ));
        }
        Ok(Self { scheme, host, port, path_prefix: path_prefix.to_owned() })
    }

    /// The value of `Host` for this origin: without the scheme's own port (RFC 9110 §7.2).
    #[must_use]
    pub fn authority(&self) -> String {
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => self.host.to_string(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

fn is_plain_segment(segment: &str) -> bool {
    const EXCLUDED: &[u8] = b"\"<>\\^`{|}";
    !matches!(segment, "" | "." | "..")
        && segment.bytes().all(|byte| byte.is_ascii_graphic() && !EXCLUDED.contains(&byte))
}

/// Splits an authority into host and port text; `None` when what stands after the last `:` is no port.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let after_host = match authority.find(']') {
        Some(at) => at + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at_checked(after_host)?;
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(port)))
        }
        _ => None,
    }
}

/// Checks an entry of `cors_origins`: `*`, or an origin as a browser sends it (RFC 6454 §6.2).
///
/// # Errors
/// A sentence that says what is allowed.
pub fn check_cors_origin(text: &str) -> Result<(), String> {
    if text == "*" {
        return Ok(());
    }
    let is_good = text.split_once("://").is_some_and(|(scheme, rest)| {
        let scheme_is_good = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'+' | b'-' | b'.')
            });
        let is_lower = !rest.bytes().any(|byte| byte.is_ascii_uppercase());
        scheme_is_good
            && is_lower
            && !rest.ends_with('.')
            && split_port(rest).is_some_and(|(host, _)| HostName::parse(host).is_ok())
    });
    if is_good {
        return Ok(());
    }
    Err("expected \"*\" or an origin in lower case as browsers send it, such as \
         \"https://app.example.com\" or \"http://localhost:3000\", without path"
        .to_owned())
}
