//! Certificates made on the spot: authorities, what they issue, folders that a gateway serves from.
//!
//! In: names, dates, kinds of keys. Out: PEM for the gateway, DER and keys for the test's own side.
//! Always holds: nothing here shares code with the product but the library that speaks TLS.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rcgen::{KeyUsagePurpose, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use super::wait::unix_s;

/// Whoever issues certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
    /// Of whoever issued it, where it is not its own issuer.
    issuer: Option<CertificateDer<'static>>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// A certificate that is good for a month.
    pub fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_with(names, |_| {})
    }

    /// The same, but for what `change` says.
    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.issue_for(KeyPair::generate().expect("a key"), names, change)
    }

    /// A certificate of an RSA key.
    pub fn issue_rsa(&self, names: &[&str]) -> Leaf {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
        self.issue_for(key, names, |_| {})
    }

    fn issue_for(
        &self,
        key: KeyPair,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let mut params = params(names);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf { certificate, key, issuer: Some(self.der().clone()) }
    }
}

/// A certificate that nobody vouches for.
pub fn self_signed(names: &[&str]) -> Leaf {
    let key = KeyPair::generate().expect("a key");
    let certificate = params(names).self_signed(&key).expect("a certificate");
    Leaf { certificate, key, issuer: None }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.not_before = days_from_now(-1);
    params.not_after = days_from_now(30);
    params
}

/// That many days from now.
pub fn days_from_now(days: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(unix_s()).expect("a time of ours") + Duration::days(days)
}

impl Leaf {
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        [Some(self.der().clone()), self.issuer.clone()].into_iter().flatten().collect()
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key that was just made")
    }

    /// Its key as a policy names it (RFC 7469 §2.4).
    pub fn pin(&self) -> String {
        let digest = Sha256::digest(self.key.subject_public_key_info());
        format!("sha256/{}", base64::engine::general_purpose::STANDARD.encode(digest))
    }
}

/// A folder of certificates.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a working folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes `NAME.crt` and `NAME.key`, each moved into its place.
    pub fn put(&self, name: &str, leaf: &Leaf) {
        self.write(&format!("{name}.crt"), &leaf.pem());
        self.write(&format!("{name}.key"), &leaf.key_pem());
    }

    /// Writes a file, moved into its place, and tells where it is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        let new = self.path().join(format!(".{name}.new"));
        std::fs::write(&new, text).expect("a writable folder");
        std::fs::rename(&new, &path).expect("the same folder");
        path
    }
}
