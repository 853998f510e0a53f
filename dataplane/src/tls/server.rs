//! TLS with clients: one configuration for all shards, whose certificates are replaced while it serves.
//!
//! In: a table of certificates, which clients are trusted. Out: an `Arc<ServerConfig>` to make connections with.
//! Always holds: a connection keeps the certificate it began with; sessions resume on every shard and across replaced certificates;
//! nothing is offered that is weaker than Mozilla's intermediate profile; shards take no lock to find a certificate.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};

use super::client_auth::ClientVerifier;
use super::tickets::Tickets;
use super::{ALPN_PROTOCOLS, CertificateTable, ClientTrust, NodeTime, provider};
use crate::clock::Clock;

/// The record that tells a client that its name is not served here: a fatal alert `unrecognized_name` (RFC 6066 section 3).
/// rustls says `access_denied` instead, which is about rights; sent in place of what it has queued when [`is_unknown_name`].
pub const UNRECOGNIZED_NAME_ALERT: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x70];

/// What rustls says where no certificate was chosen.
const NO_CERTIFICATE: &str = "no server certificate chain resolved";

/// Whether a handshake failed because no certificate is for the name the client asked for.
#[must_use]
pub fn is_unknown_name(error: &Error) -> bool {
    matches!(error, Error::General(text) if text == NO_CERTIFICATE)
}

/// TLS with clients.
#[derive(Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    tickets: Arc<Tickets>,
    clients: Option<Arc<ClientVerifier>>,
}

impl ServerTls {
    /// Serves these certificates to clients that are trusted so; with no trust given, no client is asked for a certificate.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(
        table: CertificateTable,
        clients: Option<ClientTrust>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let certificates = Arc::new(Certificates(ArcSwap::from_pointee(table)));
        let tickets = Arc::new(Tickets::new()?);
        let clients = clients.map(|trust| Arc::new(ClientVerifier(ArcSwap::from_pointee(trust))));
        let builder = ServerConfig::builder_with_details(provider(), Arc::new(NodeTime(clock)))
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as _);
        config.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.ticketer = Arc::clone(&tickets) as _;
        // Tickets alone: a store of sessions would be a lock between shards.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Whoever has no AES instructions asks for ChaCha20 first, and should have it.
        config.ignore_client_order = false;
        Ok(Self { config: Arc::new(config), certificates, tickets, clients })
    }

    /// What connections are made with, on any shard.
    #[must_use]
    pub const fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// The certificates in force.
    #[must_use]
    pub fn table(&self) -> Arc<CertificateTable> {
        self.certificates.0.load_full()
    }

    /// Replaces the certificates and which clients are trusted; connections that are open keep what they have. `clients` counts
    /// only where clients were asked for certificates from the beginning.
    ///
    /// # Errors
    /// When the system has no random numbers; then nothing was replaced.
    pub fn replace(
        &self,
        table: CertificateTable,
        clients: Option<ClientTrust>,
    ) -> Result<(), Error> {
        if let (Some(verifier), Some(trust)) = (&self.clients, clients)
            && verifier.0.load().fingerprint() != trust.fingerprint()
        {
            let before = verifier.0.swap(Arc::new(trust));
            // A ticket vouches for the client that was verified when it was made.
            if let Err(error) = self.tickets.forget() {
                verifier.0.store(before);
                return Err(error);
            }
        }
        self.certificates.0.store(Arc::new(table));
        Ok(())
    }
}

/// The table, as rustls asks it.
#[derive(Debug)]
struct Certificates(ArcSwap<CertificateTable>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load().choose(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
