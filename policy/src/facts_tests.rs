//! Tests of `facts.rs`.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

const PLAIN: TokenPlaces<'_> = TokenPlaces { header: "X-API-Key", query: None, foreign: false };
const QUERY: TokenPlaces<'_> =
    TokenPlaces { header: "X-API-Key", query: Some("api_key"), foreign: false };
const FOREIGN: TokenPlaces<'_> =
    TokenPlaces { header: "X-API-Key", query: Some("api_key"), foreign: true };

type Headers = &'static [(&'static str, &'static str)];

fn facts<'a>(
    method: &'a str,
    headers: &'a [(&'a str, &'a str)],
    query: Option<&'a str>,
    places: TokenPlaces<'_>,
) -> Facts<'a> {
    let line =
        RequestLine { method: method.as_bytes(), path: b"", query: query.map(str::as_bytes) };
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    Facts::extract(line, headers, places, false, IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// `-` for nothing, `!` for something unusable, else the token.
fn presented(headers: Headers, query: Option<&str>, places: TokenPlaces<'_>) -> String {
    match &facts("GET", headers, query, places).token {
        Presented::Nothing => "-".to_owned(),
        Presented::Unusable => "!".to_owned(),
        Presented::Token(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
    }
}

#[test]
fn finds_the_token_in_the_contracts_order() {
    #[rustfmt::skip]
    let cases: &[(Headers, Option<&str>, TokenPlaces<'_>, &str)] = &[
        (&[], None, PLAIN, "-"),
        (&[("authorization", "Bearer pf_a")], None, PLAIN, "pf_a"),
        (&[("Authorization", "bEARER  \t pf_a ")], None, PLAIN, "pf_a"),
        (&[("authorization", "Bearerpf_a")], None, PLAIN, "-"),
        (&[("authorization", "pf_a")], None, PLAIN, "-"),
        (&[("authorization", "Basic pf_a")], None, PLAIN, "-"),
        (&[("authorization", "Bearer ")], None, PLAIN, "-"),
        (&[("authorization", "Bearer other")], None, PLAIN, "!"),
        (&[("authorization", "Bearer PF_a")], None, PLAIN, "!"),
        (&[("x-api-key", "pf_b"), ("authorization", "Bearer pf_a")], None, PLAIN, "pf_a"),
        (&[("X-Api-Key", "pf_b"), ("authorization", "Bearer jwt")], None, PLAIN, "pf_b"),
        (&[("x-api-key", ""), ("x-api-key", "own"), ("x-api-key", " pf_b ")], None, PLAIN, "pf_b"),
        (&[("authorization", "Bearer jwt"), ("authorization", "Bearer pf_a")], None, PLAIN, "pf_a"),
        (&[("x-api-key", "own")], None, PLAIN, "!"),
        (&[("x-api-key", "")], None, PLAIN, "-"),
        (&[("x_api_key", "pf_b")], None, PLAIN, "-"),
        (&[], Some("api_key=pf_c"), PLAIN, "-"),
        (&[], Some("api_key=pf_c"), QUERY, "pf_c"),
        (&[], Some("a=1&api_key=own&api_key=pf_c&b"), QUERY, "pf_c"),
        (&[], Some("api%5Fkey=%70f%5fc"), QUERY, "pf_c"),
        (&[], Some("api_key=pf_%zz%4"), QUERY, "pf_%zz%4"),
        (&[], Some("API_KEY=pf_c"), QUERY, "-"),
        (&[], Some("api_key"), QUERY, "-"),
        (&[], Some("api_key="), QUERY, "-"),
        (&[], Some("api_key=own"), QUERY, "!"),
        (&[("x-api-key", "own")], Some("api_key=pf_c"), QUERY, "pf_c"),
        (&[("x-api-key", "pf_b")], Some("api_key=pf_c"), QUERY, "pf_b"),
        (&[("x-api-key", "own")], Some("api_key=pf_c"), FOREIGN, "own"),
        (&[("authorization", "Bearer jwt"), ("x-api-key", "pf_b")], None, FOREIGN, "jwt"),
        (&[("authorization", "Basic x"), ("x-api-key", "own")], None, FOREIGN, "own"),
        (&[], Some("api_key=a%2Bb+c"), FOREIGN, "a+b+c"),
    ];
    for (headers, query, places, expected) in cases {
        assert_eq!(presented(headers, *query, *places), *expected, "{headers:?} {query:?}");
    }
}

#[test]
fn a_value_too_long_to_be_a_token_is_unusable() {
    let query = format!("api_key=pf_%41{}", "a".repeat(253));
    let found = facts("GET", &[], Some(&query), QUERY);
    assert!(matches!(found.token, Presented::Unusable));
}

#[test]
fn tells_preflights() {
    const BOTH: Headers = &[("Origin", "https://a"), ("access-control-request-method", "PUT")];
    let cases: &[(&str, Headers, bool)] = &[
        ("OPTIONS", BOTH, true),
        ("options", BOTH, false),
        ("GET", BOTH, false),
        ("OPTIONS", &[("origin", "https://a")], false),
        ("OPTIONS", &[("access-control-request-method", "PUT")], false),
    ];
    for (method, headers, expected) in cases {
        let mut facts = facts(method, headers, None, PLAIN);
        assert_eq!(facts.is_preflight(), *expected, "{method} {headers:?}");
        facts.has_body = true;
        assert!(!facts.is_preflight());
    }
}

#[test]
fn tells_the_gateways_own_paths() {
    let cases = [
        ("/.payfence/usage", Some(GatewayPath::Usage)),
        ("/.payfence/usage/", Some(GatewayPath::Unknown)),
        ("/.payfence/", Some(GatewayPath::Unknown)),
        ("/.payfence", None),
        ("/.Payfence/usage", None),
        ("/x/.payfence/usage", None),
    ];
    for (path, expected) in cases {
        assert_eq!(GatewayPath::of(path.as_bytes()), expected, "{path}");
    }
}

#[test]
fn an_empty_path_is_the_root() {
    assert_eq!(facts("GET", &[], None, PLAIN).path, b"/");
}

#[test]
fn tells_which_headers_to_leave_out() {
    let cases = [
        ("Authorization", "bearer pf_a", None, true),
        ("Authorization", "Bearer jwt", None, false),
        ("Authorization", "Bearer jwt", Some("jwt"), true),
        ("Authorization", "Basic jwt", Some("jwt"), false),
        ("X-API-Key", " pf_b", None, true),
        ("X_API_KEY", "pf_b", None, true),
        ("x-api-key", "own", None, false),
        ("x-api-key", "own", Some("own"), true),
        ("x-other", "pf_b", None, false),
    ];
    for (name, value, looked_up, expected) in cases {
        let looked_up = looked_up.map(str::as_bytes);
        let found = is_token_header(name.as_bytes(), value.as_bytes(), PLAIN, looked_up);
        assert_eq!(found, expected, "{name}: {value}");
    }
}

#[test]
fn takes_tokens_out_of_the_query() {
    let cases = [
        ("api_key=pf_c", None, "", true),
        ("a=1&api_key=pf_c&b=%20", None, "a=1&b=%20", true),
        ("api_key=pf_c&", None, "", true),
        ("api_key=pf_c&&b", None, "&b", true),
        ("api%5fkey=%70f_c&a", None, "a", true),
        ("api_key=pf_c&a&api_key=pf_d", None, "a", true),
        ("api_key=own&a", None, "api_key=own&a", false),
        ("api_key=o%77n&a", Some("own"), "a", true),
        ("api_key=own2&a", Some("own"), "api_key=own2&a", false),
        ("", None, "", false),
        ("&&", None, "&&", false),
        ("other=pf_c", None, "other=pf_c", false),
    ];
    for (query, looked_up, expected, expected_removed) in cases {
        let mut out = Vec::new();
        let looked_up = looked_up.map(str::as_bytes);
        let removed = strip_token_query(query.as_bytes(), QUERY, looked_up, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{query}");
        assert_eq!(removed, expected_removed, "{query}");
    }
    let mut out = Vec::new();
    assert!(!strip_token_query(b"api_key=pf_c", PLAIN, None, &mut out));
    assert_eq!(out, b"api_key=pf_c");
}

proptest! {
    /// Whatever the query, what is found in it as a token is gone afterwards, and nothing else is.
    #[test]
    fn nothing_found_is_left(query in "(api_key|a|api%5Fkey|&|=|pf_|own|%70f_x|;|%|\\?){0,12}") {
        let mut out = Vec::new();
        let removed = strip_token_query(query.as_bytes(), QUERY, None, &mut out);
        let rest = String::from_utf8(out).unwrap();
        prop_assert_eq!(removed, rest != query || !query.is_empty() && rest.is_empty());
        let facts = facts("GET", &[], Some(&rest), QUERY);
        prop_assert!(!matches!(facts.token, Presented::Token(_)), "{} left in {}", query, rest);
    }
}
