//! Which word stands for which error.

use std::sync::Arc;

use rustls::{AlertDescription, PeerIncompatible, PeerMisbehaved};

use super::*;

#[test]
fn every_error_has_its_word() {
    let check = |error: Error, word: &str| assert_eq!(classify(&error).as_str(), word, "{error:?}");
    let certificate = |error| Error::InvalidCertificate(error);
    check(certificate(CertificateError::Expired), "expired");
    check(certificate(CertificateError::NotValidYet), "expired");
    check(certificate(CertificateError::NotValidForName), "name");
    check(certificate(CertificateError::UnknownIssuer), "issuer");
    check(certificate(CertificateError::BadSignature), "certificate");
    check(certificate(CertificateError::Other(OtherError(Arc::new(PinMismatch)))), "pin");
    check(Error::NoCertificatesPresented, "no_certificate");
    check(Error::General("no server certificate chain resolved".to_owned()), "unknown_name");
    check(Error::General("else".to_owned()), "internal");
    check(Error::NoApplicationProtocol, "alpn");
    check(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "protocol");
    check(Error::AlertReceived(AlertDescription::ProtocolVersion), "alert");
    check(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "malformed");
    check(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare), "malformed");
    check(Error::FailedToGetRandomBytes, "internal");
}
