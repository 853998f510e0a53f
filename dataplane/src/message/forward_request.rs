//! The head of a request as the origin receives it.
//!
//! In: the client's parsed head, the site, who the client is. Out: a head in HTTP/1.1.
//! Always holds: path and query are byte for byte as received, less `/SLUG` and the token; headers
//! that say who calls (`X-Forwarded-*`, `PayFence-*`, the site's own) come from the gateway alone,
//! and no look-alike with `_` for `-` comes with them.

use std::io::Write;
use std::net::IpAddr;

use policy::facts::{is_token_header, strip_token_query};
use policy::snapshot::SiteView;

use super::request_id::RequestId;
use crate::http1::headers::{classify_request, same_name_folded};
use crate::http1::write::{self, decimal, end, header, request_framing};
use crate::http1::{ForwardRules, Request, RequestName, Upgrade, Version};

/// The most of a client certificate's subject that the origin is told, bytes.
pub const CERT_SUBJECT_BYTES_MAX: usize = 1_024;

/// Who calls, once a token says so.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The subscription's customer.
    pub customer: &'a str,
    /// The plan's id.
    pub plan: &'a str,
    /// The subscription's id.
    pub subscription: &'a str,
    /// The token's id.
    pub token_id: &'a str,
}

/// What the origin is told beside the request itself.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'a> {
    /// The site.
    pub site: SiteView<'a>,
    /// Bytes of the path that named the site (`/SLUG`), left out.
    pub prefix_len: usize,
    /// The address the request came from.
    pub peer: IpAddr,
    /// Whether that is a trusted proxy, whose `X-Forwarded-*`, `Forwarded` and `X-Real-IP` stay.
    pub peer_is_trusted: bool,
    /// The client's address.
    pub client: IpAddr,
    /// `http` or `https`, as spoken by the peer.
    pub proto: &'a str,
    /// The subject (RFC 4514) of the certificate that the client showed and that was verified; empty where it has none.
    /// More than [`CERT_SUBJECT_BYTES_MAX`] is cut off.
    pub client_cert_subject: Option<&'a str>,
    /// Who calls; `None` on free paths.
    pub identity: Option<Identity<'a>>,
    /// The request's id.
    pub request_id: &'a RequestId,
    /// The key of another system that was looked up, and is not for the origin to see.
    pub looked_up_foreign: Option<&'a [u8]>,
    /// Whether the origin is to say `100 Continue` before the body is sent.
    pub expect: bool,
}

/// Appends the head that goes to the origin. Where in `out` the request's id begins.
pub fn write_request(out: &mut Vec<u8>, request: &Request<'_>, forward: &Forward<'_>) -> usize {
    request_line(out, request, forward);
    host(out, request, forward);
    client_headers(out, request, forward);
    forwarded_for(out, request, forward);
    let id_at = identity(out, forward);
    for (name, value) in forward.site.origin_headers() {
        header(out, name.as_bytes(), value.as_bytes());
    }
    connection(out, request);
    if forward.expect {
        header(out, b"Expect", b"100-continue");
    }
    request_framing(out, request.facts().framing);
    end(out);
    id_at
}

fn request_line(out: &mut Vec<u8>, request: &Request<'_>, forward: &Forward<'_>) {
    out.extend_from_slice(request.method());
    out.push(b' ');
    let path = request.path();
    if path == b"*" {
        // `OPTIONS *` asks about the server, which has no path to put a prefix before.
        out.push(b'*');
    } else {
        out.extend_from_slice(forward.site.origin().path_prefix().as_bytes());
        let path = path.get(forward.prefix_len..).unwrap_or_default();
        out.extend_from_slice(if path.is_empty() { b"/" } else { path });
    }
    if let Some(query) = request.query() {
        out.push(b'?');
        let start = out.len();
        let site = &forward.site;
        if site.forward_token() {
            out.extend_from_slice(query);
        } else if strip_token_query(query, site.token_places(), forward.looked_up_foreign, out)
            && out.len() == start
        {
            out.pop();
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

fn host(out: &mut Vec<u8>, request: &Request<'_>, forward: &Forward<'_>) {
    let origin = forward.site.origin();
    let received = request.host().filter(|_| forward.site.preserve_host());
    header(out, b"Host", received.unwrap_or(origin.authority().as_bytes()));
}

/// What the client sent and the origin may see.
fn client_headers(out: &mut Vec<u8>, request: &Request<'_>, forward: &Forward<'_>) {
    let site = &forward.site;
    let places = site.token_places();
    let rules = ForwardRules {
        override_headers: site.allow_override_headers(),
        trusted_peer: forward.peer_is_trusted,
    };
    request.write_headers(out, |line| {
        let is_token = || {
            !site.forward_token()
                && is_token_header(line.name, line.value, places, forward.looked_up_foreign)
        };
        let is_replaced =
            || site.origin_headers().any(|(name, _)| same_name_folded(name.as_bytes(), line.name));
        request.forwards(line, rules) && !is_token() && !is_replaced()
    });
}

/// `X-Forwarded-*`: a trusted proxy's are kept and its address is added; all others are replaced.
fn forwarded_for(out: &mut Vec<u8>, request: &Request<'_>, forward: &Forward<'_>) {
    let kept =
        |class| request.values(class).filter(|value| forward.peer_is_trusted && !value.is_empty());
    out.extend_from_slice(b"X-Forwarded-For: ");
    let name_end = out.len();
    for value in kept(RequestName::XForwardedFor) {
        write::value(out, value);
        out.extend_from_slice(b", ");
    }
    let nearest = if out.len() == name_end { forward.client } else { forward.peer };
    address(out, nearest.to_canonical());
    out.extend_from_slice(b"\r\n");
    let proto = Some(forward.proto.as_bytes());
    kept_or_own(out, b"X-Forwarded-Proto", kept(RequestName::XForwardedProto), proto);
    kept_or_own(out, b"X-Forwarded-Host", kept(RequestName::XForwardedHost), request.host());
}

/// Appends the values that are kept; without any, the gateway's own.
fn kept_or_own<'a>(
    out: &mut Vec<u8>,
    name: &[u8],
    kept: impl Iterator<Item = &'a [u8]>,
    own: Option<&[u8]>,
) {
    let mut is_kept = false;
    for value in kept {
        header(out, name, value);
        is_kept = true;
    }
    if let Some(own) = own.filter(|_| !is_kept) {
        header(out, name, own);
    }
}

/// Appends an address. IPv4 by hand: this is written for every request.
fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [first, rest @ ..] = ip.octets();
            decimal(out, u64::from(first));
            for octet in rest {
                out.push(b'.');
                decimal(out, u64::from(octet));
            }
        }
        IpAddr::V6(ip) => write!(out, "{ip}").expect("writing to memory cannot fail"),
    }
}

/// Where in `out` the request's id begins.
fn identity(out: &mut Vec<u8>, forward: &Forward<'_>) -> usize {
    if let Some(identity) = &forward.identity {
        header(out, b"PayFence-Customer", identity.customer.as_bytes());
        header(out, b"PayFence-Plan", identity.plan.as_bytes());
        header(out, b"PayFence-Subscription", identity.subscription.as_bytes());
        header(out, b"PayFence-Token-Id", identity.token_id.as_bytes());
    }
    if let Some(subject) = forward.client_cert_subject {
        let end = subject.floor_char_boundary(CERT_SUBJECT_BYTES_MAX);
        let begin = subject.get(..end).unwrap_or_default();
        header(out, b"PayFence-Client-Cert-Subject", begin.as_bytes());
    }
    header(out, b"PayFence-Request-Id", forward.request_id.as_bytes());
    out.len() - b"\r\n".len() - forward.request_id.as_bytes().len()
}

/// Whether a trailer field of the client's is passed on to the origin (RFC 9110 §6.5.1): not those of
/// framing, nor any name that the gateway drops, adds or looks for a token in.
#[must_use]
pub fn request_trailer_passes(site: &SiteView<'_>, name: &[u8]) -> bool {
    let is_same = |other: &str| same_name_folded(other.as_bytes(), name);
    classify_request(name).name.passes_in_trailers()
        && !is_same(site.token_places().header)
        && !site.origin_headers().any(|(other, _)| is_same(other))
}

/// What this hop's connection is told. `TE` and `Upgrade` count only where `Connection` names them
/// (RFC 9110 §7.8, §10.1.4); an HTTP/1.0 client cannot be sent trailers.
fn connection(out: &mut Vec<u8>, request: &Request<'_>) {
    let facts = request.facts();
    let te = facts.te_trailers && facts.version == Version::Http11;
    let upgrade = facts.upgrade == Some(Upgrade::WebSocket);
    match (te, upgrade) {
        (false, false) => {}
        (true, false) => header(out, b"Connection", b"TE"),
        (false, true) => header(out, b"Connection", b"Upgrade"),
        (true, true) => header(out, b"Connection", b"TE, Upgrade"),
    }
    if te {
        header(out, b"TE", b"trailers");
    }
    if upgrade {
        header(out, b"Upgrade", b"websocket");
    }
}

#[cfg(test)]
#[path = "forward_request_tests.rs"]
mod tests;
