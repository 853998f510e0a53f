//! Hosts: the value of `Host` and the authority of an absolute-form target.
//!
//! In: bytes as received. Out: whether they are a host with an optional port, the two apart, and
//! whether two of them mean the same. What always holds: nothing is decoded, so there is one
//! reading; a percent sign in a host is refused although RFC 3986 §3.2.2 has room for it.

use std::net::Ipv6Addr;

/// Splits `host[:port]` (RFC 9110 §7.2) into the host, with the brackets of an IPv6 literal, and
/// the port. `None`: it is not of that form, the host is empty, or the port is over 65535. An
/// empty port (`host:`) is none.
pub fn split_host_port(value: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_len = match value.strip_prefix(b"[") {
        Some(literal) => {
            let inner_len = literal.iter().position(|&byte| byte == b']')?;
            is_ip_literal(literal.get(..inner_len)?).then_some(inner_len + 2)?
        }
        None => value.iter().position(|&byte| byte == b':').unwrap_or(value.len()),
    };
    let (host, rest) = value.split_at_checked(host_len)?;
    let is_name = || host.iter().all(|&byte| is_in_name(byte));
    if host.is_empty() || !(host.starts_with(b"[") || is_name()) {
        return None;
    }
    match rest.split_first() {
        None => Some((host, None)),
        Some((b':', [])) => Some((host, None)),
        Some((b':', digits)) => {
            let port = super::fields::decimal(digits)?;
            Some((host, Some(u16::try_from(port).ok()?)))
        }
        Some(_) => None,
    }
}

/// Whether two values of the form `host[:port]` name the same server of `http`: without case, a
/// trailing dot, or the default port.
pub fn same_host(left: &[u8], right: &[u8], default_port: u16) -> bool {
    let parts = |value| {
        split_host_port(value).map(|(host, port): (&[u8], _)| {
            (host.strip_suffix(b".").unwrap_or(host), port.unwrap_or(default_port))
        })
    };
    match (parts(left), parts(right)) {
        (Some((a, a_port)), Some((b, b_port))) => a_port == b_port && a.eq_ignore_ascii_case(b),
        _ => false,
    }
}

/// [`is_name_byte`], looked up: hosts are checked for every request.
#[expect(clippy::indexing_slicing, reason = "the table has a place for every byte")]
fn is_in_name(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}

/// [`is_name_byte`] of every byte.
#[expect(clippy::indexing_slicing, reason = "at compile time, within the table's length")]
static NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_name_byte(byte as u8);
        byte += 1;
    }
    table
};

/// RFC 3986 §3.2.2 `unreserved / sub-delims`.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

/// An IPv6 address; RFC 3986's `IPvFuture` has no future yet, zones have no place in `Host`.
fn is_ip_literal(inner: &[u8]) -> bool {
    std::str::from_utf8(inner).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
