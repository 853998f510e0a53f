//! One certificate with its key: read, checked, ready to be served.
//!
//! In: the bytes of a certificate file and a key file, and when it is now. Out: a [`Pair`], or a [`CertificateFault`] that names the
//! file, what is wrong with it and what to do.
//! Always holds: a pair's key belongs to its certificate and its dates hold now; no text and no `Debug` holds key material.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use super::{Facts, provider};

/// What is wrong with a certificate or its key, and in which file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", file.display())]
pub struct CertificateFault {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("cannot be read ({0}); give a readable file")]
    Unreadable(io::Error),
    /// It is larger than any certificate chain.
    #[error("is larger than {} KiB; give a PEM file with one chain", .0 / 1024)]
    TooLarge(u64),
    /// It holds no certificate.
    #[error(
        "holds no certificate; give a PEM file with -----BEGIN CERTIFICATE-----, the server's own first"
    )]
    NoCertificate,
    /// It holds no key.
    #[error(
        "holds no private key; give a PEM file with -----BEGIN PRIVATE KEY----- and without a password"
    )]
    NoKey,
    /// The certificate stands alone.
    #[error("has no key beside it; put {} there", .0.display())]
    KeyMissing(PathBuf),
    /// The key stands alone.
    #[error("has no certificate beside it; put {} there or remove the key", .0.display())]
    CertificateMissing(PathBuf),
    /// The folder holds nothing to serve.
    #[error(
        "holds no certificate; put NAME.crt with NAME.key, NAME.pem, or NAME/fullchain.pem with NAME/privkey.pem there"
    )]
    EmptyFolder,
    /// The folder holds more than is taken.
    #[error(
        "holds more than {0} certificates; spread them over several nodes or use wildcard names"
    )]
    TooMany(usize),
    /// PEM that is none.
    #[error("is no valid PEM ({0}); write it again, as it may be cut off")]
    BadPem(String),
    /// A certificate that cannot be understood.
    #[error(
        "certificate {position} of the file cannot be understood ({cause}); have it issued again"
    )]
    BadCertificate {
        /// Which, counted from 1.
        position: usize,
        /// What the parser said.
        cause: String,
    },
    /// A key that cannot be used.
    #[error(
        "the private key cannot be used ({0}); RSA of 2048 to 8192 bits, ECDSA P-256, P-384, P-521 and Ed25519 are served"
    )]
    BadKey(String),
    /// The key is another certificate's.
    #[error("does not belong to the certificate in {}; put the key there that its request was made with", .0.display())]
    OtherKey(PathBuf),
    /// The certificate has expired.
    #[error("expired at {}; renew it", date(*.0))]
    Expired(i64),
    /// The certificate is not valid yet.
    #[error("is valid only from {}; look at this machine's clock, or wait", date(*.0))]
    NotYetValid(i64),
    /// Nobody would ever be served it.
    #[error(
        "names no host in subjectAltName, so no client would be given it; have it issued with its DNS names, or make it the default"
    )]
    NoNames,
    /// What a client is verified by.
    #[error(
        "cannot be used to verify certificates ({0}); give a PEM file with the certificates of the authorities"
    )]
    BadAuthority(String),
}

/// RFC 3339 in UTC; past what a calendar takes, the number.
fn date(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s)
        .map_or_else(|_| format!("Unix second {unix_s}"), |time| time.to_string())
}

impl Fault {
    /// The same with its file.
    #[must_use]
    pub fn of(self, file: &Path) -> CertificateFault {
        CertificateFault { file: file.to_owned(), fault: self }
    }
}

/// The bytes of a pair's files, which may be one and the same.
#[derive(Clone, Copy)]
pub struct PairText<'a> {
    /// Where the certificate is, for messages.
    pub certificate_file: &'a Path,
    /// The chain as PEM, the server's own certificate first.
    pub certificate: &'a [u8],
    /// Where the key is, for messages.
    pub key_file: &'a Path,
    /// The key as PEM.
    pub key: &'a [u8],
}

/// A certificate chain with its key.
#[derive(Clone)]
pub struct Pair {
    /// As rustls serves it.
    pub certified: Arc<CertifiedKey>,
    /// What the certificate says.
    pub facts: Facts,
    /// The file it was read from.
    pub file: PathBuf,
    /// SHA-256 of the chain.
    pub fingerprint: [u8; 32],
    /// Whether it is served where no name fits.
    pub is_default: bool,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("file", &self.file)
            .field("facts", &self.facts)
            .field("is_default", &self.is_default)
            .finish_non_exhaustive()
    }
}

impl Pair {
    /// Reads and checks a pair, but for its dates.
    ///
    /// # Errors
    /// What is wrong, in which file.
    pub fn read(text: PairText<'_>, is_default: bool) -> Result<Self, CertificateFault> {
        let chain = chain(text.certificate).map_err(|fault| fault.of(text.certificate_file))?;
        let facts = leaf(&chain).map_err(|fault| fault.of(text.certificate_file))?;
        if facts.names.is_empty() && !is_default {
            return Err(Fault::NoNames.of(text.certificate_file));
        }
        let key = key(text.key).map_err(|fault| fault.of(text.key_file))?;
        let mut fingerprint = Sha256::new();
        chain.iter().for_each(|certificate| fingerprint.update(certificate));
        let fingerprint = fingerprint.finalize().into();
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            let fault = match error {
                rustls::Error::InconsistentKeys(_) => {
                    Fault::OtherKey(text.certificate_file.to_owned())
                }
                other => Fault::BadKey(other.to_string()),
            };
            fault.of(text.key_file)
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            facts,
            file: text.certificate_file.to_owned(),
            fingerprint,
            is_default,
        })
    }

    /// Whether the certificate is valid at `now_s`, in Unix seconds.
    ///
    /// # Errors
    /// When it is not, or not yet.
    pub fn check_dates(&self, now_s: i64) -> Result<(), CertificateFault> {
        if now_s > self.facts.not_after_s {
            return Err(Fault::Expired(self.facts.not_after_s).of(&self.file));
        }
        if now_s < self.facts.not_before_s {
            return Err(Fault::NotYetValid(self.facts.not_before_s).of(&self.file));
        }
        Ok(())
    }
}

/// The certificates of a PEM file, in order, at least one.
pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Fault::BadPem(error.to_string()))?;
    if chain.is_empty() { Err(Fault::NoCertificate) } else { Ok(chain) }
}

/// What the first certificate says; all must be readable, or clients would fail on them.
fn leaf(chain: &[CertificateDer<'_>]) -> Result<Facts, Fault> {
    let mut facts = chain.iter().enumerate().map(|(index, certificate)| {
        Facts::read(certificate)
            .map_err(|cause| Fault::BadCertificate { position: index + 1, cause })
    });
    let leaf = facts.next().ok_or(Fault::NoCertificate)??;
    facts.try_for_each(|rest| rest.map(drop))?;
    Ok(leaf)
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    use rustls_pki_types::pem::Error;
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        Error::NoItemsFound => Fault::NoKey,
        other => Fault::BadPem(other.to_string()),
    })
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
