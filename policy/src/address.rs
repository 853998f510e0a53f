//! Which site a request is for, by its Host and path, and whether its connection was opened for another.
//!
//! In: the Host (or `:authority`), the path, the gateway's own domain. Out: the site, and how much of the path named it.
//! In this order: a custom host of a site; `SLUG.GATEWAY_DOMAIN`; `/SLUG/…` on the bare gateway domain, on any address, on
//! `localhost`, or without Host. Hosts compare without case, port and trailing dot.
//! Always holds: nothing allocates; a host that fits none of these names no site, whatever the path.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ids::SiteIndex;
use crate::model::address::HOST_CHARS_MAX;
use crate::snapshot::Snapshot;

/// A path that names no site.
const NO_PATH: &[u8] = b"";

/// The site that an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteMatch {
    /// The site.
    pub site: SiteIndex,
    /// Bytes at the beginning of the path that named the site and are not part of the site's own path; what is left may be
    /// empty, which counts as `/`.
    pub prefix_len: usize,
}

/// A host as received, without port.
enum Host<'a> {
    /// A name in any case, without its trailing dot.
    Name(&'a [u8]),
    Address(IpAddr),
}

impl Snapshot {
    /// Finds the site of a request. `host` is `None` only for HTTP/1.0 without Host.
    #[must_use]
    pub fn find_site(
        &self,
        host: Option<&[u8]>,
        path: &[u8],
        gateway_domain: &str,
    ) -> Option<SiteMatch> {
        let Some(host) = host else { return self.find_by_path(path) };
        let whole_path = |site: SiteIndex| SiteMatch { site, prefix_len: 0 };
        match parse_host(host)? {
            Host::Address(address) => match self.names().addresses.get(&address) {
                Some(site) => Some(whole_path(*site)),
                None => self.find_by_path(path),
            },
            Host::Name(name) => {
                let mut buffer = [0; HOST_CHARS_MAX];
                let name = to_lower(name, &mut buffer)?;
                if let Some(site) = self.names().hosts.get(name) {
                    return Some(whole_path(*site));
                }
                let domain = gateway_domain.strip_suffix('.').unwrap_or(gateway_domain).as_bytes();
                if name.eq_ignore_ascii_case(domain) {
                    return self.find_by_path(path);
                }
                if let Some(slug) = subdomain_of(name, domain) {
                    return self.names().slugs.get(slug).copied().map(whole_path);
                }
                if name == b"localhost" { self.find_by_path(path) } else { None }
            }
        }
    }

    /// Whether a request for `site` came over a TLS connection that was opened for another site: 421 (RFC 9110
    /// §15.5.20), since what the client was shown, and what it showed, was for that one. `server_name` is what the
    /// client asked for (RFC 6066 §3); one that needs a path to name a site agrees with all of them, as none does.
    #[must_use]
    pub fn is_misdirected(
        &self,
        server_name: Option<&str>,
        site: SiteIndex,
        gateway_domain: &str,
    ) -> bool {
        let named = server_name
            .and_then(|name| self.find_site(Some(name.as_bytes()), NO_PATH, gateway_domain));
        named.is_some_and(|named| named.site != site)
    }

    fn find_by_path(&self, path: &[u8]) -> Option<SiteMatch> {
        let rest = path.strip_prefix(b"/")?;
        let slug = rest.split(|byte| *byte == b'/').next()?;
        let site = *self.names().slugs.get(slug)?;
        Some(SiteMatch { site, prefix_len: 1 + slug.len() })
    }
}

/// What stands before `.domain`, if anything does.
fn subdomain_of<'a>(name: &'a [u8], domain: &[u8]) -> Option<&'a [u8]> {
    let (before, end) = name.split_at_checked(name.len().checked_sub(domain.len())?)?;
    let slug = before.strip_suffix(b".")?;
    (!domain.is_empty() && end.eq_ignore_ascii_case(domain)).then_some(slug)
}

/// Copies `name` in lower case; `None` when it is longer than a host name can be.
fn to_lower<'b>(name: &[u8], buffer: &'b mut [u8; HOST_CHARS_MAX]) -> Option<&'b [u8]> {
    let lower = buffer.get_mut(..name.len())?;
    for (to, from) in lower.iter_mut().zip(name) {
        *to = from.to_ascii_lowercase();
    }
    Some(lower)
}

/// Takes port and trailing dot away (RFC 3986 §3.2.2, §3.2.3); `None` for what is no host.
fn parse_host(host: &[u8]) -> Option<Host<'_>> {
    if let Some(rest) = host.strip_prefix(b"[") {
        let end = rest.iter().position(|byte| *byte == b']')?;
        let address = std::str::from_utf8(rest.get(..end)?).ok()?.parse::<Ipv6Addr>().ok()?;
        return is_port(rest.get(end + 1..)?).then_some(Host::Address(IpAddr::V6(address)));
    }
    let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
    let (name, port) = host.split_at_checked(end)?;
    if !is_port(port) {
        return None;
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    // Only what ends in a digit can be an address: names are spared the attempt.
    let numeric = Some(name).filter(|name| name.last().is_some_and(u8::is_ascii_digit));
    let address = numeric.and_then(|name| std::str::from_utf8(name).ok()?.parse::<Ipv4Addr>().ok());
    Some(address.map_or(Host::Name(name), |address| Host::Address(IpAddr::V4(address))))
}

/// Whether this is nothing, or `:` and digits.
fn is_port(text: &[u8]) -> bool {
    match text.split_first() {
        None => true,
        Some((colon, digits)) => *colon == b':' && digits.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
