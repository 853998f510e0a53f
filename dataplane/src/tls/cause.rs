//! Why a handshake failed, in one word.
//!
//! In: an error of rustls. Out: a [`Cause`] for logs, `/status` and a metric's label.
//! Always holds: the words are few and fixed, whatever a peer sends.

use rustls::{CertificateError, Error, OtherError};

use super::is_unknown_name;
use super::origin_verifier::PinMismatch;

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The peer's certificate has expired or is not valid yet.
    Expired,
    /// The peer's certificate is not for the name that was asked for.
    Name,
    /// Nobody that is trusted has issued the peer's certificate.
    Issuer,
    /// The certificate is good, but its key is not among the pins.
    Pin,
    /// The peer's certificate is no good otherwise: signature, purpose, encoding, revoked.
    Certificate,
    /// The client showed no certificate where one is required.
    NoCertificate,
    /// The client asked for a name that has no certificate here.
    UnknownName,
    /// No application protocol in common.
    Alpn,
    /// No version, cipher suite or group in common.
    Protocol,
    /// The peer ended it with an alert.
    Alert,
    /// The peer does not speak TLS, or not as it must.
    Malformed,
    /// The peer sent a plain HTTP request. This and the next three never come from [`classify`]: the shard knows.
    PlainHttp,
    /// The connection ended first.
    Closed,
    /// Its time was up first.
    Timeout,
    /// Too many handshakes were under way.
    Busy,
    /// The node itself failed.
    Internal,
}

impl Cause {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Name => "name",
            Self::Issuer => "issuer",
            Self::Pin => "pin",
            Self::Certificate => "certificate",
            Self::NoCertificate => "no_certificate",
            Self::UnknownName => "unknown_name",
            Self::Alpn => "alpn",
            Self::Protocol => "protocol",
            Self::Alert => "alert",
            Self::Malformed => "malformed",
            Self::PlainHttp => "plain_http",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }
}

/// The cause behind an error of rustls.
#[must_use]
pub fn classify(error: &Error) -> Cause {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::NoCertificatesPresented => Cause::NoCertificate,
        Error::UnsupportedNameType => Cause::Name,
        Error::NoApplicationProtocol => Cause::Alpn,
        Error::PeerIncompatible(_) => Cause::Protocol,
        Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => Cause::Alpn,
        Error::AlertReceived(_) => Cause::Alert,
        error if is_unknown_name(error) => Cause::UnknownName,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::InvalidMessage(_)
        | Error::InvalidEncryptedClientHello(_)
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord
        | Error::DecryptError => Cause::Malformed,
        _ => Cause::Internal,
    }
}

fn of_certificate(error: &CertificateError) -> Cause {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => Cause::Expired,
        E::NotValidYet | E::NotValidYetContext { .. } => Cause::Expired,
        E::NotValidForName | E::NotValidForNameContext { .. } => Cause::Name,
        E::UnknownIssuer => Cause::Issuer,
        E::Other(OtherError(inner)) if inner.is::<PinMismatch>() => Cause::Pin,
        _ => Cause::Certificate,
    }
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod tests;
