//! Addresses that webhooks may be sent to.
//!
//! In: a URL as an owner wrote it, later addresses as they are resolved. Out: whether a request may go there.
//! Always holds: unless the operator allows it, nothing goes to the operator's own network or over plain HTTP: the host
//! is judged as written, and every address again when a connection is made, so that a name that resolves otherwise by
//! then gains nothing.

use std::net::{IpAddr, SocketAddr};

use policy::model::HostName;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::private_address::{is_public, is_public_host};

const URL_BYTES_MAX: usize = 2_000;
/// Addresses of a name that are tried at most.
const ADDRESSES_MAX: usize = 16;

/// Checks a URL as it is written.
///
/// # Errors
/// What is allowed.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, String> {
    let expected = if allow_private { "http:// or https://" } else { "https://" };
    let wrong = || {
        format!(
            "expected {expected} with a host, at most {URL_BYTES_MAX} printable ASCII characters, without user, password or fragment"
        )
    };
    let is_plain = text.len() <= URL_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    let url = Url::parse(text).ok().filter(|_| is_plain).ok_or_else(wrong)?;
    let is_scheme = url.scheme() == "https" || (allow_private && url.scheme() == "http");
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|_| is_scheme && is_bare).ok_or_else(wrong)?;
    let host = HostName::parse(host)?;
    if allow_private || is_public_host(&host) {
        return Ok(url);
    }
    Err(format!(
        "{host} is not on the public internet; webhooks to private, loopback, link-local and metadata addresses are refused unless the operator runs the control plane with --allow-private-webhooks"
    ))
}

/// Looks names up as the system does, and forgets what must not be connected to.
#[derive(Clone, Copy, Debug)]
pub struct PublicResolver {
    /// Whether every address may be connected to.
    pub allow_private: bool,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
            let kept = keep(&found, allow_private);
            if kept.is_empty() {
                let text = format!("{} resolves to no public address", name.as_str());
                return Err(text.into());
            }
            let addresses: Addrs = Box::new(kept.into_iter());
            Ok(addresses)
        })
    }
}

/// Those that may be connected to; none where any is private: a name that has both is after something.
fn keep(found: &[SocketAddr], allow_private: bool) -> Vec<SocketAddr> {
    let is_good = |address: &SocketAddr| allow_private || is_allowed(address.ip());
    if found.iter().all(is_good) { found.to_vec() } else { Vec::new() }
}

fn is_allowed(address: IpAddr) -> bool {
    is_public(address.to_canonical())
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
