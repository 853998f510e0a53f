//! Subjects as headers carry them; certificates that are none.

use super::super::fixture::{Authority, Wanted};
use super::*;

#[test]
fn subjects_are_printable_whatever_a_client_calls_itself() {
    let authority = Authority::new("ca");
    let check = |name: &str, expected: Option<&str>| {
        let issued = authority.issue(Wanted::client(name));
        assert_eq!(client_subject(&[issued.der()]).as_deref(), expected, "{name}");
    };
    check("acme", Some("CN=acme"));
    check("Acme, Inc.", Some("CN=Acme\\, Inc."));
    check("a\r\nPayFence-Customer: b", Some("CN=a\\0d\\0aPayFence-Customer: b"));
    check("Zoë", Some("CN=Zo\\C3\\AB"));
    check(&"x".repeat(2000), None);
    assert_eq!(client_subject(&[]), None);
    assert_eq!(client_subject(&[CertificateDer::from(vec![0x30, 0x00])]), None);
}

#[test]
fn bytes_that_are_no_certificate_are_an_error() {
    for bytes in [&b""[..], b"\x30", b"\x30\x82\xff\xff", &[0xff; 300]] {
        assert!(Facts::read(&CertificateDer::from(bytes)).is_err());
    }
    let good = Authority::new("ca").issue(Wanted::names(&["a.example"])).der();
    for end in 0..good.len() {
        assert!(Facts::read(&CertificateDer::from(&good[..end])).is_err(), "{end}");
    }
}
