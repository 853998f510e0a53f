//! The three requests are printed only where the policy answers them so.

use std::fs;
use std::path::Path;

use super::super::super::load_policy;
use super::*;

fn prepare(file: &Path, origin: &str) -> files::Prepared {
    files::prepare(file, Some(origin), files::SAMPLE_ADDRESS).unwrap()
}

fn trial(policy: impl Fn(String) -> String) -> Trial {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("p.toml");
    let prepared = prepare(&file, "http://127.0.0.1:1");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, policy(text)).unwrap();
    Trial::new(&load_policy(&file).unwrap().snapshot, Paths::of(true), &prepared.token)
}

#[test]
fn as_written_all_three_hold() {
    assert!(matches!(trial(|text| text), Trial::All(_)));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("p.toml");
    let prepared = prepare(&file, "https://api.example/v2");
    let snapshot = load_policy(&file).unwrap().snapshot;
    assert!(matches!(Trial::new(&snapshot, Paths::of(false), &prepared.token), Trial::All(_)));
}

#[test]
fn addresses_are_those_that_a_client_here_can_use() {
    let check = |address: &str, is_tls, expected: &str| {
        assert_eq!(base(address.parse().unwrap(), is_tls), expected);
    };
    check("127.0.0.1:8080", false, "http://127.0.0.1:8080/demo");
    check("[::]:8080", false, "http://[::1]:8080/demo");
    check("127.0.0.1:8443", true, "https://localhost:8443/demo");
    check("0.0.0.0:8443", true, "https://localhost:8443/demo");
    check("[::1]:443", true, "https://localhost:443/demo");
    check("127.0.0.2:8443", true, "https://127.0.0.2:8443/demo");
    check("[2001:db8::1]:8443", true, "https://[2001:db8::1]:8443/demo");
    let words = |path: &str| in_shell(Path::new(path));
    assert_eq!(words("./payfence-data/dev-tls.crt"), "./payfence-data/dev-tls.crt");
    assert_eq!(words("it's here/a.crt"), "'it'\\''s here/a.crt'");
}

#[test]
fn an_edited_policy_is_told_of() {
    let check = |from: &str, to: &str, expected: &str| match trial(|text| text.replace(from, to)) {
        Trial::All(_) => panic!("{from} -> {to} went unnoticed"),
        Trial::Edited(advice) => assert!(advice.contains(expected), "{advice}"),
    };
    check("\"/api/v1/*\"", "\"/**\"", "try the paths");
    check("slug = \"demo\"", "slug = \"mine\"", "try the paths");
    check("status = \"active\"", "status = \"canceled\"", "no longer admits");
    check("id = \"tok_demo\"", "id = \"tok_demo\", revoked = true", "no longer admits");
}
