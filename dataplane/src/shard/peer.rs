//! Who is at the other end of a client's connection.
//!
//! In: the listener that accepted it, the address, a PROXY header, a TLS handshake. Out: what requests on it are told by.
//! Always holds: what is here was said by the transport, not by a request.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;

use super::again::Last;

/// What a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// HTTP in the clear.
    Plain,
    /// HTTP over TLS.
    Tls,
    /// HTTP in the clear, only to be sent to https.
    Redirect,
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The address of whoever connected, or whom a PROXY header named.
    pub(super) address: IpAddr,
    /// Whether its word on the client's address counts.
    pub(super) is_trusted: bool,
    /// The listener that it came by.
    pub(super) listens: Listens,
    /// What the handshake said.
    pub(super) tls: Option<Rc<TlsPeer>>,
    /// Its last request.
    pub(super) last: Cell<Last>,
}

/// What a client said of itself in a TLS handshake.
#[derive(Debug)]
pub(super) struct TlsPeer {
    /// The name it asked for (RFC 6066 §3).
    pub(super) server_name: Option<Box<str>>,
    /// The subject of its certificate, which was verified.
    pub(super) subject: Option<Box<str>>,
}

impl Peer {
    /// Whether requests come encrypted to this node.
    pub(super) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The scheme that the peer speaks.
    pub(super) const fn proto(&self) -> &'static str {
        if self.is_tls() { "https" } else { "http" }
    }

    /// The subject of the certificate that the client showed.
    pub(super) fn client_subject(&self) -> Option<&str> {
        self.tls.as_ref()?.subject.as_deref()
    }

    /// The name that the client asked for in the handshake.
    pub(super) fn server_name(&self) -> Option<&str> {
        self.tls.as_ref()?.server_name.as_deref()
    }
}
