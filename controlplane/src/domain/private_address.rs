//! Origins that a stranger must not be able to name: addresses within the operator's own network.
//!
//! In: a host as written, later an address as resolved. Out: whether it is public.
//! Always holds: what is not known to be public is private; IPv6 forms that carry an IPv4 address are judged by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use policy::model::HostName;

/// Networks that are not the public internet (IANA special-purpose registries, RFC 6890), link-local with the metadata
/// services of clouds among them.
const PRIVATE_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];
/// Names that never leave a machine or a local network (RFC 6761, RFC 6762, RFC 8375), and those of metadata services.
const PRIVATE_NAMES: &[&str] = &[
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "home.arpa",
    "localdomain",
];

/// Whether an address is on the public internet.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !PRIVATE_V4.iter().any(|(network, prefix)| {
        Ipv4Net::new(*network, *prefix).is_ok_and(|network| network.contains(&address))
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within = |network: [u16; 8], prefix: u8| {
        Ipv6Net::new(Ipv6Addr::from(network), prefix).is_ok_and(|net| net.contains(&address))
    };
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let octets = address.octets();
    // NAT64 (RFC 6052) carries the IPv4 address last, 6to4 (RFC 3056) behind its prefix.
    if within([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96) {
        return is_public_v4(Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]));
    }
    if within([0x2002, 0, 0, 0, 0, 0, 0, 0], 16) {
        return is_public_v4(Ipv4Addr::new(octets[2], octets[3], octets[4], octets[5]));
    }
    // Global unicast is 2000::/3; of it, protocol assignments with Teredo, and documentation, are not.
    within([0x2000, 0, 0, 0, 0, 0, 0, 0], 3)
        && !within([0x2001, 0, 0, 0, 0, 0, 0, 0], 23)
        && !within([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32)
        && !within([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20)
}

/// Whether a host, as it is written, may be on the public internet. A name may still resolve to a private address.
#[must_use]
pub fn is_public_host(host: &HostName) -> bool {
    match host {
        HostName::Address(address) => is_public(*address),
        HostName::Name(name) => {
            name.contains('.')
                && !PRIVATE_NAMES.iter().any(|private| {
                    name == private
                        || name.strip_suffix(private).is_some_and(|rest| rest.ends_with('.'))
                })
        }
    }
}

/// Checks the host of an origin as it is written. A name may still resolve to a private address; that is for whoever
/// resolves it.
///
/// # Errors
/// What is allowed.
pub fn check_host(host: &HostName) -> Result<(), String> {
    if is_public_host(host) {
        return Ok(());
    }
    Err(format!(
        "{host} is not on the public internet; origins at private, loopback, link-local and metadata addresses are refused unless the operator runs the control plane with --allow-private-origins"
    ))
}

#[cfg(test)]
#[path = "private_address_tests.rs"]
mod tests;
