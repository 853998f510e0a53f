//! Origins that fail: what the client is told, and that nobody pays for what was not delivered.

use super::client::{get, request};
use super::gateway::Gateway;
use super::origin::{Origin, Step, raw, reply};
use super::policy::{bearer, site};
use super::wait::{own_address, timed};

const FAST: &str = "connect_timeout_ms = 500\nresponse_timeout_ms = 500";

fn broken_off(text: &str) -> Vec<Step> {
    vec![Step::Send(text.as_bytes().to_vec()), Step::Close]
}

fn reset(text: &str) -> Vec<Step> {
    vec![Step::Send(text.as_bytes().to_vec()), Step::Reset]
}

/// Paths whose answer is none, with status and reason.
const NO_ANSWER: &[(&str, u16, &str)] = &[
    ("/paid/close", 502, "origin_unreachable"),
    ("/paid/reset", 502, "origin_unreachable"),
    ("/paid/hang", 504, "origin_timeout"),
    ("/paid/garbage", 502, "origin_invalid"),
    ("/paid/two-status-lines", 502, "origin_invalid"),
    ("/paid/half-head", 502, "origin_invalid"),
    ("/paid/bare-lf", 502, "origin_invalid"),
    ("/paid/fold", 502, "origin_invalid"),
    ("/paid/nul", 502, "origin_invalid"),
    ("/paid/te-cl", 502, "origin_invalid"),
    ("/paid/two-lengths", 502, "origin_invalid"),
    ("/paid/te-gzip", 502, "origin_invalid"),
    ("/paid/te-old", 502, "origin_invalid"),
    ("/paid/space", 502, "origin_invalid"),
    ("/paid/http2", 502, "origin_invalid"),
    ("/paid/status-99", 502, "origin_invalid"),
    ("/paid/unasked-101", 502, "origin_invalid"),
    ("/paid/endless-head", 502, "origin_invalid"),
    ("/paid/interim-then-close", 502, "origin_invalid"),
];

fn no_answer(path: &str) -> Vec<Step> {
    match path {
        "/paid/close" => vec![Step::Close],
        "/paid/reset" => vec![Step::Reset],
        "/paid/hang" => vec![Step::Await("end")],
        "/paid/garbage" => broken_off("220 mail.example ESMTP\r\n"),
        "/paid/two-status-lines" => {
            raw("HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
        "/paid/half-head" => broken_off("HTTP/1.1 200 OK\r\nContent-Le"),
        "/paid/bare-lf" => raw("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        "/paid/fold" => raw("HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok"),
        "/paid/nul" => raw("HTTP/1.1 200 OK\r\nA: b\0\r\nContent-Length: 2\r\n\r\nok"),
        "/paid/te-cl" => raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        "/paid/two-lengths" => {
            raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")
        }
        "/paid/te-gzip" => raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok"),
        "/paid/te-old" => raw("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        "/paid/space" => raw("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
        "/paid/http2" => raw("HTTP/2 200\r\nContent-Length: 2\r\n\r\nok"),
        "/paid/status-99" => raw("HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok"),
        "/paid/unasked-101" => {
            raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
        }
        "/paid/endless-head" => {
            broken_off(&format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(200_000)))
        }
        "/paid/interim-then-close" => broken_off("HTTP/1.1 100 Continue\r\n\r\nHTT"),
        _ => reply("200 OK", &[], "ok"),
    }
}

#[test]
fn an_origin_without_an_answer_is_a_gateway_error_and_free() {
    let origin = Origin::start(|request| no_answer(&request.target));
    let Some(gateway) = Gateway::start(&site(origin.address, FAST, "")) else { return };
    let authorization = bearer("plenty");
    let mut client = gateway.connect();
    for (path, status, reason) in NO_ANSWER {
        let answer = client.ask(get(path, &[("Authorization", &authorization)]));
        assert_eq!((answer.status, answer.reason().as_str()), (*status, *reason), "{path}");
        assert!(answer.header("RateLimit").is_some(), "{path}: the limits are told");
        if answer.header("Connection") == Some("close") {
            client = gateway.connect();
        }
        let good = client.ask(get("/paid/good", &[("Authorization", &authorization)]));
        assert_eq!((good.status, good.text().as_str()), (200, "ok"), "after {path}");
        let label = format!("reason=\"{reason}\"");
        assert!(gateway.metric("payfence_decisions_total", &[&label]) > 0.0, "{path}");
    }
    gateway.wait_used("plenty", NO_ANSWER.len() as i64);
    origin.release("end");
}

#[test]
fn an_origin_that_refuses_connections_is_unreachable() {
    // Nothing listens here.
    let Some(gateway) = Gateway::start(&site(own_address(), FAST, "")) else { return };
    let authorization = bearer("plenty");
    for _ in 0..5 {
        let answer = gateway.ask(get("/paid/x", &[("Authorization", &authorization)]));
        assert_eq!((answer.status, answer.reason().as_str()), (502, "origin_unreachable"));
        assert_eq!(answer.number("X-RateLimit-Remaining"), 1_000_000, "given back at once");
    }
    assert_eq!(gateway.used("plenty"), 0);
    let free = gateway.ask(get("/open", &[]));
    assert_eq!((free.status, free.reason().as_str()), (502, "origin_unreachable"));
}

#[test]
fn an_origin_that_came_back_is_used_again() {
    let address = own_address();
    let Some(gateway) = Gateway::start(&site(address, FAST, "")) else { return };
    assert_eq!(gateway.ask(get("/x", &[])).status, 502);
    let _origin = Origin::start_at(address, |_| reply("200 OK", &[], "back"));
    super::wait::wait_for("the origin", || {
        (gateway.ask(get("/x", &[])).text() == "back").then_some(())
    });
}

#[test]
fn a_transfer_that_breaks_is_visibly_broken_and_paid() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/paid/length-close" => broken_off("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        "/paid/length-reset" => reset("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        "/paid/chunk-close" => {
            broken_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        }
        "/paid/chunk-garbage" => {
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
        }
        "/paid/chunk-lf" => {
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\n\n")
        }
        _ => reset("HTTP/1.1 200 OK\r\n\r\nhello"),
    });
    let Some(gateway) = Gateway::start(&site(origin.address, FAST, "")) else { return };
    let authorization = bearer("plenty");
    let paths = [
        "/paid/length-close",
        "/paid/length-reset",
        "/paid/chunk-close",
        "/paid/chunk-garbage",
        "/paid/chunk-lf",
        "/paid/unframed-reset",
    ];
    let mut paid = 0;
    for path in paths {
        let mut client = gateway.connect();
        client.send(get(path, &[("Authorization", &authorization)]));
        let (bytes, orderly) = client.until_broken(path);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // A reset may overtake the head on the gateway's side: then it is an answer of its own, and free.
        if text.starts_with("HTTP/1.1 502") {
            assert!(path.ends_with("-reset"), "{path}: {text}");
            continue;
        }
        paid += 1;
        assert!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let head = head.to_ascii_lowercase();
        if head.contains("content-length: 10") {
            assert!(body.len() < 10, "{path}: {text}");
        } else if head.contains("transfer-encoding: chunked") {
            assert!(
                !body.ends_with("0\r\n\r\n"),
                "{path}: a chunked body ended as if whole: {text}"
            );
        } else {
            assert!(!orderly, "{path}: a body without framing ended in good order");
        }
    }
    gateway.wait_used("plenty", paid);
}

#[test]
fn an_answer_that_stalls_is_ended_and_paid() {
    let origin = Origin::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
        vec![Step::Send(head.into()), Step::Await("never"), Step::Close]
    });
    let Some(gateway) = Gateway::start(&site(origin.address, FAST, "")) else { return };
    let authorization = bearer("plenty");
    let mut client = gateway.connect();
    client.send(get("/paid/x", &[("Authorization", &authorization)]));
    assert_eq!(client.head().status, 200);
    assert_eq!(client.exactly(5), b"hello");
    // A client that is gone, not one that has only ended its sending: the exchange ends, and its upstream connection.
    client.reset();
    gateway.wait_metric("payfence_connections", &[], 0.0);
    gateway.wait_used("plenty", 1);
    origin.release("never");
}

#[test]
fn an_origins_own_errors_are_charged_unless_it_says_otherwise() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/paid/500" => reply("500 Oops", &[], "own"),
        "/paid/503" => reply("503 Later", &[("Retry-After", "7")], "own"),
        "/paid/500-free" => reply("500 Oops", &[("PayFence-Cost", "0")], "own"),
        _ => reply("404 Not Found", &[], "own"),
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let authorization = bearer("plenty");
    let mut used = 0;
    for (path, status, cost) in [
        ("/paid/500", 500, 1),
        ("/paid/503", 503, 1),
        ("/paid/500-free", 500, 0),
        ("/paid/x", 404, 1),
    ] {
        let answer = gateway.ask(get(path, &[("Authorization", &authorization)]));
        assert_eq!((answer.status, answer.text().as_str()), (status, "own"), "{path}");
        used += cost;
        gateway.wait_used("plenty", used);
    }
}

#[test]
fn an_origin_corrects_the_charge() {
    let origin = Origin::start(|request| {
        let cost = request.target.rsplit('/').next().expect("a segment").replace("%20", " ");
        reply("200 OK", &[("PayFence-Cost", &cost)], "ok")
    });
    let tables = super::policy::plan("ten", "quota = { requests = 10, per = \"year\" }")
        + &super::policy::subscription("ten", "ten", "");
    let Some(gateway) = Gateway::start(&site(origin.address, "", &tables)) else { return };
    let authorization = bearer("plenty");
    let mut used = 0;
    for (value, cost) in [
        ("0", 0),
        ("1", 1),
        ("7", 7),
        ("1000", 1000),
        // Ignored: the resource's own cost stays.
        ("-1", 1),
        ("1.5", 1),
        ("+2", 1),
        ("x", 1),
        ("1000000001", 1),
        ("99999999999999999999", 1),
        ("1,%202", 1),
    ] {
        let path = format!("/paid/{value}");
        let answer = gateway.ask(get(&path, &[("Authorization", &authorization)]));
        assert_eq!((answer.status, answer.header("PayFence-Cost")), (200, None), "{value}");
        used += cost;
        gateway.wait_used("plenty", used);
    }
    // Past the limit: the excess is recorded, remaining is 0, and the next is refused.
    let authorization = bearer("ten");
    let headers = [("Authorization", authorization.as_str())];
    assert_eq!(gateway.ask(get("/paid/25", &headers)).status, 200);
    gateway.wait_used("ten", 25);
    let refused = gateway.ask(get("/paid/1", &headers));
    assert_eq!((refused.status, refused.reason().as_str()), (429, "quota_exhausted"));
    assert_eq!(refused.number("X-RateLimit-Remaining"), 0);
}

#[test]
fn requests_are_repeated_only_when_that_is_safe() {
    // Every second request on a connection is answered by closing it.
    let origin = Origin::start(|request| {
        if request.target.ends_with("/second") {
            return vec![Step::Close];
        }
        reply("200 OK", &[], "ok")
    });
    let policy = site(origin.address, FAST, "");
    let Some(gateway) = Gateway::start_with(&policy, &["--shards", "1"]) else { return };
    let mut client = gateway.connect();
    for (method, repeated) in [("GET", true), ("PUT", true), ("POST", false), ("PATCH", false)] {
        let length = [("Content-Length", "0")];
        let headers: &[(&str, &str)] = if method == "GET" { &[] } else { &length };
        assert_eq!(client.ask(request(method, "/first", headers)).status, 200);
        let before = origin.requests().len();
        let answer = client.ask(request(method, "/second", headers));
        assert_eq!(answer.status, 502, "{method}");
        let tries = origin.requests().len() - before;
        assert!(tries == 1 || (repeated && tries == 2), "{method} was sent {tries} times");
        if answer.header("Connection") == Some("close") {
            client = gateway.connect();
        }
    }
}

#[test]
fn a_response_deadline_is_kept() {
    let origin = Origin::start(|_| vec![Step::Await("end")]);
    let Some(gateway) = Gateway::start(&site(origin.address, FAST, "")) else { return };
    let (answer, took) = timed(|| gateway.ask(get("/x", &[])));
    assert_eq!(answer.status, 504);
    assert!(took.as_millis() >= 450, "{took:?} is before the deadline of 500 ms");
    origin.release("end");
}
