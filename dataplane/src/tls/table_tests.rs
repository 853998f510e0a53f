//! Which certificate is for which name.

use super::super::fixture::{Authority, Wanted};
use super::*;

const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

/// The file of the pair that is chosen.
fn chosen(
    table: &CertificateTable,
    name: Option<&str>,
    schemes: &[SignatureScheme],
) -> Option<String> {
    let certified = table.choose(name, schemes)?;
    let pair = table.pairs().iter().find(|pair| Arc::ptr_eq(&pair.certified, &certified)).unwrap();
    Some(pair.file.display().to_string())
}

#[test]
fn exact_before_wildcard_before_default() {
    let authority = Authority::new("ca");
    let pair = |file: &str, names: &[&str]| {
        authority.issue(Wanted::names(names)).pair(file, file == "default")
    };
    let named = || {
        vec![
            pair("wild", &["*.example.com"]),
            pair("exact", &["a.example.com", "example.com"]),
            pair("deep", &["*.a.example.com"]),
        ]
    };
    let with_default =
        CertificateTable::new([named(), vec![pair("default", &["d.example"])]].concat());
    let without = CertificateTable::new(named());
    let check = |name: Option<&str>, expected: Option<&str>| {
        assert_eq!(chosen(&without, name, &[ECDSA]).as_deref(), expected, "{name:?}");
        let expected = expected.unwrap_or("default");
        assert_eq!(chosen(&with_default, name, &[ECDSA]).as_deref(), Some(expected), "{name:?}");
    };
    check(Some("a.example.com"), Some("exact"));
    check(Some("b.example.com"), Some("wild"));
    check(Some("example.com"), Some("exact"));
    check(Some("x.a.example.com"), Some("deep"));
    check(Some("x.b.example.com"), None);
    check(Some("other.example"), None);
    check(Some("com"), None);
    check(None, None);
    assert_eq!(chosen(&with_default, Some("d.example"), &[ECDSA]).as_deref(), Some("default"));
}

#[test]
fn a_client_is_given_what_it_can_verify_and_the_longest_valid() {
    let authority = Authority::new("ca");
    let pair = |file: &str, wanted: Wanted| authority.issue(wanted).pair(file, false);
    let names = || Wanted::names(&["a.example"]);
    let table = CertificateTable::new(vec![
        pair("rsa", names().rsa()),
        pair("old", names().days(-80, 10)),
        pair("new", names().days(-1, 89)),
    ]);
    let check = |schemes: &[SignatureScheme], expected: &str| {
        assert_eq!(chosen(&table, Some("a.example"), schemes).as_deref(), Some(expected));
    };
    check(&[ECDSA, RSA], "new");
    check(&[RSA, ECDSA], "new");
    check(&[RSA], "rsa");
    check(&[SignatureScheme::ED25519], "new");
}

#[test]
fn expiry_is_that_of_what_is_served() {
    let authority = Authority::new("ca");
    let pair = |wanted: Wanted, is_default| authority.issue(wanted).pair("f", is_default);
    let old = pair(Wanted::names(&["a.example"]).days(-80, 10), false);
    let new = pair(Wanted::names(&["a.example", "*.a.example"]).days(-1, 89), false);
    let rsa = pair(Wanted::names(&["*.a.example"]).rsa().days(-1, 50), false);
    let default = pair(Wanted::names(&["192.0.2.1"]), true);
    let (new_s, rsa_s, default_s) =
        (new.facts.not_after_s, rsa.facts.not_after_s, default.facts.not_after_s);
    let table = CertificateTable::new(vec![old, new, rsa, default]);
    let expected = [("*.a.example", rsa_s), ("a.example", new_s), ("default", default_s)];
    assert_eq!(table.expiry_s(), expected.map(|(name, at)| (name.to_owned(), at)).into());
}
