//! What an origin receives, and what can never reach it.

use policy::snapshot::Snapshot;
use proptest::prelude::*;

use super::super::fixture::{REQUEST_ID, crlf, parsed_request, request_id, snapshot};
use super::*;
use crate::http1::{BodyFraming, RequestHead};

const TOKEN: &str = "pf_live_0123456789abcdefABCDEF0123456789AAAAAA";

const IDENTITY: Identity<'static> =
    Identity { customer: "acme", plan: "pro", subscription: "sub_acme", token_id: "tok_1" };

/// How one request is forwarded, beside its site and bytes.
#[derive(Clone, Copy, Default)]
struct How {
    prefix_len: usize,
    trusted: bool,
    identity: bool,
    foreign: Option<&'static str>,
    cert_subject: Option<&'static str>,
    expect: bool,
}

const PLAIN: How = How {
    prefix_len: 0,
    trusted: false,
    identity: false,
    foreign: None,
    cert_subject: None,
    expect: false,
};

fn write(snapshot: &Snapshot, received: &[u8], how: How) -> Vec<u8> {
    let head = parsed_request(received);
    let id = request_id();
    let client = if how.trusted { [203, 0, 113, 9] } else { [192, 0, 2, 1] };
    let forward = Forward {
        site: snapshot.site_by_slug("weather").expect("the site"),
        prefix_len: how.prefix_len,
        peer: IpAddr::from([192, 0, 2, 1]),
        peer_is_trusted: how.trusted,
        client: IpAddr::from(client),
        proto: "http",
        client_cert_subject: how.cert_subject,
        identity: how.identity.then_some(IDENTITY),
        request_id: &id,
        looked_up_foreign: how.foreign.map(str::as_bytes),
        expect: how.expect,
    };
    let mut out = b"before|".to_vec();
    let id_at = write_request(&mut out, &head.view(received), &forward);
    let (before, from_id) = out.split_at(id_at);
    assert!(before.ends_with(b"\r\nPayFence-Request-Id: "), "whatever a client guesses of an id");
    assert!(from_id.starts_with(id.as_bytes()));
    out.split_off(b"before|".len())
}

/// `expected`: the head without its last empty line; `$TOKEN` and `$ID` stand for themselves. Lines
/// that every plain request has are written `$FWD` and `$ID_LINE`.
fn check(site_keys: &str, received: &str, how: How, expected: &str) {
    let received = crlf(&received.replace("$TOKEN", TOKEN)) + "\r\n";
    let expected = expected
        .replace(
            "$FWD",
            "X-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: a.example",
        )
        .replace("$ID", &format!("PayFence-Request-Id: {REQUEST_ID}"))
        .replace("$TOKEN", TOKEN);
    let written = write(&snapshot(site_keys, ""), received.as_bytes(), how);
    let text = String::from_utf8(written.clone()).expect("this table is ASCII");
    assert_eq!(text, crlf(&expected) + "\r\n", "{site_keys}\n{received}");
    parsed_request(&written);
}

/// A request for `target` whose headers do not matter becomes one for `expected`.
fn check_target(site_keys: &str, prefix_len: usize, target: &str, expected: &str) {
    let received = format!("GET {target} HTTP/1.1\nHost: a.example\n");
    let host = if site_keys.contains("base") { "o.example" } else { "origin.example:9000" };
    let expected = format!("GET {expected} HTTP/1.1\nHost: {host}\n$FWD\n$ID\n");
    check(site_keys, &received, How { prefix_len, ..PLAIN }, &expected);
}

#[test]
fn targets() {
    let base = "origin = \"http://o.example/base\"";
    let query = "token_query = \"key\"";
    for (site_keys, prefix_len, target, expected) in [
        ("", 0, "/", "/"),
        ("", 0, "/a//b/%2e%2E/;x?y=1&&z", "/a//b/%2e%2E/;x?y=1&&z"),
        ("", 8, "/weather", "/"),
        ("", 8, "/weather/", "/"),
        ("", 8, "/weather/a?b", "/a?b"),
        ("", 8, "/weather?b", "/?b"),
        ("", 0, "http://a.example/a?b", "/a?b"),
        ("", 0, "http://a.example", "/"),
        ("", 0, "/a?", "/a?"),
        (base, 0, "/", "/base/"),
        (base, 8, "/weather", "/base/"),
        (base, 0, "/a?b", "/base/a?b"),
        // The token parameter.
        (query, 0, "/a?key=$TOKEN", "/a"),
        (query, 0, "/a?x=1&key=$TOKEN&y=2", "/a?x=1&y=2"),
        (query, 0, "/a?key=pf_", "/a"),
        (query, 0, "/a?k%65y=%70f_x&y", "/a?y"),
        (query, 0, "/a?key=other", "/a?key=other"),
        (query, 0, "/a?", "/a?"),
        ("", 0, "/a?key=$TOKEN", "/a?key=$TOKEN"),
        ("token_query = \"key\"\nforward_token = true", 0, "/a?key=$TOKEN", "/a?key=$TOKEN"),
    ] {
        check_target(site_keys, prefix_len, target, expected);
    }
    check(
        base,
        "OPTIONS * HTTP/1.1\nHost: a.example\n",
        PLAIN,
        "OPTIONS * HTTP/1.1\nHost: o.example\n$FWD\n$ID\n",
    );
}

/// Header lines that a request for `/` has beside `Host`, and which of them the origin receives.
fn check_headers(site_keys: &str, how: How, lines: &str, expected: &str) {
    check(
        site_keys,
        &format!("GET / HTTP/1.1\nHost: a.example\n{lines}"),
        how,
        &format!("GET / HTTP/1.1\nHost: origin.example:9000\n{expected}$FWD\n$ID\n"),
    );
}

#[test]
fn headers_of_the_client() {
    for (site_keys, lines, expected) in [
        (
            "",
            "Accept: */*\nCookie: a=b\nX-Mine: \u{e9}\n",
            "Accept: */*\nCookie: a=b\nX-Mine: \u{e9}\n",
        ),
        // For one hop only, and what Connection names.
        (
            "",
            "Connection: close, x-a\nX-A: 1\nKeep-Alive: 5\nProxy-Authorization: x\nX-B: 2\n",
            "X-B: 2\n",
        ),
        ("", "Upgrade: h2c\nConnection: upgrade, HTTP2-Settings\nHTTP2-Settings: x\n", ""),
        // The gateway's own words, and their look-alikes.
        ("", "PayFence-Customer: evil\npayfence-x: 1\nPayFence_Plan: evil\n", ""),
        ("", "X_Forwarded_For: 6.6.6.6\nX-Forwarded_Host: evil\nContent_Length: 5\n", ""),
        (
            "",
            "Forwarded: for=6.6.6.6\nX-Real-IP: 6.6.6.6\nX-Forwarded-For: 6.6.6.6\nX-Forwarded-Proto: https\n",
            "",
        ),
        ("", "X-Original-URL: /a\nX-HTTP-Method-Override: PUT\nX_Rewrite_URL: /a\n", ""),
        (
            "allow_override_headers = true",
            "X-Original-URL: /a\nX-HTTP-Method-Override: PUT\n",
            "X-Original-URL: /a\nX-HTTP-Method-Override: PUT\n",
        ),
        // Tokens.
        ("", "Authorization: Bearer $TOKEN\nX-API-Key: $TOKEN\nx_api_key: $TOKEN\n", ""),
        (
            "",
            "Authorization: Basic eDp5\nX-API-Key: other\n",
            "Authorization: Basic eDp5\nX-API-Key: other\n",
        ),
        (
            "forward_token = true",
            "Authorization: Bearer $TOKEN\n",
            "Authorization: Bearer $TOKEN\n",
        ),
        ("token_header = \"X-Key\"", "X-Key: $TOKEN\nX-API-Key: $TOKEN\n", "X-API-Key: $TOKEN\n"),
    ] {
        check_headers(site_keys, PLAIN, lines, expected);
    }
    let foreign = How { foreign: Some("0123456789abcdef-key"), ..PLAIN };
    check_headers(
        "foreign_tokens = true",
        foreign,
        "X-API-Key: 0123456789abcdef-key\nAuthorization: Bearer something-else-here\n",
        "Authorization: Bearer something-else-here\n",
    );
}

#[test]
fn what_the_gateway_adds() {
    let secret = "origin_headers = { X-Gateway-Secret = \"s3cret\" }";
    check(
        secret,
        "GET /a HTTP/1.1\nHost: a.example\nConnection: x-gateway-secret, payfence-customer, \
         x-forwarded-for\nX-Gateway-Secret: guess\nx_gateway_secret: guess\n",
        How { identity: true, ..PLAIN },
        "GET /a HTTP/1.1\nHost: origin.example:9000\n$FWD\n\
         PayFence-Customer: acme\nPayFence-Plan: pro\nPayFence-Subscription: sub_acme\n\
         PayFence-Token-Id: tok_1\n$ID\nX-Gateway-Secret: s3cret\n",
    );
    check(
        "preserve_host = true",
        "GET /a HTTP/1.1\nHost: a.example\n",
        PLAIN,
        "GET /a HTTP/1.1\nHost: a.example\n$FWD\n$ID\n",
    );
    check(
        "preserve_host = true",
        "GET /a HTTP/1.0\n",
        PLAIN,
        "GET /a HTTP/1.1\nHost: origin.example:9000\nX-Forwarded-For: 192.0.2.1\n\
         X-Forwarded-Proto: http\n$ID\n",
    );
}

#[test]
fn behind_a_trusted_proxy() {
    let trusted = How { trusted: true, ..PLAIN };
    for (lines, expected) in [
        (
            "X-Forwarded-For: 203.0.113.9\nX-Forwarded-Proto: https\nX-Forwarded-Host: www.example\n\
             Forwarded: for=203.0.113.9\nX-Real-IP: 203.0.113.9\n",
            "Forwarded: for=203.0.113.9\nX-Real-IP: 203.0.113.9\n\
             X-Forwarded-For: 203.0.113.9, 192.0.2.1\nX-Forwarded-Proto: https\n\
             X-Forwarded-Host: www.example\n",
        ),
        (
            "Connection: x-forwarded-for, x-real-ip\nX-Forwarded-For: 6.6.6.6\n\
             X-Real-IP: 203.0.113.9\nX-Forwarded-For: 203.0.113.9\n",
            "X-Real-IP: 203.0.113.9\nX-Forwarded-For: 6.6.6.6, 203.0.113.9, 192.0.2.1\n\
             X-Forwarded-Proto: http\nX-Forwarded-Host: a.example\n",
        ),
        // The proxy speaks of the client in another way than by X-Forwarded-For.
        (
            "X_Forwarded_Proto: https\nX-Forwarded-Host:\n",
            "X-Forwarded-For: 203.0.113.9\nX-Forwarded-Proto: http\nX-Forwarded-Host: a.example\n",
        ),
    ] {
        check(
            "",
            &format!("GET / HTTP/1.1\nHost: a.example\n{lines}"),
            trusted,
            &format!("GET / HTTP/1.1\nHost: origin.example:9000\n{expected}$ID\n"),
        );
    }
}

#[test]
fn the_certificate_that_a_client_showed() {
    const CUT: &str = "PayFence-Client-Cert-Subject: CN=";
    let check = |cert_subject, expected: &str| {
        let sent = "PayFence-Client-Cert-Subject: CN=evil\npayfence_client_cert_subject: CN=evil\n";
        check(
            "",
            &format!("GET / HTTP/1.1\nHost: a.example\n{sent}"),
            How { cert_subject, ..PLAIN },
            &format!("GET / HTTP/1.1\nHost: origin.example:9000\n$FWD\n{expected}$ID\n"),
        );
    };
    check(None, "");
    check(Some(""), "PayFence-Client-Cert-Subject: \n");
    check(
        Some("CN=Zo\u{eb}\r\nX-Evil: 1,O=Acme\\, Inc."),
        "PayFence-Client-Cert-Subject: CN=Zo\u{eb}  X-Evil: 1,O=Acme\\, Inc.\n",
    );
    // 1,024 bytes would end in the middle of a character.
    let long: &'static str = Box::leak(format!("CN={}", "\u{eb}".repeat(600)).into_boxed_str());
    check(Some(long), &format!("{CUT}{}\n", "\u{eb}".repeat(510)));
}

#[test]
fn framing_and_connection() {
    for (first, lines, expected) in [
        ("POST / HTTP/1.1", "Content-Length: 5\n", "Content-Length: 5\n"),
        ("POST / HTTP/1.1", "Content-Length: 5, 5\n", "Content-Length: 5\n"),
        ("POST / HTTP/1.1", "Content-Length: 0\n", "Content-Length: 0\n"),
        ("POST / HTTP/1.1", "transfer-encoding: Chunked\n", "Transfer-Encoding: chunked\n"),
        ("POST / HTTP/1.0", "Content-Length: 5\n", "Content-Length: 5\n"),
        (
            "GET / HTTP/1.1",
            "TE: trailers, gzip\nConnection: TE\n",
            "Connection: TE\nTE: trailers\n",
        ),
        ("GET / HTTP/1.0", "TE: trailers\nConnection: TE\n", ""),
        (
            "GET / HTTP/1.1",
            "Upgrade: websocket\nConnection: Upgrade\n",
            "Connection: Upgrade\nUpgrade: websocket\n",
        ),
        (
            "GET / HTTP/1.1",
            "Upgrade: h2c, WebSocket\nTE: trailers\nConnection: Upgrade\n",
            "Connection: TE, Upgrade\nTE: trailers\nUpgrade: websocket\n",
        ),
        ("GET / HTTP/1.1", "Upgrade: websocket\n", ""),
        (
            "POST / HTTP/1.1",
            "Upgrade: websocket\nConnection: Upgrade\nContent-Length: 1\n",
            "Content-Length: 1\n",
        ),
    ] {
        let (method, _) = first.split_once(' ').expect("a request line");
        check(
            "",
            &format!("{first}\nHost: a.example\n{lines}"),
            PLAIN,
            &format!("{method} / HTTP/1.1\nHost: origin.example:9000\n$FWD\n$ID\n{expected}"),
        );
    }
    check(
        "",
        "PUT / HTTP/1.1\nHost: a.example\nExpect: 100-continue\nContent-Length: 3\n",
        How { expect: true, ..PLAIN },
        "PUT / HTTP/1.1\nHost: origin.example:9000\n$FWD\n$ID\nExpect: 100-continue\n\
         Content-Length: 3\n",
    );
}

#[test]
fn trailers() {
    let snapshot = snapshot("origin_headers = { X-Secret = \"s\" }\ntoken_header = \"X-Key\"", "");
    let site = snapshot.site_by_slug("weather").expect("the site");
    for (name, passes) in [
        ("X-Checksum", true),
        ("Content-Length", false),
        ("transfer-encoding", false),
        ("Host", false),
        ("Authorization", false),
        ("PayFence-Customer", false),
        ("X-Forwarded-For", false),
        ("X-Secret", false),
        ("x_secret", false),
        ("X-Key", false),
        ("X_KEY", false),
    ] {
        assert_eq!(request_trailer_passes(&site, name.as_bytes()), passes, "{name}");
    }
}

#[test]
fn addresses() {
    for text in ["0.0.0.0", "255.254.100.9", "::1", "2001:db8::ff"] {
        let mut out = Vec::new();
        address(&mut out, text.parse().expect("an address"));
        assert_eq!(out, text.as_bytes());
    }
}

/// Values as hostile as a policy, a database or a client could make them.
fn hostile() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec![
            "\r\n",
            "\n",
            "\r",
            "\0",
            " ",
            "X-Evil: 1",
            ":",
            "a",
            "\"",
            "\u{e9}",
        ]),
        0..8,
    )
    .prop_map(|parts| parts.concat())
}

fn names(head: &RequestHead, bytes: &[u8]) -> Vec<String> {
    head.view(bytes)
        .headers()
        .map(|line| String::from_utf8_lossy(line.name).to_ascii_lowercase())
        .collect()
}

proptest! {
    #[test]
    fn no_value_makes_a_line(
        values in prop::array::uniform6(hostile()),
        header_value in "[ -~\\t]{0,40}",
    ) {
        let snapshot = snapshot("", "");
        let received = format!("GET /a HTTP/1.1\r\nHost: a.example\r\nX-A: {header_value}\r\n\r\n");
        let head = parsed_request(received.as_bytes());
        let id = request_id();
        let [customer, plan, subscription, token_id, cert_subject, proto] = &values;
        let forward = Forward {
            site: snapshot.site_by_slug("weather").expect("the site"),
            prefix_len: 0,
            peer: IpAddr::from([192, 0, 2, 1]),
            peer_is_trusted: false,
            client: IpAddr::from([192, 0, 2, 1]),
            proto,
            client_cert_subject: Some(cert_subject),
            identity: Some(Identity { customer, plan, subscription, token_id }),
            request_id: &id,
            looked_up_foreign: None,
            expect: false,
        };
        let mut out = Vec::new();
        write_request(&mut out, &head.view(received.as_bytes()), &forward);
        let written = parsed_request(&out);
        prop_assert_eq!(names(&written, &out), [
            "host", "x-a", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host",
            "payfence-customer", "payfence-plan", "payfence-subscription", "payfence-token-id",
            "payfence-client-cert-subject", "payfence-request-id",
        ]);
    }

    /// Whatever the client sends, the origin reads the same method, path, framing and body length,
    /// and one value of each header that the gateway answers for.
    #[test]
    fn what_is_written_reads_as_meant(
        path in "/[a-z/.%;]{0,12}",
        query in prop::option::of("[a-z=&]{0,12}"),
        framing in prop::sample::select(vec!["", "Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n"]),
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "Connection: payfence-customer, host, x-a, content-length, transfer-encoding",
                "Content_Length: 9", "Transfer_Encoding: chunked", "PayFence-Customer: evil",
                "payfence_customer: evil", "X-Forwarded-For: 6.6.6.6", "X-A: 1", "Trailer: x",
                "TE: trailers", "Upgrade: h2c", "Forwarded: for=6.6.6.6", "Secret: guess", "secret: 2",
                "Authorization: Bearer pf_x", "X-API-Key: pf_x", "X_API_Key: pf_x",
            ]),
            0..10,
        ),
    ) {
        let snapshot = snapshot("origin_headers = { Secret = \"right\" }", "");
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        let target = format!("{path}{query}");
        let mut received = format!("POST {target} HTTP/1.1\r\nHost: a.example\r\n{framing}");
        for line in lines {
            received.push_str(line);
            received.push_str("\r\n");
        }
        received.push_str("\r\n");
        let sent = parsed_request(received.as_bytes()).facts();
        let out = write(&snapshot, received.as_bytes(), How { identity: true, ..PLAIN });
        let head = parsed_request(&out);
        let view = head.view(&out);
        prop_assert_eq!(view.target(), target.as_bytes());
        prop_assert_eq!(view.method(), b"POST");
        prop_assert_eq!(head.facts().framing, sent.framing);
        prop_assert_eq!(head.facts().te_trailers, sent.te_trailers);
        prop_assert_eq!(head.facts().upgrade, None);
        prop_assert!(head.facts().keep_alive);
        let folded = |name: &str| -> Vec<String> {
            view.headers()
                .filter(|line| same_name_folded(line.name, name.as_bytes()))
                .map(|line| String::from_utf8_lossy(line.value).into_owned())
                .collect()
        };
        for (name, value) in [
            ("host", "origin.example:9000"),
            ("payfence-customer", "acme"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-host", "a.example"),
            ("secret", "right"),
        ] {
            prop_assert_eq!(folded(name), [value]);
        }
        for name in ["authorization", "x-api-key", "forwarded", "upgrade"] {
            prop_assert!(folded(name).is_empty(), "{}", name);
        }
        let length = usize::from(matches!(sent.framing, BodyFraming::Length(_)));
        prop_assert_eq!(folded("content-length").len(), length);
        let chunked = usize::from(sent.framing == BodyFraming::Chunked);
        prop_assert_eq!(folded("transfer-encoding").len(), chunked);
    }
}
