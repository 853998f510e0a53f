//! Findings for certificates that are good, old, about to end, missing.

use std::fs;
use std::path::Path;

use super::*;
use crate::cli::TlsArgs;

/// When the certificates of these tests are looked at, in Unix seconds.
const NOW_S: i64 = 1_800_000_000;

/// A pair in `folder` that ends some days after [`NOW_S`].
fn write_pair(folder: &Path, name: &str, days: i64) {
    let mut params = rcgen::CertificateParams::new(vec![format!("{name}.example")]).unwrap();
    let at = |seconds: i64| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    params.not_before = at(NOW_S - 400 * DAY_S);
    params.not_after = at(NOW_S + days * DAY_S);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

#[test]
fn each_certificate_has_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "good", 90);
    write_pair(folder.path(), "soon", 13);
    write_pair(folder.path(), "over", -1);
    fs::remove_file(folder.path().join("good.key")).unwrap();
    write_pair(folder.path(), "well", 90);
    let tls = TlsArgs {
        tls_listen: vec!["127.0.0.1:0".parse().unwrap()],
        tls_certificates: Some(folder.path().to_owned()),
        tls_client_ca: Some(folder.path().join("none.pem")),
        ..TlsArgs::default()
    };
    let findings = examine(&NodeArgs { tls, ..NodeArgs::default() }, NOW_S);
    let check = |name: &str, expected: &str| {
        let ours = findings.iter().filter(|(thing, _)| thing.contains(name));
        let text: Vec<String> = ours.map(|(_, finding)| format!("{finding:?}")).collect();
        assert!(text.iter().any(|text| text.contains(expected)), "{name}: {text:?}");
    };
    check("good.crt", "Broken(Problem { what: \"has no key beside it\"");
    check("over.crt", "Broken(Problem { what: \"expired at ");
    check("over.crt", "remedy: \"renew it\"");
    check("soon.crt", "Unwise(Problem { what: \"soon.example: valid until ");
    check("soon.crt", "for 13 days");
    check("well.crt", "Well(\"well.example: valid until ");
    check("none.pem", "Broken");
}

#[test]
fn flags_that_contradict_each_other_are_a_finding() {
    assert!(examine(&NodeArgs::default(), NOW_S).is_empty());
    let tls = TlsArgs { tls_cert: Some("a.crt".into()), ..TlsArgs::default() };
    let findings = examine(&NodeArgs { tls, ..NodeArgs::default() }, NOW_S);
    assert!(matches!(&findings[..], [(_, Finding::Broken(_))]), "{findings:?}");
}
