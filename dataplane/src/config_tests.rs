//! Tables of words that are taken and words that are refused.

use super::*;

#[test]
fn lists_of_cores() {
    let check = |text: &str, expected: Option<&[usize]>| {
        let parsed = text.parse::<CpuList>();
        assert_eq!(parsed.as_ref().ok().map(CpuList::numbers), expected, "{text}");
        if let Err(error) = parsed {
            assert!(error.to_string().contains("such as `0,2-3`"));
        }
    };
    check("0", Some(&[0]));
    check("0,2-3", Some(&[0, 2, 3]));
    check(" 3 , 1", Some(&[3, 1]));
    check("2-2", Some(&[2]));
    check("", None);
    check("a", None);
    check("1,", None);
    check("3-1", None);
    check("1,1", None);
    check("0-2,1", None);
    check("-1", None);
    check("1024", None);
}

#[test]
fn gateway_domains() {
    let check = |text: &str, expected: Option<&str>| {
        let parsed = text.parse::<GatewayDomain>();
        assert_eq!(parsed.as_ref().ok().map(GatewayDomain::as_str), expected, "{text}");
    };
    check("localhost", Some("localhost"));
    check("GW.Example.COM.", Some("gw.example.com"));
    check("", None);
    check(".", None);
    check("a..b", None);
    check("-a.b", None);
    check("a_b", None);
    check("http://a", None);
    check("a:8080", None);
    check("127.0.0.1", None);
}

#[test]
fn networks() {
    let check = |text: &str, expected: Option<&str>| {
        let parsed = parse_network(text).ok().map(|network| network.to_string());
        assert_eq!(parsed.as_deref(), expected, "{text}");
    };
    check("10.0.0.0/8", Some("10.0.0.0/8"));
    check("192.0.2.7", Some("192.0.2.7/32"));
    check("fd00::/8", Some("fd00::/8"));
    check("::1", Some("::1/128"));
    check("10.0.0.0/33", None);
    check("localhost", None);
}

#[test]
fn deadlines() {
    let check = |text: &str, expected: Option<u64>| {
        let parsed = parse_deadline(text);
        assert_eq!(parsed.as_ref().ok().copied(), expected.map(Duration::from_millis), "{text}");
        if let Err(error) = parsed {
            assert!(error.to_string().ends_with("a number from 1 to 86400000"), "{error}");
        }
    };
    check("1", Some(1));
    check("86400000", Some(86_400_000));
    check("0", None);
    check("86400001", None);
    check("99999999999999999999", None);
    check("-1", None);
    check("1.5", None);
    check("2s", None);
    check("", None);
}

#[test]
fn what_a_full_journal_does() {
    assert_eq!("continue".parse(), Ok(JournalFull::Continue));
    assert_eq!("refuse".parse(), Ok(JournalFull::Refuse));
    assert!("drop".parse::<JournalFull>().is_err());
}

#[test]
fn addresses() {
    let check = |text: &str, good: bool| assert_eq!(parse_address(text).is_ok(), good, "{text}");
    check("127.0.0.1:8080", true);
    check("[::]:0", true);
    check("localhost:8080", false);
    check(":8080", false);
    check("8080", false);
    check("127.0.0.1", false);
}
