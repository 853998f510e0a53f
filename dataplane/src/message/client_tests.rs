//! Who the client is, for every kind of chain.

use proptest::prelude::*;

use super::super::fixture::parsed_request;
use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn trusted() -> Vec<IpNet> {
    ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network")).to_vec()
}

fn find(peer: &str, lines: &[&str]) -> ClientAddress {
    let mut head = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
    for line in lines {
        head.push_str(&format!("{line}\r\n"));
    }
    head.push_str("\r\n");
    let parsed = parsed_request(head.as_bytes());
    client_address(&parsed.view(head.as_bytes()), ip(peer), &trusted())
}

#[test]
fn chains() {
    for (peer, lines, expected, peer_is_trusted) in [
        // An untrusted peer is the client, whatever it says.
        ("203.0.113.9", &[][..], "203.0.113.9", false),
        ("203.0.113.9", &["X-Forwarded-For: 1.1.1.1"], "203.0.113.9", false),
        ("::ffff:203.0.113.9", &[], "203.0.113.9", false),
        // A trusted one alone.
        ("10.0.0.1", &[], "10.0.0.1", true),
        ("::ffff:10.0.0.1", &["X-Forwarded-For: 1.1.1.1"], "1.1.1.1", true),
        // The rightmost untrusted one, over all lines.
        ("10.0.0.1", &["X-Forwarded-For: 6.6.6.6, 1.1.1.1"], "1.1.1.1", true),
        ("10.0.0.1", &["X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.9.9.9"], "1.1.1.1", true),
        ("10.0.0.1", &["X-Forwarded-For: 6.6.6.6", "x-forwarded-for: 1.1.1.1"], "1.1.1.1", true),
        ("10.0.0.1", &["X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 10.2.2.2"], "1.1.1.1", true),
        // All of them trusted: the one farthest away.
        ("10.0.0.1", &["X-Forwarded-For: 10.3.3.3, 10.2.2.2"], "10.3.3.3", true),
        // What is no address ends the chain.
        ("10.0.0.1", &["X-Forwarded-For: 1.1.1.1, unknown"], "10.0.0.1", true),
        ("10.0.0.1", &["X-Forwarded-For: 1.1.1.1, unknown, 10.2.2.2"], "10.2.2.2", true),
        ("10.0.0.1", &["X-Forwarded-For: unknown, 1.1.1.1"], "1.1.1.1", true),
        ("10.0.0.1", &["X-Forwarded-For: ,, 1.1.1.1 ,"], "1.1.1.1", true),
        // Forms.
        ("10.0.0.1", &["X-Forwarded-For: 1.1.1.1:4711"], "1.1.1.1", true),
        ("10.0.0.1", &["X-Forwarded-For: 2001:db8::1"], "2001:db8::1", true),
        ("10.0.0.1", &["X-Forwarded-For: [2001:db8::1]"], "2001:db8::1", true),
        ("10.0.0.1", &["X-Forwarded-For: [2001:db8::1]:4711"], "2001:db8::1", true),
        ("fd00::1", &["X-Forwarded-For: ::ffff:1.1.1.1, ::ffff:10.1.1.1"], "1.1.1.1", true),
        // Look-alikes and other headers say nothing.
        ("10.0.0.1", &["X_Forwarded_For: 1.1.1.1", "X-Real-IP: 2.2.2.2"], "10.0.0.1", true),
        // Connection does not hide what the proxy says.
        ("10.0.0.1", &["Connection: x-forwarded-for", "X-Forwarded-For: 1.1.1.1"], "1.1.1.1", true),
    ] {
        let expected = ClientAddress { ip: ip(expected), peer_is_trusted };
        assert_eq!(find(peer, lines), expected, "{peer} {lines:?}");
    }
}

/// From right to left, as the contract says it.
fn reference(peer: IpAddr, chain: &[&str]) -> IpAddr {
    let mut client = peer;
    for member in chain.iter().rev() {
        let Ok(ip) = member.parse::<IpAddr>() else { return client };
        client = ip;
        if !trusted().iter().any(|network| network.contains(&ip)) {
            return client;
        }
    }
    client
}

proptest! {
    #[test]
    fn one_pass_is_as_good_as_walking_back(
        chain in prop::collection::vec(
            prop::sample::select(vec!["1.1.1.1", "2.2.2.2", "10.1.1.1", "10.2.2.2", "fd00::7", "_x"]),
            0..7,
        ),
    ) {
        let line = format!("X-Forwarded-For: {}", chain.join(", "));
        prop_assert_eq!(find("10.0.0.1", &[&line]).ip, reference(ip("10.0.0.1"), &chain));
    }
}
