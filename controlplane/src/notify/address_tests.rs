//! Which URLs and addresses webhooks may go to.

use super::*;

#[test]
fn urls_are_judged_as_written() {
    let check = |text: &str, is_public: bool, is_private: bool| {
        assert_eq!(check_url(text, false).is_ok(), is_public, "{text}");
        assert_eq!(check_url(text, true).is_ok(), is_private, "{text} with private ones allowed");
    };
    check("https://hooks.example.com/payfence?a=b", true, true);
    check("https://hooks.example.com:8443/", true, true);
    check("http://hooks.example.com/", false, true);
    check("https://127.0.0.1/", false, true);
    check("https://0x7f.1/", false, true);
    check("https://2130706433/", false, true);
    check("https://[::1]/", false, true);
    check("https://[::ffff:169.254.169.254]/", false, true);
    check("https://169.254.169.254/latest/meta-data", false, true);
    check("https://localhost/", false, true);
    check("https://metadata.google.internal/", false, true);
    check("https://user:word@hooks.example.com/", false, false);
    check("https://hooks.example.com/#part", false, false);
    check("ftp://hooks.example.com/", false, false);
    check("file:///etc/passwd", false, false);
    check("https://", false, false);
    check("hooks.example.com", false, false);
    check(&format!("https://hooks.example.com/{}", "a".repeat(2_000)), false, false);
    check("https://hooks.example.com/\r\nX-Injected: 1", false, false);
}

#[test]
fn one_private_address_is_enough_to_refuse_a_name() {
    let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    };
    let public = addresses(&["93.184.215.14", "2606:2800:21f::1"]);
    assert_eq!(keep(&public, false), public);
    for private in ["10.0.0.1", "::1", "::ffff:10.0.0.1", "169.254.169.254", "fd00::1", "0.0.0.0"] {
        let both = addresses(&["93.184.215.14", private]);
        assert!(keep(&both, false).is_empty(), "{private}");
        assert_eq!(keep(&both, true), both);
    }
}
