//! PROXY protocol, version 2: how a trusted load balancer tells the client's address before the first request.
//!
//! In: the first bytes of a connection from a trusted network. Out: the client's address and the header's length. Source: "The
//! PROXY protocol", versions 1 & 2, section 2.2. Always holds: bytes that begin with the signature are never taken for HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Begins every header of version 2; no HTTP request begins so.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// Longest address block and extensions that are taken.
const REST_BYTES_MAX: usize = 2048;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Preface {
    /// No PROXY header.
    None,
    /// The beginning of one: more bytes are needed.
    Partial,
    /// One of this many bytes; `client` is `None` where the proxy speaks for itself (LOCAL, or an unknown family).
    Header { len: usize, client: Option<IpAddr> },
    /// Something that begins like one and is none.
    Malformed,
}

/// Reads a PROXY header at the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Preface {
    let seen = bytes.len().min(SIGNATURE.len());
    if seen == 0 || bytes.get(..seen) != SIGNATURE.get(..seen) {
        return Preface::None;
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Preface::Partial;
    };
    let len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if len > REST_BYTES_MAX || fixed[12] >> 4 != 2 {
        return Preface::Malformed;
    }
    let Some(addresses) = rest.get(..len) else { return Preface::Partial };
    let client = match (fixed[12] & 0xf, fixed[13] >> 4) {
        // LOCAL: the proxy's own health check.
        (0, _) => None,
        (1, 1) => match addresses.first_chunk::<4>() {
            Some(octets) if len >= 12 => Some(IpAddr::V4(Ipv4Addr::from(*octets))),
            _ => return Preface::Malformed,
        },
        (1, 2) => match addresses.first_chunk::<16>() {
            Some(octets) if len >= 36 => Some(IpAddr::V6(Ipv6Addr::from(*octets))),
            _ => return Preface::Malformed,
        },
        (1, _) => None,
        _ => return Preface::Malformed,
    };
    Preface::Header { len: FIXED_BYTES + len, client }
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
