//! The certificate of `payfence dev --tls`: made here, for this machine's own names.
//!
//! In: the policy file's path, the address that speaks TLS, the time. Out: a certificate and its key on disk.
//! Always holds: the key is in a file that only its owner can read and never leaves this machine; what is there is kept
//! while it is good for a while yet, so that whoever trusted it need not do so again; no authority is made, so trusting it
//! trusts these names alone.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use dataplane::config::{CertificateSources, PairFiles};
use dataplane::offcore::certificate_files;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use time::OffsetDateTime;

use super::files::{SLUG, broken, replace};
use crate::failure::Failure;
use crate::settings;

const CERTIFICATE_FILE: &str = "dev-tls.crt";
const KEY_FILE: &str = "dev-tls.key";
const DAY_S: i64 = 86_400;
/// How long a new one is good.
const VALID_S: i64 = 365 * DAY_S;
/// How long one that is kept must be good yet.
const LEFT_S_MIN: i64 = 30 * DAY_S;

/// Finds or makes the pair in the data directory beside the policy file. `listen` is where TLS is spoken.
///
/// # Errors
/// When the files cannot be written, or no key can be made.
pub fn prepare(policy: &Path, listen: IpAddr, now_s: i64) -> Result<PairFiles, Failure> {
    let folder = settings::beside(policy).join(settings::DATA_DIR);
    let files =
        PairFiles { certificate: folder.join(CERTIFICATE_FILE), key: folder.join(KEY_FILE) };
    let names = Names::of(listen);
    if is_good(&files, &names, now_s + LEFT_S_MIN) {
        return Ok(files);
    }
    let (certificate, key) = make(&names, now_s).map_err(|error| {
        Failure::failed(format!("cannot make a certificate for --tls: {error}"))
    })?;
    fs::create_dir_all(&folder).map_err(|error| broken("write", &folder, &error))?;
    for (path, text, mode) in [(&files.key, &key, 0o600), (&files.certificate, &certificate, 0o644)]
    {
        replace(path, text, mode).map_err(|error| broken("write", path, &error))?;
    }
    Ok(files)
}

/// Whom the certificate is for.
struct Names {
    hosts: [String; 2],
    addresses: Vec<IpAddr>,
}

impl Names {
    fn of(listen: IpAddr) -> Self {
        let mut addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        if !listen.is_unspecified() && !addresses.contains(&listen) {
            addresses.push(listen);
        }
        Self { hosts: ["localhost".to_owned(), format!("{SLUG}.localhost")], addresses }
    }
}

/// Whether what is there serves these names until `until_s`, as a node reads it.
fn is_good(files: &PairFiles, names: &Names, until_s: i64) -> bool {
    let sources = CertificateSources { folder: None, pairs: vec![files.clone()] };
    let Ok(loaded) = certificate_files::load(&sources, until_s, &[]) else { return false };
    // A warning is about a key that others can read.
    loaded.warnings.is_empty()
        && loaded.pairs.first().is_some_and(|pair| {
            names.hosts.iter().all(|name| pair.facts.names.contains(name))
                && names.addresses.iter().all(|address| pair.facts.addresses.contains(address))
        })
}

/// A certificate and its key as PEM.
fn make(names: &Names, now_s: i64) -> Result<(String, String), Box<dyn std::error::Error>> {
    let addresses = names.addresses.iter().map(ToString::to_string);
    let mut params =
        CertificateParams::new(names.hosts.iter().cloned().chain(addresses).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, "payfence dev");
    // A clock that is a little behind takes it too.
    params.not_before = OffsetDateTime::from_unix_timestamp(now_s - DAY_S)?;
    params.not_after = OffsetDateTime::from_unix_timestamp(now_s + VALID_S)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
