//! Certificate files: which there are, what they hold.
//!
//! In: a folder, files named one by one. Out: checked pairs, or every fault with its file; what is unwise; what to watch.
//! Always holds: all faults are told at once; a file has a bound and must be a regular one, so that nothing here waits for a writer.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::{CertificateSources, ClientAuthConfig, PairFiles};
use crate::tls::{CertificateFault, ClientTrust, Facts, Fault, Pair, PairText};

use super::file_watch::WatchSet;

/// The largest file that is read. Chains are a few KiB; a bundle of all public authorities is about 250.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Pairs that a folder may hold.
const PAIRS_MAX: usize = 10_000;
/// The stem of the pair that is served where no name fits.
const DEFAULT: &str = "default";
/// certbot's names.
const CHAIN: &str = "fullchain.pem";
const KEY: &str = "privkey.pem";
/// What else certbot puts beside them.
const CERTBOT_EXTRAS: [&str; 2] = ["cert.pem", "chain.pem"];

/// Good pairs.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The pairs, those named one by one first.
    pub pairs: Vec<Pair>,
    /// What is allowed but unwise: the file, what about it, what to do.
    pub warnings: Vec<(PathBuf, String)>,
}

/// Reads all pairs and checks them as of `now_s` (Unix seconds). A certificate that is among `running` may have expired: refusing
/// it now would keep its neighbours from being renewed.
///
/// # Errors
/// Everything that is wrong.
pub fn load(
    sources: &CertificateSources,
    now_s: i64,
    running: &[Pair],
) -> Result<Loaded, Vec<CertificateFault>> {
    let (loaded, faults) = inspect(sources, now_s, running);
    if faults.is_empty() { Ok(loaded) } else { Err(faults) }
}

/// The same, the good beside the bad.
#[must_use]
pub fn inspect(
    sources: &CertificateSources,
    now_s: i64,
    running: &[Pair],
) -> (Loaded, Vec<CertificateFault>) {
    let mut loaded = Loaded::default();
    let mut faults = Vec::new();
    for (position, files) in sources.pairs.iter().enumerate() {
        let is_default = position == 0;
        loaded.add(read_pair(files, is_default), now_s, running, &mut faults);
    }
    let Some(folder) = &sources.folder else { return (loaded, faults) };
    let has_default = !sources.pairs.is_empty();
    match scan(folder) {
        Ok(found) => {
            for candidate in found {
                loaded.take(&candidate, has_default, now_s, running, &mut faults);
            }
            if loaded.pairs.is_empty() && faults.is_empty() {
                faults.push(Fault::EmptyFolder.of(folder));
            }
        }
        Err(fault) => faults.push(fault),
    }
    (loaded, faults)
}

impl Loaded {
    fn take(
        &mut self,
        candidate: &Candidate,
        has_default: bool,
        now_s: i64,
        running: &[Pair],
        faults: &mut Vec<CertificateFault>,
    ) {
        match candidate {
            Candidate::Pair(files, is_default) => {
                self.add(read_pair(files, *is_default && !has_default), now_s, running, faults);
            }
            Candidate::LoneCertificate(path, fault) => match is_authority(path) {
                Ok(true) => {}
                Ok(false) => faults.push(fault.make().of(path)),
                Err(other) => faults.push(other),
            },
            Candidate::LoneKey(path) => {
                faults.push(Fault::CertificateMissing(path.with_extension("crt")).of(path));
            }
        }
    }

    fn add(
        &mut self,
        read: Result<(Pair, Option<String>), CertificateFault>,
        now_s: i64,
        running: &[Pair],
        faults: &mut Vec<CertificateFault>,
    ) {
        let (pair, warning) = match read {
            Ok(read) => read,
            Err(fault) => return faults.push(fault),
        };
        self.warnings.extend(warning.map(|text| (pair.file.clone(), text)));
        match pair.check_dates(now_s) {
            Ok(()) => {}
            Err(fault) if running.iter().any(|other| other.fingerprint == pair.fingerprint) => {
                self.warnings.push((pair.file.clone(), fault.to_string()));
            }
            Err(fault) => return faults.push(fault),
        }
        self.pairs.push(pair);
    }
}

/// The authorities that clients are verified by.
///
/// # Errors
/// What is wrong with the file.
pub fn load_client_trust(clients: &ClientAuthConfig) -> Result<ClientTrust, CertificateFault> {
    let pem = read(&clients.authorities)?.0;
    ClientTrust::read(&pem, clients.mode).map_err(|fault| fault.of(&clients.authorities))
}

/// Faults in a few lines.
#[must_use]
pub fn describe(faults: &[CertificateFault]) -> String {
    const SHOWN_MAX: usize = 10;
    let mut lines: Vec<String> = faults.iter().take(SHOWN_MAX).map(ToString::to_string).collect();
    if faults.len() > SHOWN_MAX {
        lines.push(format!("and {} more", faults.len() - SHOWN_MAX));
    }
    lines.join("\n")
}

/// What there is to watch: files that are read, and folders in which pairs come and go.
#[must_use]
pub fn watch_set(sources: &CertificateSources, clients: Option<&ClientAuthConfig>) -> WatchSet {
    let mut set = WatchSet { what: "the certificates", ..WatchSet::default() };
    let mut add = |files: &PairFiles| {
        set.files.extend([files.certificate.clone(), files.key.clone()]);
    };
    sources.pairs.iter().for_each(&mut add);
    if let Some(folder) = &sources.folder {
        for candidate in scan(folder).unwrap_or_default() {
            if let Candidate::Pair(files, _) = candidate {
                add(&files);
            }
        }
        let folders = entries(folder).unwrap_or_default();
        set.folders.extend(folders.into_iter().filter(|path| path.is_dir()));
        set.folders.push(folder.clone());
    }
    set.files.extend(clients.map(|clients| clients.authorities.clone()));
    set
}

/// Something in a folder that may be a pair.
#[derive(Debug, PartialEq, Eq)]
enum Candidate {
    /// A pair, and whether its name makes it the default.
    Pair(PairFiles, bool),
    /// A certificate without a key, which an authority's may be.
    LoneCertificate(PathBuf, Missing),
    /// A key without a certificate.
    LoneKey(PathBuf),
}

/// What a lone certificate lacks.
#[derive(Debug, PartialEq, Eq)]
enum Missing {
    /// Its key in a file of its own.
    File(PathBuf),
    /// Its key in the same file.
    Section,
}

impl Missing {
    fn make(&self) -> Fault {
        match self {
            Self::File(path) => Fault::KeyMissing(path.clone()),
            Self::Section => Fault::NoKey,
        }
    }
}

/// What a folder holds, in the order of names.
fn scan(folder: &Path) -> Result<Vec<Candidate>, CertificateFault> {
    let entries = entries(folder).map_err(|cause| Fault::Unreadable(cause).of(folder))?;
    if entries.len() > PAIRS_MAX {
        return Err(Fault::TooMany(PAIRS_MAX).of(folder));
    }
    let is_certbots = folder.join(CHAIN).is_file() && folder.join(KEY).is_file();
    let mut found = Vec::new();
    if is_certbots {
        found.push(Candidate::Pair(certbot_pair(folder), false));
    }
    for path in entries {
        let name = path.file_name().unwrap_or_default();
        let is_extra = [CHAIN, KEY].iter().chain(&CERTBOT_EXTRAS).any(|extra| name == *extra);
        if !(is_certbots && is_extra) {
            found.extend(candidate(&path));
        }
    }
    Ok(found)
}

/// The paths in a folder, in the order of names, without hidden ones (Kubernetes keeps its `..data` there).
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn candidate(path: &Path) -> Option<Candidate> {
    if path.is_dir() {
        let is_pair = path.join(CHAIN).exists() || path.join(KEY).exists();
        let is_default = path.file_name().is_some_and(|name| name == DEFAULT);
        return is_pair.then(|| Candidate::Pair(certbot_pair(path), is_default));
    }
    let is_default = path.file_stem().is_some_and(|stem| stem == DEFAULT);
    let beside = |extension| Some(path.with_extension(extension)).filter(|path| path.exists());
    let pair = |key| PairFiles { certificate: path.to_owned(), key };
    match path.extension()?.to_str()? {
        "crt" => Some(match beside("key") {
            Some(key) => Candidate::Pair(pair(key), is_default),
            None => Candidate::LoneCertificate(
                path.to_owned(),
                Missing::File(path.with_extension("key")),
            ),
        }),
        "pem" => Some(match beside("key") {
            Some(key) => Candidate::Pair(pair(key), is_default),
            None if holds_key(path) => Candidate::Pair(pair(path.to_owned()), is_default),
            None => Candidate::LoneCertificate(path.to_owned(), Missing::Section),
        }),
        "key" => (beside("crt").is_none() && beside("pem").is_none())
            .then(|| Candidate::LoneKey(path.to_owned())),
        _ => None,
    }
}

fn certbot_pair(folder: &Path) -> PairFiles {
    PairFiles { certificate: folder.join(CHAIN), key: folder.join(KEY) }
}

/// Whether a PEM file has a key in it. What cannot be read is taken for a pair, so that the fault is told.
fn holds_key(path: &Path) -> bool {
    const LABEL: &[u8] = b"PRIVATE KEY-----";
    read(path).map_or(true, |(pem, _)| pem.windows(LABEL.len()).any(|window| window == LABEL))
}

fn is_authority(path: &Path) -> Result<bool, CertificateFault> {
    let pem = read(path)?.0;
    let Ok(first) = CertificateDer::from_pem_slice(&pem) else { return Ok(false) };
    Ok(Facts::read(&first).is_ok_and(|facts| facts.is_authority))
}

/// A pair, and what is unwise about its key's file.
fn read_pair(
    files: &PairFiles,
    is_default: bool,
) -> Result<(Pair, Option<String>), CertificateFault> {
    let certificate = read(&files.certificate)?.0;
    let (key, metadata) = read(&files.key)?;
    let text = PairText {
        certificate_file: &files.certificate,
        certificate: &certificate,
        key_file: &files.key,
        key: &key,
    };
    let pair = Pair::read(text, is_default)?;
    let is_open = metadata.permissions().mode() & 0o004 != 0;
    let warning = is_open.then(|| {
        format!(
            "every user of this machine can read the key in {}; take that right away: chmod o= {0}",
            files.key.display()
        )
    });
    Ok((pair, warning))
}

/// The bytes of a regular file within the bound.
pub(super) fn read(path: &Path) -> Result<(Vec<u8>, Metadata), CertificateFault> {
    let unreadable = |cause| Fault::Unreadable(cause).of(path);
    // Looked at before it is opened: a pipe would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is no regular file")));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::TooLarge(FILE_BYTES_MAX).of(path));
    }
    Ok((bytes, metadata))
}

#[cfg(test)]
#[path = "certificate_files_tests.rs"]
mod tests;
