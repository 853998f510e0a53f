//! The files that TLS to origins needs.
//!
//! In: the keys of a new policy. Out: configurations for all of them, or the file that is bad and why; or all that is bad, for
//! a policy that is only looked at.
//! Always holds: the machine's own roots are read only where an origin is verified by them; nothing changes when a file is bad.

use std::collections::HashSet;
use std::path::Path;

use policy::snapshot::Snapshot;

use crate::clock::Clock;
use crate::tls::{
    CertificateFault, OriginFiles, OriginTls, OriginTlsError, OriginTlsKey, SystemRoots,
};

use super::certificate_files::read;

/// The keys of a policy's https origins, each once. Files without a folder are in `folder`.
#[must_use]
pub fn keys_of(snapshot: &Snapshot, folder: &Path) -> Vec<OriginTlsKey> {
    let keys: HashSet<OriginTlsKey> = snapshot
        .sites()
        .filter_map(|site| site.origin_tls())
        .map(|view| OriginTlsKey::new(view, folder))
        .collect();
    keys.into_iter().collect()
}

/// Reads what `keys` name and puts it in force.
///
/// # Errors
/// When a file is missing or bad, or this machine has no roots and some origin needs them.
pub fn prepare(
    origins: &OriginTls,
    keys: impl IntoIterator<Item = OriginTlsKey>,
) -> Result<(), OriginTlsError> {
    let mut with_files = Vec::new();
    let mut roots = SystemRoots::default();
    for key in keys {
        if key.ca.is_none() && roots.0.is_empty() {
            roots = system_roots()?;
        }
        let files = read_files(&key)?;
        with_files.push((key, files));
    }
    origins.replace(with_files, &roots)
}

/// What a node on this machine would refuse a policy for besides its text: the slug of the first site that names such
/// files, and the fault. Nothing is put in force.
#[must_use]
pub fn faults(snapshot: &Snapshot, folder: &Path, clock: Clock) -> Vec<(String, OriginTlsError)> {
    let origins = OriginTls::new(clock);
    let mut seen = HashSet::new();
    let mut faults = Vec::new();
    for site in snapshot.sites() {
        let Some(view) = site.origin_tls() else { continue };
        let key = OriginTlsKey::new(view, folder);
        if !seen.insert(key.clone()) {
            continue;
        }
        let files = [&key.ca, &key.client_cert, &key.client_key].into_iter().flatten();
        let mut found: Vec<OriginTlsError> =
            files.filter_map(|file| read(file).err()).map(OriginTlsError::from).collect();
        if found.is_empty() {
            found.extend(prepare(&origins, [key]).err());
        }
        faults.extend(found.into_iter().map(|fault| (site.slug().to_owned(), fault)));
    }
    faults
}

fn read_files(key: &OriginTlsKey) -> Result<OriginFiles, CertificateFault> {
    let read = |path: &Option<std::path::PathBuf>| {
        path.as_deref().map(|path: &Path| read(path).map(|(bytes, _)| bytes)).transpose()
    };
    Ok(OriginFiles {
        ca: read(&key.ca)?,
        client_cert: read(&key.client_cert)?,
        client_key: read(&key.client_key)?,
    })
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
