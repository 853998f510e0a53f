//! What is wrong with the files that a policy names for TLS to its origins, for a policy that is only looked at.
//!
//! In: a snapshot, the folder of its file. Out: every fault with the site it is told of.
//! Always holds: the way is the one a node goes, so what it finds here a node on this machine would refuse; nothing is put in force.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use policy::snapshot::Snapshot;

use crate::clock::Clock;
use crate::tls::{OriginTls, OriginTlsError, OriginTlsKey};

use super::certificate_files::read;
use super::origin_files::OriginFilesReader;

/// All faults, each with the slug of the first site whose origin is spoken to so.
#[must_use]
pub fn find(snapshot: &Snapshot, folder: &Path, clock: Clock) -> Vec<(String, OriginTlsError)> {
    let reader = OriginFilesReader::new(Arc::new(OriginTls::new(clock)));
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
            found.extend(reader.prepare([key]).err());
        }
        faults.extend(found.into_iter().map(|fault| (site.slug().to_owned(), fault)));
    }
    faults
}
