//! Origins that are who they should be, and those that are not; what keeps its sessions.

use std::path::Path;

use rustls::server::WebPkiClientVerifier;
use rustls::{ProtocolVersion, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::super::fixture::{Authority, Ended, Issued, Meeting, Wanted};
use super::super::{Cause, classify};
use super::*;

const CA: &str = "ca.pem";

/// An origin with this certificate that asks clients for theirs, where authorities are given.
fn origin(issued: &Issued, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let pem = authority.pem();
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(vec![issued.der()], key).unwrap();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn own_ca(pem: &str) -> (OriginTlsKey, OriginFiles) {
    let key = OriginTlsKey { ca: Some(CA.into()), ..OriginTlsKey::default() };
    (key, OriginFiles { ca: Some(pem.as_bytes().to_vec()), ..OriginFiles::default() })
}

fn roots(authority: &Authority) -> SystemRoots {
    SystemRoots(vec![CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()])
}

/// The configuration for one key.
fn config(key: OriginTlsKey, files: OriginFiles, roots: &SystemRoots) -> Arc<ClientConfig> {
    let origins = OriginTls::new(Clock::start());
    origins.replace([(key.clone(), files)], roots).unwrap();
    origins.get(&key).unwrap()
}

fn meet(
    config: &Arc<ClientConfig>,
    origin: &Arc<ServerConfig>,
    name: &str,
) -> Result<Meeting, Cause> {
    let mut meeting = Meeting::new(config, origin, name);
    match meeting.shake() {
        Ok(()) => Ok(meeting),
        Err(Ended::Client(error)) => Err(classify(&error)),
        Err(Ended::Server(error)) => panic!("the origin ended it: {error}"),
    }
}

fn spki_pin(issued: &Issued) -> [u8; 32] {
    let der = issued.der();
    let parsed = rustls::server::ParsedCertificate::try_from(&der).unwrap();
    Sha256::digest(parsed.subject_public_key_info()).into()
}

#[test]
fn who_is_trusted_by_which_roots() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let issue = |wanted| authority.issue(wanted);
    let good = issue(Wanted::names(&["o.example", "192.0.2.7"]));
    let expired = issue(Wanted::names(&["o.example"]).days(-20, -10));
    let early = issue(Wanted::names(&["o.example"]).days(10, 20));
    let purpose = issue(Wanted::client("o.example"));
    let alone = Wanted::names(&["o.example"]).self_signed();
    let system = config(OriginTlsKey::default(), OriginFiles::default(), &roots(&authority));
    let own = own_ca(&authority.pem());
    let own = config(own.0, own.1, &SystemRoots::default());
    let elsewhere = own_ca(&other.pem());
    let elsewhere = config(elsewhere.0, elsewhere.1, &roots(&authority));
    let check = |config, issued: &Issued, name: &str, expected: Option<Cause>| {
        assert_eq!(meet(config, &origin(issued, None), name).err(), expected, "{name}");
    };
    for config in [&system, &own] {
        check(config, &good, "o.example", None);
        check(config, &good, "O.EXAMPLE", None);
        check(config, &good, "192.0.2.7", None);
        check(config, &good, "192.0.2.8", Some(Cause::Name));
        check(config, &good, "p.example", Some(Cause::Name));
        check(config, &expired, "o.example", Some(Cause::Expired));
        check(config, &early, "o.example", Some(Cause::Expired));
        check(config, &alone, "o.example", Some(Cause::Issuer));
        check(config, &purpose, "o.example", Some(Cause::Certificate));
    }
    // An own authority takes the place of the system's.
    check(&elsewhere, &good, "o.example", Some(Cause::Issuer));
}

#[test]
fn a_certificate_named_itself_is_trusted_for_its_names_and_its_time() {
    let mut as_authority = Wanted::names(&["o.example"]);
    // As openssl req -x509 makes them.
    as_authority.params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    for wanted in [Wanted::names(&["o.example"]), as_authority] {
        let check = |wanted: Wanted, name: &str, expected: Option<Cause>| {
            let issued = wanted.self_signed();
            let (key, files) = own_ca(&issued.chain);
            let config = config(key, files, &SystemRoots::default());
            assert_eq!(meet(&config, &origin(&issued, None), name).err(), expected, "{name}");
        };
        check(wanted.clone(), "o.example", None);
        check(wanted.clone(), "p.example", Some(Cause::Name));
        check(wanted.clone().days(-20, -10), "o.example", Some(Cause::Expired));
        check(wanted.clone().days(10, 20), "o.example", Some(Cause::Expired));
    }
    // The key of another certificate with the same names does not do.
    let (named, shown) =
        (Wanted::names(&["o.example"]).self_signed(), Wanted::names(&["o.example"]).self_signed());
    let (key, files) = own_ca(&named.chain);
    let config = config(key, files, &SystemRoots::default());
    assert!(meet(&config, &origin(&shown, None), "o.example").is_err());
}

#[test]
fn pins_are_verified_in_addition() {
    let authority = Authority::new("ca");
    let good = authority.issue(Wanted::names(&["o.example"]));
    let expired = authority.issue(Wanted::names(&["o.example"]).days(-20, -10));
    let check = |pins: Vec<[u8; 32]>, issued: &Issued, expected: Option<Cause>| {
        let (key, files) = own_ca(&authority.pem());
        let config = config(OriginTlsKey { pins, ..key }, files, &SystemRoots::default());
        assert_eq!(meet(&config, &origin(issued, None), "o.example").err(), expected);
    };
    check(vec![spki_pin(&good)], &good, None);
    check(vec![[7; 32], spki_pin(&good)], &good, None);
    check(vec![[7; 32]], &good, Some(Cause::Pin));
    check(vec![spki_pin(&expired)], &expired, Some(Cause::Expired));
}

#[test]
fn an_origin_that_asks_is_shown_the_certificate() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let issued = authority.issue(Wanted::names(&["o.example"]));
    let ours = clients.issue(Wanted::client("gateway"));
    let asking = origin(&issued, Some(&clients));
    let (key, files) = own_ca(&authority.pem());
    let two_files = (
        OriginTlsKey {
            client_cert: Some("c.crt".into()),
            client_key: Some("c.key".into()),
            ..key.clone()
        },
        OriginFiles {
            client_cert: Some(ours.chain.clone().into_bytes()),
            client_key: Some(ours.key.clone().into_bytes()),
            ..files.clone()
        },
    );
    let both = format!("{}{}", ours.chain, ours.key).into_bytes();
    let one_file = (
        OriginTlsKey { client_cert: Some("c.pem".into()), ..key.clone() },
        OriginFiles { client_cert: Some(both), ..files.clone() },
    );
    for (key, files) in [two_files, one_file] {
        let config = config(key, files, &SystemRoots::default());
        let meeting = meet(&config, &asking, "o.example").unwrap();
        assert_eq!(meeting.server.peer_certificates().unwrap()[0], ours.der());
    }
    let without = config(key, files, &SystemRoots::default());
    let ended = Meeting::new(&without, &asking, "o.example").shake();
    assert_eq!(ended, Err(Ended::Server(rustls::Error::NoCertificatesPresented)));
}

#[test]
fn sessions_resume_and_outlive_a_policy_that_changes_nothing() {
    let authority = Authority::new("ca");
    let issued = authority.issue(Wanted::names(&["o.example"]));
    let origin = origin(&issued, None);
    let origins = OriginTls::new(Clock::start());
    let none = SystemRoots::default();
    let (key, files) = own_ca(&authority.pem());
    origins.replace([(key.clone(), files.clone())], &none).unwrap();
    let first = origins.get(&key).unwrap();
    let meeting = meet(&first, &origin, "o.example").unwrap();
    assert_eq!(meeting.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(meeting.client.alpn_protocol(), Some(&b"http/1.1"[..]));

    origins.replace([(key.clone(), files.clone()), own_other(&authority)], &none).unwrap();
    let second = origins.get(&key).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert!(meet(&second, &origin, "o.example").unwrap().is_resumed());

    // Another file under the same name is another configuration, without the sessions of the first.
    let more = Authority::new("more");
    let changed = own_ca(&format!("{}{}", authority.pem(), more.pem()));
    origins.replace([changed], &none).unwrap();
    let third = origins.get(&key).unwrap();
    assert!(!Arc::ptr_eq(&first, &third));
    assert!(!meet(&third, &origin, "o.example").unwrap().is_resumed());
}

fn own_other(authority: &Authority) -> (OriginTlsKey, OriginFiles) {
    let (key, files) = own_ca(&authority.pem());
    (OriginTlsKey { pins: vec![[1; 32]], ..key }, files)
}

#[test]
fn a_key_is_found_one_policy_longer() {
    let authority = Authority::new("ca");
    let origins = OriginTls::new(Clock::start());
    let none = SystemRoots::default();
    let (key, files) = own_ca(&authority.pem());
    assert!(origins.get(&key).is_none());
    origins.replace([(key.clone(), files)], &none).unwrap();
    origins.replace([own_other(&authority)], &none).unwrap();
    assert!(origins.get(&key).is_some());
    origins.replace([own_other(&authority)], &none).unwrap();
    assert!(origins.get(&key).is_none());
}

#[test]
fn a_bad_file_is_named_and_changes_nothing() {
    let authority = Authority::new("ca");
    let issued = authority.issue(Wanted::client("gateway"));
    let origins = OriginTls::new(Clock::start());
    let none = SystemRoots::default();
    let (good, files) = own_ca(&authority.pem());
    origins.replace([(good.clone(), files.clone())], &none).unwrap();
    let before = origins.get(&good).unwrap();
    let check = |key: OriginTlsKey, files: OriginFiles, expected: &str| {
        let error = origins.replace([(key, files)], &none).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(Arc::ptr_eq(&before, &origins.get(&good).unwrap()));
    };
    let ca = |pem: &str| own_ca(pem);
    let (key, empty) = ca("");
    check(key, empty, "ca.pem: holds no certificate");
    let (key, broken) = ca("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    check(key, broken, "ca.pem: cannot be used to verify certificates");
    let shown = |cert: &str, key: &str| {
        let paths = OriginTlsKey {
            client_cert: Some(Path::new("c.crt").into()),
            client_key: Some(Path::new("c.key").into()),
            ..good.clone()
        };
        let client_cert = Some(cert.as_bytes().to_vec());
        let client_key = Some(key.as_bytes().to_vec());
        (paths, OriginFiles { client_cert, client_key, ..files.clone() })
    };
    let (key, no_key) = shown(&issued.chain, "");
    check(key, no_key, "c.key: holds no private key");
    let other = authority.issue(Wanted::client("gateway"));
    let (key, mismatch) = shown(&issued.chain, &other.key);
    check(key, mismatch, "c.key: does not belong to the certificate in c.crt");
    check(OriginTlsKey::default(), OriginFiles::default(), "this machine has no trusted root");
}
