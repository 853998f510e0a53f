//! From a policy file's bytes to a snapshot that shards can read.
//!
//! In: bytes, the file's name for messages, a sequence number. Out: a checked [`Snapshot`] and what the file's author
//! should know; the names its origins have, and how TLS reaches them.
//! Always holds: the way is the same at start, at a reload and for `payfence policy check`, so what passes one passes all.

use std::collections::HashSet;
use std::path::Path;

use policy::compile::compile;
use policy::model::diagnostic::Diagnostic;
use policy::model::file::parse;
use policy::snapshot::Snapshot;

use super::origin_files::OriginFilesReader;
use crate::tls::OriginTlsKey;

/// A snapshot, and what was odd about its source.
#[derive(Debug)]
pub struct Loaded {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What is allowed but unwise.
    pub warnings: Vec<Diagnostic>,
}

/// Makes a snapshot of a policy file's bytes.
///
/// # Errors
/// Text for a person: each line names the file, the line and the key.
pub fn load(path: &Path, bytes: &[u8], sequence: u64) -> Result<Loaded, String> {
    let name = path.display().to_string();
    let parsed = parse(&name, bytes).map_err(|error| error.to_string())?;
    let compiled = compile(&parsed.policy, sequence).map_err(|error| format!("{name}: {error}"))?;
    let snapshot = Snapshot::from_bytes(&compiled)
        .map_err(|error| format!("{name}: the compiled policy fails its own check: {error}"))?;
    Ok(Loaded { snapshot, warnings: parsed.warnings })
}

/// The same for a running node: warnings go to the log.
///
/// # Errors
/// As [`load`].
pub fn load_and_log(path: &Path, bytes: &[u8], sequence: u64) -> Result<Snapshot, String> {
    let loaded = load(path, bytes, sequence)?;
    for warning in &loaded.warnings {
        tracing::warn!(path = %path.display(), "{warning}");
    }
    Ok(loaded.snapshot)
}

/// The same with the files that TLS to its origins needs, which are put in force.
///
/// # Errors
/// As [`load`], and when one of those files is missing or bad.
pub fn load_with_files(
    path: &Path,
    bytes: &[u8],
    sequence: u64,
    origins: &OriginFilesReader,
    folder: &Path,
) -> Result<Snapshot, String> {
    let snapshot = load_and_log(path, bytes, sequence)?;
    origins
        .prepare(origin_tls_keys(&snapshot, folder))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(snapshot)
}

/// How TLS connections to the origins are made, each way once. Files without a folder are in `folder`.
#[must_use]
pub fn origin_tls_keys(snapshot: &Snapshot, folder: &Path) -> Vec<OriginTlsKey> {
    let keys: HashSet<OriginTlsKey> = snapshot
        .sites()
        .filter_map(|site| site.origin_tls())
        .map(|view| OriginTlsKey::new(view, folder))
        .collect();
    keys.into_iter().collect()
}

/// Names and ports of the origins, each once; addresses among them.
#[must_use]
pub fn origin_names(snapshot: &Snapshot) -> Vec<(String, u16)> {
    let mut names: Vec<(String, u16)> = snapshot
        .sites()
        .map(|site| (site.origin().host().to_owned(), site.origin().port()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
#[path = "policy_source_tests.rs"]
mod tests;
