use super::*;

#[test]
fn plain_text_is_safe_on_loopback_alone() {
    let check = |address: &str, is_tls: bool, expected: bool| {
        let found = is_exposed(address.parse().unwrap(), is_tls);
        assert_eq!(found, expected, "{address} with TLS {is_tls}");
    };
    check("127.0.0.1:8082", false, false);
    check("127.9.9.9:8082", false, false);
    check("[::1]:8082", false, false);
    check("[::ffff:127.0.0.1]:8082", false, false);
    check("0.0.0.0:8082", false, true);
    check("[::]:8082", false, true);
    check("192.0.2.1:8082", false, true);
    check("192.0.2.1:8082", true, false);
}
