//! What a client receives of an origin's response.

use proptest::prelude::*;

use super::super::fixture::{NOW_S, REQUEST_ID, crlf, figures, parsed_response, request_id};
use super::*;

const LIMITS: &str = "RateLimit-Policy: \"quota\";q=10000;w=2592000, \"rate\";q=50;w=1\n\
    RateLimit: \"quota\";r=9750;t=615600, \"rate\";r=20;t=2\n\
    X-RateLimit-Limit: 10000\nX-RateLimit-Remaining: 9750\nX-RateLimit-Reset: 1796083200\n";

/// To whom a response goes.
#[derive(Debug, Clone, Copy)]
struct To {
    version: Version,
    head: bool,
    close: bool,
    metered: bool,
    hsts: Option<&'static str>,
}

const TO: To =
    To { version: Version::Http11, head: false, close: false, metered: false, hsts: None };
const TO_10: To = To { version: Version::Http10, ..TO };

fn write(received: &[u8], to: To) -> Vec<u8> {
    let head = parsed_response(received, to.head);
    let (id, figures) = (request_id(), figures());
    let edit = ResponseEdit {
        is_metered: to.metered,
        figures: to.metered.then_some(&figures),
        hsts: to.hsts,
        now_s: NOW_S,
        request_id: &id,
        client_version: to.version,
        close: to.close,
        framing_out: client_framing(&head.facts(), to.version),
    };
    let mut out = b"before|".to_vec();
    write_response(&mut out, &head.view(received), &edit);
    out.split_off(b"before|".len())
}

/// `$ID` stands for the line of the request's id, `$DATE` for that of the gateway's clock.
fn check(received: &str, to: To, expected: &str) {
    let written = write((crlf(received) + "\r\n").as_bytes(), to);
    let expected = expected
        .replace("$ID", &format!("PayFence-Request-Id: {REQUEST_ID}"))
        .replace("$DATE", "Date: Mon, 23 Nov 2026 21:00:00 GMT");
    let text = String::from_utf8(written.clone()).expect("this table is UTF-8");
    assert_eq!(text, crlf(&expected) + "\r\n", "{to:?}\n{received}");
    parsed_response(&written, to.head);
}

/// A response that has a `Date`, and what is left of its headers.
fn check_headers(to: To, lines: &str, expected: &str) {
    check(
        &format!("HTTP/1.1 200 OK\nDate: now\n{lines}Content-Length: 1\n"),
        to,
        &format!("HTTP/1.1 200 OK\nDate: now\n{expected}$ID\nContent-Length: 1\n"),
    );
}

#[test]
fn headers_of_the_origin() {
    for (lines, expected) in [
        (
            "Server: x\nSet-Cookie: a=b\nSet-Cookie: c=d\n",
            "Server: x\nSet-Cookie: a=b\nSet-Cookie: c=d\n",
        ),
        ("Connection: x-a, close\nX-A: 1\nKeep-Alive: 5\nX-B: \u{e9}\n", "X-B: \u{e9}\n"),
        ("PayFence-Cost: 3\nPayFence-Request-Id: evil\npayfence_x: 1\n", ""),
        ("Upgrade: h2c\nTrailer: x\nTE: x\nContent_Length: 5\n", ""),
        (
            "Retry-After: 5\nWWW-Authenticate: Basic\nVary: Accept\n",
            "Retry-After: 5\nWWW-Authenticate: Basic\nVary: Accept\n",
        ),
        ("Access-Control-Allow-Origin: *\n", "Access-Control-Allow-Origin: *\n"),
        // On a free path the origin's own limits are its own.
        (
            "RateLimit: \"x\";r=1\nX-RateLimit-Limit: 5\n",
            "RateLimit: \"x\";r=1\nX-RateLimit-Limit: 5\n",
        ),
    ] {
        check_headers(TO, lines, expected);
    }
    check_headers(
        To { metered: true, ..TO },
        "RateLimit: \"x\";r=1\nratelimit-policy: x\nX-RateLimit-Limit: 5\nX_RateLimit_Reset: 1\nX-B: 2\n",
        &format!("X-B: 2\n{LIMITS}"),
    );
}

#[test]
fn what_browsers_remember_is_the_sites_word_where_it_has_one() {
    let origins = "Strict-Transport-Security: max-age=1\nX-A: 1\n";
    let other = "strict_transport_security: max-age=2\n";
    check_headers(TO, origins, origins);
    let over_tls = To { hsts: Some("max-age=300"), ..TO };
    check_headers(
        over_tls,
        &format!("{origins}{other}"),
        "X-A: 1\nStrict-Transport-Security: max-age=300\n",
    );
    check_headers(over_tls, "", "Strict-Transport-Security: max-age=300\n");
}

#[test]
fn framing_and_connection() {
    let close = To { close: true, ..TO };
    let head = To { head: true, ..TO };
    let ok = "HTTP/1.1 200 OK\nDate: now\n";
    for (received, to, expected) in [
        ("Content-Length: 5\n", TO, "$ID\nContent-Length: 5\n"),
        ("Content-Length: 5\n", close, "$ID\nContent-Length: 5\nConnection: close\n"),
        ("Content-Length: 5\n", TO_10, "$ID\nContent-Length: 5\nConnection: keep-alive\n"),
        (
            "Content-Length: 5\n",
            To { close: true, ..TO_10 },
            "$ID\nContent-Length: 5\nConnection: close\n",
        ),
        (
            "Transfer-Encoding: chunked\nTrailer: X-Sum\n",
            TO,
            "Trailer: X-Sum\n$ID\nTransfer-Encoding: chunked\n",
        ),
        ("Transfer-Encoding: chunked\nTrailer: X-Sum\n", TO_10, "$ID\nConnection: close\n"),
        ("", TO, "$ID\nTransfer-Encoding: chunked\n"),
        ("", close, "$ID\nTransfer-Encoding: chunked\nConnection: close\n"),
        ("", TO_10, "$ID\nConnection: close\n"),
        ("Content-Length: 5\n", head, "$ID\nContent-Length: 5\n"),
        ("Transfer-Encoding: chunked\n", head, "$ID\n"),
        ("", head, "$ID\n"),
        ("", To { head: true, ..TO_10 }, "$ID\nConnection: keep-alive\n"),
    ] {
        check(&format!("{ok}{received}"), to, &format!("{ok}{expected}"));
    }
    for (received, expected) in [
        (
            "HTTP/1.1 304 Not Modified\nDate: now\nContent-Length: 5\n",
            "HTTP/1.1 304 Not Modified\nDate: now\n$ID\nContent-Length: 5\n",
        ),
        (
            "HTTP/1.1 204 No Content\nDate: now\nContent-Length: 0\n",
            "HTTP/1.1 204 No Content\nDate: now\n$ID\n",
        ),
        (
            "HTTP/1.0 299 Odd one\nDate: now\nContent-Length: 0\n",
            "HTTP/1.1 299 Odd one\nDate: now\n$ID\nContent-Length: 0\n",
        ),
        ("HTTP/1.1 200\nContent-Length: 0\n", "HTTP/1.1 200 \n$DATE\n$ID\nContent-Length: 0\n"),
        (
            "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: x\n",
            "HTTP/1.1 101 Switching Protocols\nSec-WebSocket-Accept: x\n$ID\nConnection: Upgrade\nUpgrade: websocket\n",
        ),
    ] {
        check(received, TO, expected);
    }
}

#[test]
fn interim_responses() {
    for (received, expected) in [
        ("HTTP/1.1 100 Continue\n", "HTTP/1.1 100 Continue\n"),
        (
            "HTTP/1.1 103 Early Hints\nLink: </a>; rel=preload\nPayFence-Cost: 1\nConnection: close\nRateLimit: x\nStrict-Transport-Security: max-age=1\nContent-Length: 0\n",
            "HTTP/1.1 103 Early Hints\nLink: </a>; rel=preload\n",
        ),
    ] {
        let received = crlf(received) + "\r\n";
        let head = parsed_response(received.as_bytes(), false);
        let mut out = b"before|".to_vec();
        assert!(!interim(&mut out, &head.view(received.as_bytes()), Version::Http10));
        assert_eq!(out, b"before|");
        assert!(interim(&mut out, &head.view(received.as_bytes()), Version::Http11));
        assert_eq!(String::from_utf8_lossy(&out), format!("before|{}\r\n", crlf(expected)));
    }
}

#[test]
fn costs() {
    for (lines, expected) in [
        ("", Cost::None),
        ("PayFence-Cost: 0\r\n", Cost::Units(0)),
        ("payfence-cost:  42 \r\n", Cost::Units(42)),
        ("PayFence-Cost: 007\r\n", Cost::Units(7)),
        ("PayFence-Cost: 1000000000\r\n", Cost::Units(COST_MAX)),
        ("Connection: payfence-cost\r\nPayFence-Cost: 3\r\n", Cost::Units(3)),
        ("PayFence-Cost: 1000000001\r\n", Cost::Ignored),
        ("PayFence-Cost: 99999999999999999999999\r\n", Cost::Ignored),
        ("PayFence-Cost:\r\n", Cost::Ignored),
        ("PayFence-Cost: -1\r\n", Cost::Ignored),
        ("PayFence-Cost: +1\r\n", Cost::Ignored),
        ("PayFence-Cost: 1.5\r\n", Cost::Ignored),
        ("PayFence-Cost: 1, 1\r\n", Cost::Ignored),
        ("PayFence-Cost: 1\r\nPayFence-Cost: 1\r\n", Cost::Ignored),
        ("PayFence_Cost: 5\r\n", Cost::None),
    ] {
        let received = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        let head = parsed_response(received.as_bytes(), false);
        assert_eq!(cost_header(&head.view(received.as_bytes())), expected, "{lines}");
    }
}

#[test]
fn trailers() {
    for (name, passes) in [
        ("X-Checksum", true),
        ("Server-Timing", true),
        ("Content-Length", false),
        ("Transfer_Encoding", false),
        ("Connection", false),
        ("RateLimit", false),
        ("Strict-Transport-Security", false),
        ("X-RateLimit-Reset", false),
        ("PayFence-Cost", false),
    ] {
        assert_eq!(response_trailer_passes(name.as_bytes()), passes, "{name}");
    }
}

proptest! {
    /// Whatever the origin sends, the client reads the same status and a framing that it can follow,
    /// and each of the gateway's own fields once.
    #[test]
    fn what_is_written_reads_as_meant(
        status in prop::sample::select(vec!["200 OK", "204 No", "304 \u{e9}", "404 ", "503 x", "999 x"]),
        framing in prop::sample::select(vec!["", "Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n"]),
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "Connection: payfence-request-id, ratelimit, date, x-a", "Connection: close", "X-A: 1",
                "Content_Length: 9", "Transfer_Encoding: chunked", "PayFence-Request-Id: evil",
                "payfence_request_id: evil", "RateLimit: evil", "X_RateLimit_Limit: 1", "Trailer: x",
                "Upgrade: websocket", "Date: now", "Strict-Transport-Security: evil",
            ]),
            0..8,
        ),
        is_10 in any::<bool>(),
        head in any::<bool>(),
        close in any::<bool>(),
    ) {
        let mut received = format!("HTTP/1.1 {status}\r\n{framing}");
        for line in lines {
            received.push_str(line);
            received.push_str("\r\n");
        }
        received.push_str("\r\n");
        let version = if is_10 { Version::Http10 } else { Version::Http11 };
        let to = To { version, head, close, metered: true, hsts: Some("max-age=300") };
        let sent = parsed_response(received.as_bytes(), head);
        let out = write(received.as_bytes(), to);
        let got = parsed_response(&out, head);
        prop_assert_eq!(got.facts().status, sent.facts().status);
        prop_assert_eq!(got.view(&out).reason(), sent.view(received.as_bytes()).reason());
        let framing_out = client_framing(&sent.facts(), version);
        prop_assert_eq!(got.facts().framing, framing_out);
        prop_assert!(!is_10 || framing_out != ResponseFraming::Chunked);
        prop_assert!(is_10 || framing_out != ResponseFraming::UntilClose);
        prop_assert_eq!(got.facts().keep_alive, !close && framing_out != ResponseFraming::UntilClose);
        prop_assert_eq!(got.facts().upgrade, None);
        let folded = |name: &str| {
            let fold = |name: &[u8]| String::from_utf8_lossy(name).to_lowercase().replace('_', "-");
            got.view(&out).headers().filter(|line| fold(line.name) == name).count()
        };
        let own = ["payfence-request-id", "ratelimit", "ratelimit-policy", "x-ratelimit-limit"];
        for name in own.into_iter().chain(["strict-transport-security"]) {
            prop_assert_eq!(folded(name), 1, "{}", name);
        }
        prop_assert!(folded("date") >= 1);
    }
}
