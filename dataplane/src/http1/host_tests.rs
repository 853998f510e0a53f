//! Hosts as data.

use super::*;

#[test]
fn hosts_split() {
    for (value, expected) in [
        ("a", Some(("a", None))),
        ("a.B-c_d.", Some(("a.B-c_d.", None))),
        ("a:", Some(("a", None))),
        ("a:80", Some(("a", Some(80)))),
        ("a:00080", Some(("a", Some(80)))),
        ("127.0.0.1:65535", Some(("127.0.0.1", Some(65535)))),
        ("[::1]", Some(("[::1]", None))),
        ("[::1]:8080", Some(("[::1]", Some(8080)))),
        ("[::1]:", Some(("[::1]", None))),
        ("[::ffff:1.2.3.4]", Some(("[::ffff:1.2.3.4]", None))),
        ("", None),
        (":80", None),
        ("a:65536", None),
        ("a:-1", None),
        ("a:8 0", None),
        ("[::1]80", None),
        ("[::1", None),
        ("[::g]", None),
        ("a]", None),
        ("a[b", None),
        ("a%41", None),
    ] {
        let expected = expected.map(|(host, port): (&str, _)| (host.as_bytes(), port));
        assert_eq!(split_host_port(value.as_bytes()), expected, "{value}");
    }
}

#[test]
fn hosts_compare() {
    for (left, right, port, same) in [
        ("a", "A", 80, true),
        ("a", "a.", 80, true),
        ("a:80", "a", 80, true),
        ("a:443", "a", 443, true),
        ("a:443", "a", 80, false),
        ("a:8080", "a:8081", 80, false),
        ("a", "b", 80, false),
        ("[::1]", "[::1]:80", 80, true),
        ("bad host", "bad host", 80, false),
    ] {
        assert_eq!(same_host(left.as_bytes(), right.as_bytes(), port), same, "{left} {right}");
    }
}
