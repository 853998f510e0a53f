//! Clients that show a certificate.
//!
//! In: the certificates of authorities, whether a client must show one. Out: a verifier that rustls asks, whose authorities can be
//! replaced while it serves.
//! Always holds: who shows a certificate shows a good one, also where none is required; the names of the authorities that a client
//! is told are those it is verified by.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};

use super::pair::chain;
use super::{Fault, provider};
use crate::config::ClientAuth;

/// Which clients are trusted.
#[derive(Clone, Debug)]
pub struct ClientTrust {
    verifier: Arc<dyn ClientCertVerifier>,
    fingerprint: [u8; 32],
}

impl ClientTrust {
    /// Trusts clients whose certificates the authorities in `pem` have issued.
    ///
    /// # Errors
    /// When `pem` holds no certificate of an authority.
    pub fn read(pem: &[u8], mode: ClientAuth) -> Result<Self, Fault> {
        let mut roots = RootCertStore::empty();
        for authority in chain(pem)? {
            roots.add(authority).map_err(|error| Fault::BadAuthority(error.to_string()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = match mode {
            ClientAuth::Required => builder,
            ClientAuth::Optional => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(|error| Fault::BadAuthority(error.to_string()))?;
        Ok(Self { verifier, fingerprint: Sha256::digest(pem).into() })
    }

    /// What tells whether the authorities have changed.
    #[must_use]
    pub const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

/// The verifier that shards ask; what it trusts can be replaced.
#[derive(Debug)]
pub(super) struct ClientVerifier(pub(super) ArcSwap<ClientTrust>);

impl ClientVerifier {
    fn now(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0.load().verifier)
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.now().offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.now().client_auth_mandatory()
    }

    /// None: a list that can change cannot be lent out. A client may then offer whichever certificate it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.now().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().supported_verify_schemes()
    }
}
