//! TLS to origins: one configuration for each way an origin is trusted and the gateway shows itself.
//!
//! In: keys (what a site's policy says), the bytes of the files they name, read off-core. Out: an `Arc<ClientConfig>` for each key.
//! Always holds: what has not changed keeps its configuration and with it its sessions; a key of the policy before the last is
//! still found, since requests that run still use it; nothing changes when one of the files is bad.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use policy::snapshot::OriginTlsView;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::origin_verifier::OriginVerifier;
use super::pair::chain;
use super::{ALPN_PROTOCOLS, CertificateFault, Fault, NodeTime, Pair, PairText, provider};
use crate::clock::Clock;

/// Sessions that one configuration keeps for resumption, over all origins that share it. rustls keeps up to eight for each name.
const SESSIONS_MAX: usize = 4096;

/// Everything of a site's policy that makes one connection different from another, but for the address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OriginTlsKey {
    /// PEM with the certificates that are trusted instead of the system's roots.
    pub ca: Option<PathBuf>,
    /// SHA-256 of the SubjectPublicKeyInfo of each key that the origin may have; empty: any.
    pub pins: Vec<[u8; 32]>,
    /// PEM with the chain that the gateway shows.
    pub client_cert: Option<PathBuf>,
    /// PEM with its key; none: in the same file.
    pub client_key: Option<PathBuf>,
}

impl OriginTlsKey {
    /// What `view` says, with files that it names without a folder in `folder`.
    #[must_use]
    pub fn new(view: OriginTlsView<'_>, folder: &Path) -> Self {
        Self {
            ca: view.ca.map(|file| folder.join(file)),
            pins: view.pins.to_vec(),
            client_cert: view.client.map(|files| folder.join(files.cert)),
            client_key: view.client.map(|files| folder.join(files.key)),
        }
    }
}

/// What the files of an [`OriginTlsKey`] hold.
#[derive(Clone, Default)]
pub struct OriginFiles {
    /// Of `ca`.
    pub ca: Option<Vec<u8>>,
    /// Of `client_cert`.
    pub client_cert: Option<Vec<u8>>,
    /// Of `client_key`.
    pub client_key: Option<Vec<u8>>,
}

/// The certificates that this machine trusts.
#[derive(Clone, Debug, Default)]
pub struct SystemRoots(pub Vec<CertificateDer<'static>>);

/// Why origins cannot be reached over TLS as the policy says.
#[derive(Debug, thiserror::Error)]
pub enum OriginTlsError {
    /// A file that the policy names is missing or bad.
    #[error(transparent)]
    File(#[from] CertificateFault),
    /// There is no root to trust.
    #[error(
        "this machine has no trusted root certificates ({0}), which https origins are verified by; install ca-certificates, set \
         SSL_CERT_FILE, or name the origin's authority with origin_ca"
    )]
    NoSystemRoots(String),
    /// The library refused what was made of good files.
    #[error("cannot prepare TLS to origins: {0}")]
    Library(#[from] rustls::Error),
}

/// The configurations in force.
#[derive(Debug)]
pub struct OriginTls {
    clock: Clock,
    table: ArcSwap<Table>,
}

#[derive(Debug, Default)]
struct Table {
    current: HashMap<OriginTlsKey, Entry>,
    /// Of the policy before, where it had others.
    before: HashMap<OriginTlsKey, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    fingerprint: [u8; 32],
    config: Arc<ClientConfig>,
}

impl OriginTls {
    /// No configuration yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, table: ArcSwap::default() }
    }

    /// The configuration for connections by `key`: the same `Arc` as long as nothing about it changed. None where no policy of late
    /// had that key; a request then fails, it is never sent in the clear.
    #[must_use]
    pub fn get(&self, key: &OriginTlsKey) -> Option<Arc<ClientConfig>> {
        let table = self.table.load();
        let entry = table.current.get(key).or_else(|| table.before.get(key))?;
        Some(Arc::clone(&entry.config))
    }

    /// Takes over the keys of a new policy; called before the policy is published.
    ///
    /// # Errors
    /// When a file is bad; then nothing has changed.
    pub fn replace(
        &self,
        keys: impl IntoIterator<Item = (OriginTlsKey, OriginFiles)>,
        roots: &SystemRoots,
    ) -> Result<(), OriginTlsError> {
        let running = self.table.load_full();
        let mut current = HashMap::new();
        for (key, files) in keys {
            let fingerprint = fingerprint(&key, &files, roots);
            let kept = running.current.get(&key).or_else(|| running.before.get(&key));
            let entry = match kept.filter(|entry| entry.fingerprint == fingerprint) {
                Some(entry) => entry.clone(),
                None => Entry { fingerprint, config: self.build(&key, &files, roots)? },
            };
            current.insert(key, entry);
        }
        self.table.store(Arc::new(Table { current, before: running.current.clone() }));
        Ok(())
    }

    fn build(
        &self,
        key: &OriginTlsKey,
        files: &OriginFiles,
        roots: &SystemRoots,
    ) -> Result<Arc<ClientConfig>, OriginTlsError> {
        let (store, own) = trust(key, files, roots)?;
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
            .build()
            .map_err(|error| OriginTlsError::NoSystemRoots(error.to_string()))?;
        let verifier = OriginVerifier { inner, own, pins: key.pins.clone() };
        let time = Arc::new(NodeTime(self.clock));
        let builder = ClientConfig::builder_with_details(provider(), time)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match own_certificate(key, files)? {
            Some(certified) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = ALPN_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(Arc::new(config))
    }
}

/// The roots an origin is verified by, and the certificates it may show as its own.
fn trust(
    key: &OriginTlsKey,
    files: &OriginFiles,
    roots: &SystemRoots,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), OriginTlsError> {
    let mut store = RootCertStore::empty();
    let (Some(path), Some(pem)) = (&key.ca, &files.ca) else {
        // Systems carry roots that are too old to be read; the others serve.
        store.add_parsable_certificates(roots.0.iter().cloned());
        return Ok((store, Vec::new()));
    };
    let own = chain(pem).map_err(|fault| fault.of(path))?;
    for certificate in &own {
        let bad = |error: rustls::Error| Fault::BadAuthority(error.to_string()).of(path);
        store.add(certificate.clone()).map_err(bad)?;
    }
    Ok((store, own))
}

/// What the gateway shows an origin that asks for it.
fn own_certificate(
    key: &OriginTlsKey,
    files: &OriginFiles,
) -> Result<Option<Arc<CertifiedKey>>, OriginTlsError> {
    let (Some(certificate_file), Some(certificate)) = (&key.client_cert, &files.client_cert) else {
        return Ok(None);
    };
    let key_file = key.client_key.as_ref().unwrap_or(certificate_file);
    let key = files.client_key.as_ref().unwrap_or(certificate);
    let pair = Pair::read(PairText { certificate_file, certificate, key_file, key }, true)?;
    Ok(Some(pair.certified))
}

/// What tells whether anything behind a key has changed.
fn fingerprint(key: &OriginTlsKey, files: &OriginFiles, roots: &SystemRoots) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    match &files.ca {
        Some(ca) => add(ca),
        None => roots.0.iter().for_each(|root| add(root)),
    }
    key.pins.iter().for_each(|pin| add(pin));
    for file in [&files.client_cert, &files.client_key] {
        add(file.as_deref().unwrap_or_default());
    }
    hash.finalize().into()
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
