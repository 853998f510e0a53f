use std::time::Duration;

use super::*;

#[test]
fn only_public_addresses_are_public() {
    for (address, is_public) in [
        ("8.8.8.8", true),
        ("0.0.0.0", false),
        ("10.1.2.3", false),
        ("11.0.0.0", true),
        ("100.63.255.255", true),
        ("100.64.0.1", false),
        ("100.127.255.255", false),
        ("100.128.0.0", true),
        ("127.0.0.1", false),
        ("127.255.255.255", false),
        ("169.254.169.254", false),
        ("169.255.0.0", true),
        ("172.15.255.255", true),
        ("172.16.0.1", false),
        ("172.31.255.255", false),
        ("172.32.0.0", true),
        ("192.0.0.8", false),
        ("192.0.2.1", false),
        ("192.88.99.1", false),
        ("192.168.255.255", false),
        ("192.169.0.0", true),
        ("198.18.0.1", false),
        ("198.19.255.255", false),
        ("198.20.0.0", true),
        ("198.51.100.1", false),
        ("203.0.113.1", false),
        ("223.255.255.255", true),
        ("224.0.0.1", false),
        ("240.0.0.1", false),
        ("255.255.255.255", false),
        ("2606:4700::1", true),
        ("::", false),
        ("::1", false),
        ("::8.8.8.8", false),
        ("::ffff:8.8.8.8", true),
        ("::ffff:127.0.0.1", false),
        ("::ffff:169.254.169.254", false),
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b::10.0.0.1", false),
        ("64:ff9b:1::10.0.0.1", false),
        ("2002:808:808::1", true),
        ("2002:7f00:1::1", false),
        ("2001::1", false),
        ("2001:db8::1", false),
        ("2001:4860::1", true),
        ("3fff::1", false),
        ("fc00::1", false),
        ("fd12::1", false),
        ("fe80::1", false),
        ("fec0::1", false),
        ("ff02::1", false),
    ] {
        let parsed: IpAddr = address.parse().expect("an address");
        assert_eq!(Reach::Public.allows(parsed), is_public, "{address}");
        assert!(Reach::Anywhere.allows(parsed), "{address}");
    }
}

/// Answers what it was told to.
#[derive(Clone)]
struct Fixed(Vec<IpAddr>);

impl Source for Fixed {
    async fn look_up(&self, _name: &str) -> Result<Answer, String> {
        Ok(Answer { addresses: self.0.clone(), ttl: Duration::from_secs(1) })
    }
}

#[tokio::test]
async fn of_an_answer_only_public_addresses_stay() {
    for (addresses, expected) in [
        (vec!["8.8.8.8", "10.0.0.1", "::1", "2606:4700::1"], Ok(vec!["8.8.8.8", "2606:4700::1"])),
        (vec!["127.0.0.1"], Err("--allow-private-origins")),
        (vec![], Ok(vec![])),
    ] {
        let parse = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        let within = Within { source: Fixed(parse(&addresses)), reach: Reach::Public };
        match (within.look_up("origin.example").await, expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer.addresses, parse(&expected)),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (got, expected) => panic!("{got:?} where {expected:?} was expected"),
        }
    }
}
