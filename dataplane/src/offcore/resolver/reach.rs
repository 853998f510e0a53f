//! Which addresses an origin may have.
//!
//! In: addresses that a name resolved to, or that a policy names itself. Out: those that may be connected to. Always holds: whoever may
//! only write origins into a control plane cannot make a node talk to its own machine or network (server-side request forgery), not
//! by a name whose answer changes after it was looked at either, since every answer is looked at.
//!
//! The ranges are those of the IANA special-purpose address registries (RFC 6890) that are not globally reachable, and the ways in which an
//! IPv4 address stands in an IPv6 one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Answer, Source};

/// Where origins may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// At any address: who writes the policy runs the node.
    #[default]
    Anywhere,
    /// At addresses of the public Internet.
    Public,
}

impl Reach {
    /// Whether an origin may have this address.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Anywhere, _) => true,
            (Self::Public, IpAddr::V4(address)) => is_public_v4(address),
            (Self::Public, IpAddr::V6(address)) => is_public_v6(address),
        }
    }
}

/// Why an address is not connected to.
pub(super) fn refusal(address: IpAddr) -> String {
    format!(
        "{address} is no address of the public Internet, and this node connects to no other for a control plane; \
         --allow-private-origins allows it"
    )
}

/// A source whose answers hold only addresses within a reach.
#[derive(Clone)]
pub(super) struct Within<S> {
    pub(super) source: S,
    pub(super) reach: Reach,
}

impl<S: Source> Source for Within<S> {
    async fn look_up(&self, name: &str) -> Result<Answer, String> {
        let mut answer = self.source.look_up(name).await?;
        let refused = answer.addresses.iter().copied().find(|address| !self.reach.allows(*address));
        answer.addresses.retain(|address| self.reach.allows(*address));
        match refused {
            Some(address) if answer.addresses.is_empty() => {
                Err(format!("`{name}`: {}", refusal(address)))
            }
            _ => Ok(answer),
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match a {
        // This network, loopback, multicast, reserved and broadcast.
        0 | 127 | 224..=255 => true,
        10 => true,
        // Shared with carriers (RFC 6598): a provider's own network.
        100 => (64..128).contains(&b),
        // Link-local, and there the metadata services of clouds.
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        // Benchmarks (RFC 2544) and documentation.
        198 => b == 18 || b == 19 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [first, second, third, _, _, _, high, low] = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (first, second) {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address within.
        (0x64, 0xff9b) if address.segments()[2..6] == [0; 4] => is_public_v4(embedded(high, low)),
        (0x2002, _) => is_public_v4(embedded(second, third)),
        // Teredo, ORCHID, benchmarks and others of the IETF's own block, and documentation.
        (0x2001, 0..=0x1ff | 0xdb8) => false,
        (0x3fff, 0..=0xfff) => false,
        // Global unicast is 2000::/3; what is outside is local, multicast or not given out.
        _ => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
