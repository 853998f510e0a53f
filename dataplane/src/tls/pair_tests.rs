//! Pairs that are good, and what is said of those that are not.

use super::super::fixture::{Authority, DAY_S, Issued, Wanted, now_s};
use super::*;

fn read(issued: &Issued, is_default: bool) -> Result<Pair, CertificateFault> {
    let text = PairText {
        certificate_file: Path::new("a.crt"),
        certificate: issued.chain.as_bytes(),
        key_file: Path::new("a.key"),
        key: issued.key.as_bytes(),
    };
    Pair::read(text, is_default)
}

#[test]
fn a_good_pair_tells_its_names_and_dates() {
    let authority = Authority::new("ca");
    for wanted in [
        Wanted::names(&["A.example", "*.b.example", "192.0.2.1"]),
        Wanted::names(&["a.example", "*.b.example", "192.0.2.1"]).rsa(),
    ] {
        let pair = read(&authority.issue(wanted), false).unwrap();
        assert_eq!(pair.facts.names, ["a.example", "*.b.example"]);
        assert_eq!(pair.facts.addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
        assert!(!pair.facts.is_authority);
        assert!((pair.facts.not_after_s - now_s() - 90 * DAY_S).abs() < 60);
        assert!(pair.check_dates(now_s()).is_ok());
    }
    assert!(Facts::read(&read_authority(&authority)).unwrap().is_authority);
}

fn read_authority(authority: &Authority) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()
}

#[test]
fn what_is_wrong_is_named_with_the_file_and_what_to_do() {
    let authority = Authority::new("ca");
    let good = authority.issue(Wanted::names(&["a.example"]));
    let other = authority.issue(Wanted::names(&["a.example"]));
    let check = |chain: &str, key: &str, expected: &str| {
        let error = read(&Issued { chain: chain.to_owned(), key: key.to_owned() }, false);
        let error = error.expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(error.contains("; "), "{error} says not what to do");
        assert!(!error.contains(good.key.lines().nth(1).unwrap()), "{error} holds a key");
    };
    check("", &good.key, "a.crt: holds no certificate");
    check(&good.key, &good.key, "a.crt: holds no certificate");
    check(
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        &good.key,
        "a.crt: is no valid PEM",
    );
    check(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &good.key,
        "a.crt: certificate 1 of the file cannot be understood",
    );
    let broken_second =
        format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", good.chain);
    check(&broken_second, &good.key, "a.crt: certificate 2 of the file cannot be understood");
    check(&good.chain, "", "a.key: holds no private key");
    check(&good.chain, &good.chain, "a.key: holds no private key");
    check(
        &good.chain,
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "a.key: the private key cannot be used",
    );
    let cut = &good.key[..good.key.len() / 2];
    check(&good.chain, cut, "a.key: ");
    check(&good.chain, &other.key, "a.key: does not belong to the certificate in a.crt");
    let nameless = authority.issue(Wanted::names(&[]));
    check(&nameless.chain, &nameless.key, "a.crt: names no host in subjectAltName");
    assert!(read(&nameless, true).is_ok());
}

#[test]
fn dates() {
    let authority = Authority::new("ca");
    let pair = read(&authority.issue(Wanted::names(&["a.example"]).days(-10, 10)), false).unwrap();
    let check = |now_s: i64, expected: Option<&str>| {
        let said = pair.check_dates(now_s).err().map(|fault| fault.to_string());
        assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
        assert!(said.unwrap_or_default().starts_with(expected.unwrap_or_default()));
    };
    check(now_s(), None);
    check(pair.facts.not_after_s, None);
    check(pair.facts.not_after_s + 1, Some("a.crt: expired at 2"));
    check(pair.facts.not_before_s - 1, Some("a.crt: is valid only from 2"));
}

#[test]
fn no_key_is_ever_shown() {
    let issued = Authority::new("ca").issue(Wanted::names(&["a.example"]));
    let shown = format!("{:?}", issued.pair("a.crt", false));
    assert!(shown.contains("a.example") && !shown.to_lowercase().contains("key:"), "{shown}");
}
