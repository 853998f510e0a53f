//! Where a client in the clear is sent, and where it never is.

use proptest::prelude::*;

use super::super::fixture::{NOW_S, REQUEST_ID, crlf, parsed_request, parsed_response, request_id};
use super::*;
use crate::http1::{Limits, Parse, ResponseFraming, ResponseHead, parse_response};

fn write(to: &Redirect<'_>, is_head: bool, close: bool) -> Vec<u8> {
    let id = request_id();
    let asker = Asker {
        site: None,
        origin_header: None,
        is_head,
        close,
        request_id: &id,
        token_sent: false,
        sends_hsts: false,
        http10_keep_alive: false,
    };
    let mut out = b"before|".to_vec();
    redirect(&mut out, &asker, to, NOW_S);
    out.split_off(b"before|".len())
}

/// Status and `Location` for a request as a client sends it.
fn check(received: &str, https_port: u16, expected: Option<&str>) {
    let received = crlf(received) + "\r\n";
    let head = parsed_request(received.as_bytes());
    let request = head.view(received.as_bytes());
    let to =
        Redirect { host: request.host(), path: request.path(), query: request.query(), https_port };
    let answer = String::from_utf8(write(&to, false, true)).expect("ASCII");
    let location = answer.lines().find_map(|line| line.strip_prefix("Location: "));
    assert_eq!(location, expected, "{received}");
    let status = if expected.is_some() { "HTTP/1.1 308 " } else { "HTTP/1.1 400 " };
    assert!(answer.starts_with(status), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

#[test]
fn where_to() {
    for (request, port, expected) in [
        ("GET / HTTP/1.1\nHost: a.example\n", 443, Some("https://a.example/")),
        ("GET /x?y=1&z HTTP/1.1\nHost: a.example\n", 443, Some("https://a.example/x?y=1&z")),
        ("GET /x? HTTP/1.1\nHost: A.example.:80\n", 443, Some("https://A.example./x?")),
        ("GET /x HTTP/1.1\nHost: a.example:8080\n", 8443, Some("https://a.example:8443/x")),
        ("GET /x HTTP/1.1\nHost: [::1]:8080\n", 8443, Some("https://[::1]:8443/x")),
        // Two slashes are a path here: the host is there already.
        ("GET //evil.example HTTP/1.1\nHost: a\n", 443, Some("https://a//evil.example")),
        ("GET http://b.example?y HTTP/1.1\nHost: b.example\n", 443, Some("https://b.example/?y")),
        ("POST /x HTTP/1.0\nHost: a\nContent-Length: 0\n", 443, Some("https://a/x")),
        ("GET /x HTTP/1.0\n", 443, None),
        ("OPTIONS * HTTP/1.1\nHost: a.example\n", 443, None),
    ] {
        check(request, port, expected);
    }
}

#[test]
fn what_makes_no_url_is_not_repeated() {
    let good = Redirect { host: Some(b"a"), path: b"/", query: None, https_port: 443 };
    for bad in [
        Redirect { host: None, ..good },
        Redirect { host: Some(b""), ..good },
        Redirect { host: Some(b"u@evil.example"), ..good },
        Redirect { host: Some(b"a/evil"), ..good },
        Redirect { host: Some(b"a\r\nX-Evil: 1"), ..good },
        Redirect { host: Some(b"a:evil"), ..good },
        Redirect { path: b"evil", ..good },
        Redirect { path: b"", ..good },
        Redirect { path: b"/evil\r\nX: y", ..good },
        Redirect { path: b"/#evil", ..good },
        Redirect { path: b"/?evil", ..good },
        Redirect { query: Some(b"evil x"), ..good },
        Redirect { query: Some(b"evil#"), ..good },
    ] {
        let answer = String::from_utf8(write(&bad, false, false)).expect("ASCII");
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(!answer.to_lowercase().contains("evil") && !answer.contains("Location:"));
        assert!(answer.contains("\"reason\":\"request_malformed\""), "{answer}");
    }
}

#[test]
fn the_whole_answer() {
    let to = Redirect { host: Some(b"a.example"), path: b"/x", query: None, https_port: 8443 };
    let body = "This API is served over HTTPS alone. Send the request to the URL in Location.\n";
    let head = |tail: &str| {
        crlf(&format!(
            "HTTP/1.1 308 Permanent Redirect\nLocation: https://a.example:8443/x\n\
             Content-Type: text/plain\nCache-Control: no-store\nPayFence-Request-Id: {REQUEST_ID}\n\
             Content-Length: {}\nDate: Mon, 23 Nov 2026 21:00:00 GMT\n{tail}\n",
            body.len()
        ))
    };
    let text = |is_head, close| String::from_utf8(write(&to, is_head, close)).expect("ASCII");
    assert_eq!(text(false, false), head("") + body);
    assert_eq!(text(true, false), head(""));
    assert_eq!(text(false, true), head("Connection: close\n") + body);
    parsed_response(text(true, true).as_bytes(), true);
}

proptest! {
    /// Whatever is asked for, the answer is one response, and a `Location` leads to the host that was sent.
    #[test]
    fn any_bytes(
        host in prop::option::of(prop::collection::vec(any::<u8>(), 0..12)),
        path in prop::collection::vec(any::<u8>(), 0..12),
        query in prop::option::of(prop::collection::vec(any::<u8>(), 0..12)),
        https_port: u16,
        rooted: bool,
    ) {
        let path = if rooted { [b"/", &*path].concat() } else { path };
        let to = Redirect { host: host.as_deref(), path: &path, query: query.as_deref(), https_port };
        let answer = write(&to, false, false);
        let mut head = ResponseHead::new();
        let parse = parse_response(&answer, 0, false, &Limits::default(), &mut head);
        let Ok(Parse::Complete { len }) = parse else {
            return Err(TestCaseError::fail(format!("{parse:?}")));
        };
        let body_bytes = (answer.len() - len) as u64;
        prop_assert_eq!(head.facts().framing, ResponseFraming::Length(body_bytes));
        let view = head.view(&answer);
        let location = view.headers().find(|line| line.name == b"Location").map(|line| line.value);
        prop_assert_eq!(location.is_some(), head.facts().status == 308);
        if let Some(location) = location {
            let rest = location.strip_prefix(b"https://").expect("the scheme");
            let end = rest.iter().position(|byte| *byte == b'/').expect("a path");
            let (authority, rest) = rest.split_at(end);
            let (named, _) = split_host_port(authority).expect("an authority");
            let (sent, _) = split_host_port(host.as_deref().expect("a host")).expect("a host");
            prop_assert_eq!(named, sent);
            prop_assert!(rest.starts_with(&path));
        }
    }
}
