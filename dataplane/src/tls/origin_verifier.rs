//! Whether an origin is who it should be.
//!
//! In: the certificates an origin shows, the roots and pins of its site. Out: trust, or why not.
//! Always holds: chain, name and dates are always verified, by rustls; pins only take away; a certificate that is named itself in the
//! site's own file is trusted as it stands, with its name and dates verified all the same.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use super::Facts;

/// The origin's certificate is good, but its key is not among those its site names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key of the origin's certificate is none of the site's pins")]
pub struct PinMismatch;

/// A verifier for one way of trusting.
#[derive(Debug)]
pub(super) struct OriginVerifier {
    pub(super) inner: Arc<WebPkiServerVerifier>,
    /// Certificates of the site's own file, which an origin may show as its own.
    pub(super) own: Vec<CertificateDer<'static>>,
    /// SHA-256 of the SubjectPublicKeyInfo of each key that the origin may have (RFC 7469 section 2.4); empty: any.
    pub(super) pins: Vec<[u8; 32]>,
}

impl OriginVerifier {
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Ok(_) => Ok(()),
            // A self-signed certificate is often made as an authority's, which no chain may end in.
            Err(error) if self.own.contains(end_entity) && !is_final(&error) => {
                verify_own(end_entity, name, now)
            }
            Err(error) => Err(error),
        }
    }

    fn verify_pins(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let key: [u8; 32] = Sha256::digest(parsed.subject_public_key_info()).into();
        if self.pins.contains(&key) {
            return Ok(());
        }
        Err(CertificateError::Other(OtherError(Arc::new(PinMismatch))).into())
    }
}

/// Whether an error stands however the certificate came to be trusted.
fn is_final(error: &Error) -> bool {
    use CertificateError as E;
    matches!(
        error,
        Error::InvalidCertificate(
            E::Expired
                | E::ExpiredContext { .. }
                | E::NotValidYet
                | E::NotValidYetContext { .. }
                | E::NotValidForName
                | E::NotValidForNameContext { .. }
        )
    )
}

/// A certificate that the operator named: trusted without a chain, for its names and its time only.
fn verify_own(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let facts = Facts::read(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now_s > facts.not_after_s {
        return Err(CertificateError::Expired.into());
    }
    if now_s < facts.not_before_s {
        return Err(CertificateError::NotValidYet.into());
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
}

impl ServerCertVerifier for OriginVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_chain(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.verify_pins(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
