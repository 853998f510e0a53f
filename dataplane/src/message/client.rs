//! Who the client is, behind proxies that the operator trusts.
//!
//! In: the peer's address, `X-Forwarded-For`, the trusted networks. Out: the client's address.
//! Always holds: what an untrusted peer says of itself counts for nothing; of a chain, the rightmost
//! address that is not a trusted proxy's is the client, for all left of it is hearsay.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::http1::fields::list;
use crate::http1::{Request, RequestName};

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    /// The client's address; IPv4 in IPv6 (RFC 4291 §2.5.5.2) as IPv4.
    pub ip: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub peer_is_trusted: bool,
}

/// Finds the client of a request that came from `peer`.
#[must_use]
pub fn client_address(request: &Request<'_>, peer: IpAddr, trusted: &[IpNet]) -> ClientAddress {
    let peer = peer.to_canonical();
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(&ip));
    if !is_trusted(peer) {
        return ClientAddress { ip: peer, peer_is_trusted: false };
    }
    // From left to right: an untrusted address always replaces what stands left of it, a trusted one
    // only where nothing does. What is no address ends the chain, so all left of it is forgotten.
    let chain = request.values(RequestName::XForwardedFor).flat_map(list);
    let ip = chain.fold(None, |found, member| match parse_address(member) {
        None => None,
        Some(ip) if found.is_some() && is_trusted(ip) => found,
        Some(ip) => Some(ip),
    });
    ClientAddress { ip: ip.unwrap_or(peer), peer_is_trusted: true }
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn parse_address(member: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(member).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let ip = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| bracketed().map(IpAddr::V6))
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
