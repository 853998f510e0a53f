//! The files that TLS to origins needs: read with each policy, and watched like it.
//!
//! In: the keys of a new policy. Out: configurations for all of them, or the file that is bad and why; whether a file has changed.
//! Always holds: the machine's own roots are read only where an origin is verified by them; nothing changes when a file is bad; a
//! file that changed while it was read is seen as changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::tls::{
    CertificateFault, OriginFiles, OriginTls, OriginTlsError, OriginTlsKey, SystemRoots,
};

use super::certificate_files::read;
use super::policy_watch::FurtherFiles;

/// Reads the files of origins, and knows what they held.
#[derive(Debug)]
pub struct OriginFilesReader {
    origins: Arc<OriginTls>,
    /// What each file held when it was last read; none: it could not be.
    seen: Mutex<BTreeMap<PathBuf, Option<[u8; 32]>>>,
}

impl OriginFilesReader {
    /// Puts in force in `origins` what is read.
    #[must_use]
    pub fn new(origins: Arc<OriginTls>) -> Self {
        Self { origins, seen: Mutex::default() }
    }

    /// Reads what `keys` name and puts it in force.
    ///
    /// # Errors
    /// When a file is missing or bad, or this machine has no roots and some origin needs them.
    pub fn prepare(
        &self,
        keys: impl IntoIterator<Item = OriginTlsKey>,
    ) -> Result<(), OriginTlsError> {
        let mut reading = Reading::default();
        let mut with_files = Vec::new();
        let mut needs_roots = false;
        for key in keys {
            needs_roots |= key.ca.is_none();
            let files = OriginFiles {
                ca: reading.read(key.ca.as_deref()),
                client_cert: reading.read(key.client_cert.as_deref()),
                client_key: reading.read(key.client_key.as_deref()),
            };
            with_files.push((key, files));
        }
        *self.seen.lock() = reading.seen;
        if let Some(fault) = reading.fault {
            return Err(fault.into());
        }
        let roots = if needs_roots { system_roots()? } else { SystemRoots::default() };
        self.origins.replace(with_files, &roots)
    }
}

impl FurtherFiles for OriginFilesReader {
    fn paths(&self) -> Vec<PathBuf> {
        self.seen.lock().keys().cloned().collect()
    }

    fn have_changed(&self) -> bool {
        self.seen.lock().iter().any(|(path, hash)| {
            let now = read(path).ok().map(|(bytes, _)| Sha256::digest(&bytes).into());
            now != *hash
        })
    }
}

/// One pass over the files: what they hold, the first that is bad.
#[derive(Default)]
struct Reading {
    seen: BTreeMap<PathBuf, Option<[u8; 32]>>,
    fault: Option<CertificateFault>,
}

impl Reading {
    fn read(&mut self, path: Option<&Path>) -> Option<Vec<u8>> {
        let path = path?;
        let bytes = match read(path) {
            Ok((bytes, _)) => Some(bytes),
            Err(fault) => {
                self.fault.get_or_insert(fault);
                None
            }
        };
        let hash = bytes.as_ref().map(|bytes| Sha256::digest(bytes).into());
        self.seen.insert(path.to_owned(), hash);
        bytes
    }
}

/// The roots of this machine, from where its libraries have them or `SSL_CERT_FILE` and `SSL_CERT_DIR` say.
fn system_roots() -> Result<SystemRoots, OriginTlsError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let why = if errors.is_empty() { "none were found".to_owned() } else { errors.join("; ") };
        return Err(OriginTlsError::NoSystemRoots(why));
    }
    for error in &found.errors {
        tracing::warn!(%error, "some of this machine's root certificates cannot be read");
    }
    Ok(SystemRoots(found.certs))
}

#[cfg(test)]
#[path = "origin_files_tests.rs"]
mod tests;
