//! HTTP that can be understood in more than one way, or not at all: refused, the connection closed, nothing forwarded,
//! counted by cause. One table of heads, one of bodies, one of limits.

use super::client::{Client, get};
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, site};

/// Name, the bytes sent, and the statuses that are right.
type Row = (&'static str, &'static str, &'static [u16]);

const HOST: &str = "Host: shop.test\r\n";

/// Heads. `HOST` stands for the honest Host line.
const HEADS: &[Row] = &[
    // Two framings, or a framing that only one reader understands (RFC 9112 §6.1, §6.3).
    (
        "CL.TE",
        "POST /x HTTP/1.1\r\nHOSTContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "TE.CL",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "TE with an empty CL",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: chunked\r\nContent-Length:\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "two lengths",
        "POST /x HTTP/1.1\r\nHOSTContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        &[400],
    ),
    ("two lengths in a list", "POST /x HTTP/1.1\r\nHOSTContent-Length: 5, 6\r\n\r\nhello", &[400]),
    ("length with a sign", "POST /x HTTP/1.1\r\nHOSTContent-Length: +5\r\n\r\nhello", &[400]),
    ("negative length", "POST /x HTTP/1.1\r\nHOSTContent-Length: -5\r\n\r\nhello", &[400]),
    ("length in hex", "POST /x HTTP/1.1\r\nHOSTContent-Length: 0x5\r\n\r\nhello", &[400]),
    (
        "length with a space in it",
        "POST /x HTTP/1.1\r\nHOSTContent-Length: 1 0\r\n\r\nhello",
        &[400],
    ),
    (
        "length beyond 64 bits",
        "POST /x HTTP/1.1\r\nHOSTContent-Length: 18446744073709551621\r\n\r\nhello",
        &[400, 413],
    ),
    ("empty length", "POST /x HTTP/1.1\r\nHOSTContent-Length: \r\n\r\nhello", &[400]),
    (
        "TE xchunked",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE identity",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE gzip, chunked",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE chunked, identity",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE chunked twice",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "two TE lines",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE in quotes",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE with a parameter",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "TE with a vertical tab",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    ("TE empty", "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding:\r\n\r\n", &[400, 501]),
    (
        "TE on HTTP/1.0",
        "POST /x HTTP/1.0\r\nHOSTTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    // Lines and names (RFC 9112 §2.2, §5.1, §5.2).
    (
        "space before the colon",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    ("tab before the colon", "GET /x HTTP/1.1\r\nHOSTA\t: b\r\n\r\n", &[400]),
    ("obs-fold", "GET /x HTTP/1.1\r\nHOSTA: b\r\n c\r\n\r\n", &[400]),
    ("obs-fold of the first header", "GET /x HTTP/1.1\r\n Host: shop.test\r\n\r\n", &[400]),
    (
        "obs-fold hiding TE",
        "POST /x HTTP/1.1\r\nHOSTTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    ("bare LF ends a header", "GET /x HTTP/1.1\r\nHOSTA: b\nC: d\r\n\r\n", &[400]),
    ("bare LF ends the request line", "GET /x HTTP/1.1\nHOST\r\n", &[400]),
    ("bare LF ends the head", "GET /x HTTP/1.1\r\nHOST\n", &[400]),
    ("bare LF everywhere", "GET /x HTTP/1.1\nHost: shop.test\n\n", &[400]),
    ("bare CR in a value", "GET /x HTTP/1.1\r\nHOSTA: b\rC: d\r\n\r\n", &[400]),
    ("bare CR ends a header", "GET /x HTTP/1.1\r\nHOSTA: b\r\r\n\r\n", &[400]),
    ("NUL in a value", "GET /x HTTP/1.1\r\nHOSTA: b\0c\r\n\r\n", &[400]),
    ("control byte in a value", "GET /x HTTP/1.1\r\nHOSTA: b\x01c\r\n\r\n", &[400]),
    ("DEL in a value", "GET /x HTTP/1.1\r\nHOSTA: b\x7fc\r\n\r\n", &[400]),
    ("NUL in a name", "GET /x HTTP/1.1\r\nHOSTA\0: b\r\n\r\n", &[400]),
    ("no colon", "GET /x HTTP/1.1\r\nHOSTA\r\n\r\n", &[400]),
    ("no name", "GET /x HTTP/1.1\r\nHOST: b\r\n\r\n", &[400]),
    ("brackets in a name", "GET /x HTTP/1.1\r\nHOSTA[b]: c\r\n\r\n", &[400]),
    // Which site is meant (RFC 9112 §3.2).
    ("no Host", "GET /x HTTP/1.1\r\n\r\n", &[400]),
    ("two Hosts", "GET /x HTTP/1.1\r\nHOSTHost: other.test\r\n\r\n", &[400]),
    ("Host twice the same", "GET /x HTTP/1.1\r\nHOSTHOST\r\n", &[400]),
    ("Host list", "GET /x HTTP/1.1\r\nHost: shop.test, other.test\r\n\r\n", &[400]),
    ("Host with user", "GET /x HTTP/1.1\r\nHost: a@shop.test\r\n\r\n", &[400]),
    ("Host with a path", "GET /x HTTP/1.1\r\nHost: shop.test/x\r\n\r\n", &[400]),
    ("absolute-form of another host", "GET http://other.test/x HTTP/1.1\r\nHOST\r\n", &[400]),
    ("absolute-form with user", "GET http://a@shop.test/x HTTP/1.1\r\nHOST\r\n", &[400]),
    // The request line (RFC 9112 §3).
    ("two spaces", "GET  /x HTTP/1.1\r\nHOST\r\n", &[400]),
    ("space in the target", "GET /x y HTTP/1.1\r\nHOST\r\n", &[400, 505]),
    ("tab for space", "GET\t/x\tHTTP/1.1\r\nHOST\r\n", &[400]),
    ("fragment", "GET /x#y HTTP/1.1\r\nHOST\r\n", &[400]),
    ("target without a slash", "GET x HTTP/1.1\r\nHOST\r\n", &[400]),
    ("NUL in the target", "GET /x\0 HTTP/1.1\r\nHOST\r\n", &[400]),
    ("no ASCII in the target", "GET /\u{e9} HTTP/1.1\r\nHOST\r\n", &[400]),
    ("asterisk for GET", "GET * HTTP/1.1\r\nHOST\r\n", &[400]),
    ("method with a colon", "GE:T /x HTTP/1.1\r\nHOST\r\n", &[400, 501]),
    ("space before the method", " GET /x HTTP/1.1\r\nHOST\r\n", &[400]),
    ("CONNECT", "CONNECT shop.test:443 HTTP/1.1\r\nHOST\r\n", &[400, 405, 501]),
    ("HTTP/0.9", "GET /x\r\n\r\n", &[400, 505]),
    ("HTTP/2.0", "GET /x HTTP/2.0\r\nHOST\r\n", &[505]),
    ("HTTP/1.2", "GET /x HTTP/1.2\r\nHOST\r\n", &[505]),
    ("http in small letters", "GET /x http/1.1\r\nHOST\r\n", &[400, 505]),
    ("HTTP/1.10", "GET /x HTTP/1.10\r\nHOST\r\n", &[400, 505]),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505]),
    ("a TLS greeting", "\x16\x03\x01\x02\0\x01\0\x01\x7f\x03\x03\r\n\r\n", &[400]),
    // Paths that no spelling may hold (PRODUCT.md, Resource patterns).
    ("climbing", "GET /../x HTTP/1.1\r\nHOST\r\n", &[400]),
    ("climbing, encoded twice", "GET /%252e%252e/x HTTP/1.1\r\nHOST\r\n", &[400]),
    ("climbing by backslash", "GET /x/..%5c..%5c..%5cy HTTP/1.1\r\nHOST\r\n", &[400]),
    ("climbing behind parameters", "GET /x/..;a=b/..;/y HTTP/1.1\r\nHOST\r\n", &[400]),
    ("NUL, encoded", "GET /x%00 HTTP/1.1\r\nHOST\r\n", &[400]),
    ("NUL, encoded twice", "GET /x%2500 HTTP/1.1\r\nHOST\r\n", &[400]),
    ("line break, encoded", "GET /x%0d%0aA:b HTTP/1.1\r\nHOST\r\n", &[400]),
];

/// Bodies that go wrong after a good head.
const BODIES: &[Row] = &[
    ("chunk size in words", "five\r\nhello\r\n0\r\n\r\n", &[400]),
    ("chunk size with 0x", "0x5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("chunk size with a sign", "+5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("negative chunk size", "-5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("chunk size with a space before", " 5\r\nhello\r\n0\r\n\r\n", &[400]),
    ("chunk size with an underscore", "5_0\r\nhello\r\n0\r\n\r\n", &[400]),
    ("chunk size beyond 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n", &[400]),
    ("empty chunk size", "\r\nhello\r\n0\r\n\r\n", &[400]),
    ("bare LF after the size", "5\nhello\r\n0\r\n\r\n", &[400]),
    ("bare LF after the data", "5\r\nhello\n0\r\n\r\n", &[400]),
    ("bare CR in an extension", "5;a=\rb\r\nhello\r\n0\r\n\r\n", &[400]),
    ("bare LF in an extension", "5;a=\nb\r\nhello\r\n0\r\n\r\n", &[400]),
    ("chunk longer than its size", "5\r\nhello, world\r\n0\r\n\r\n", &[400]),
    ("bare LF in trailers", "0\r\nA: b\n\r\n", &[400]),
    ("obs-fold in trailers", "0\r\nA: b\r\n c\r\n\r\n", &[400]),
    ("space before a trailer's colon", "0\r\nA : b\r\n\r\n", &[400]),
];

/// Exactly one answer, a refusal as malformed, and then the connection's end.
#[track_caller]
fn check_closed(name: &str, client: &mut Client, statuses: &[u16]) {
    let (bytes, _) = client.until_broken(name);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    assert!(statuses.contains(&status), "{name}: {statuses:?} expected, not:\n{text}");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let problem: serde_json::Value = serde_json::from_str(body)
        .unwrap_or_else(|error| panic!("{name}: {error} in the only answer:\n{text}"));
    assert_eq!(problem["reason"], "request_malformed", "{name}: {text}");
    assert_eq!(problem["status"], status, "{name}: {text}");
    assert!(head.to_ascii_lowercase().contains("\r\npayfence-request-id: "), "{name}: {text}");
}

#[test]
fn heads_with_two_readings_are_refused_and_nothing_is_forwarded() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    for (name, head, statuses) in HEADS {
        let mut client = gateway.connect();
        // What would be the smuggled request of another's connection.
        client.send(head.replace("HOST", HOST));
        client.send(get("/smuggled", &[]));
        check_closed(name, &mut client, statuses);
    }
    assert_eq!(
        origin.raw(),
        b"",
        "bytes at the origin: {}",
        String::from_utf8_lossy(&origin.raw())
    );
    assert_eq!(origin.connections(), 0);
    let counted = HEADS.len() as f64;
    gateway.wait_metric("payfence_requests_malformed_total", &["cause="], counted);
    assert_eq!(gateway.ask(get("/after", &[])).status, 200, "and honest ones go on");
}

#[test]
fn a_pipelined_refusal_comes_after_the_answers_before_it() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    for (name, head, statuses) in HEADS {
        let before = origin.requests().len();
        let mut client = gateway.connect();
        client.send(get("/first", &[]) + &head.replace("HOST", HOST));
        assert_eq!(client.answer().status, 200, "{name}");
        check_closed(name, &mut client, statuses);
        assert_eq!(origin.requests().len(), before + 1, "{name}");
    }
    assert!(origin.requests().iter().all(|request| request.target == "/first"));
}

#[test]
fn bodies_with_two_readings_never_reach_the_origin_whole() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let head = "POST /x HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (name, body, statuses) in BODIES {
        let mut client = gateway.connect();
        client.send(format!("{head}{body}"));
        check_closed(name, &mut client, statuses);
        // The same once the head is at the origin.
        let before = origin.raw().len();
        let mut client = gateway.connect();
        client.send(head);
        super::wait::wait_for("the head at the origin", || {
            let raw = origin.raw();
            (raw.len() > before && raw.ends_with(b"\r\n\r\n")).then_some(())
        });
        client.send(body);
        check_closed(&format!("{name}, after the head"), &mut client, statuses);
    }
    // The head may have gone ahead of its body; then the transfer was broken off, not ended.
    origin.wait_all_ended();
    assert_eq!(origin.requests().len(), 0, "{:?}", origin.requests());
}

#[test]
fn limits_let_pass_what_is_promised_and_refuse_more_before_closing() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let head = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n{headers}\r\n")
    };
    let long = |bytes: usize| "a".repeat(bytes);
    let passing = [
        ("a URI of 8,000 bytes", head(&format!("/{}", long(7_999)), "")),
        ("a head of 32 KiB", head("/x", &format!("A: {}\r\n", long(32_000)))),
        (
            "a head of 32 KiB in many headers",
            head("/x", &format!("A: {}\r\n", long(500)).repeat(63)),
        ),
    ];
    for (name, request) in passing {
        assert_eq!(gateway.ask(request).status, 200, "{name}");
    }
    let refused = [
        ("a URI of 200 KB", head(&format!("/{}", long(200_000)), ""), [414, 431]),
        ("a head of 1 MB", head("/x", &format!("A: {}\r\n", long(1_000_000))), [431, 431]),
        ("100,000 headers", head("/x", &"A: b\r\n".repeat(100_000)), [431, 431]),
        ("a method of 100 KB", head("/x", "").replace("GET", &long(100_000)), [400, 501]),
    ];
    let before = origin.requests().len();
    for (name, request, statuses) in refused {
        let mut client = gateway.connect();
        let mut writing = client.stream.try_clone().expect("a socket");
        let sending = std::thread::spawn(move || {
            let _ = std::io::Write::write_all(&mut writing, request.as_bytes());
        });
        check_closed(name, &mut client, &statuses);
        sending.join().expect("no panic");
    }
    assert_eq!(origin.requests().len(), before);
}

#[test]
fn a_refused_request_with_a_token_costs_nothing() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let authorization = bearer("plenty");
    for (name, head, statuses) in HEADS.iter().filter(|(_, head, _)| head.contains(" /x HTTP")) {
        let paid = head
            .replace("HOST", &format!("{HOST}Authorization: {authorization}\r\n"))
            .replace(" /x ", " /paid/x ");
        let mut client = gateway.connect();
        client.send(paid);
        check_closed(name, &mut client, statuses);
    }
    assert_eq!(gateway.used("plenty"), 0);
}
