//! Connections: how long they live on both sides, pipelining, HTTP/1.0, HEAD, interim answers, upgrades.

use super::client::{get, request};
use super::gateway::Gateway;
use super::origin::{Origin, Step, raw, reply};
use super::policy::{bearer, site};
use super::wait::wait_for;

#[test]
fn connections_are_kept_and_reused_on_both_sides() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let Some(gateway) = Gateway::start_with(&policy, &["--shards", "1"]) else { return };
    let mut client = gateway.connect();
    for _ in 0..50 {
        assert_eq!(client.ask(get("/x", &[])).text(), "ok");
    }
    assert_eq!(origin.connections(), 1, "one connection to the origin serves them all");
    let answer = client.ask(get("/x", &[("Connection", "close")]));
    assert_eq!(answer.header("Connection"), Some("close"));
    client.expect_end();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|request| reply("200 OK", &[], &request.target));
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    let mut all = String::new();
    for number in 0..100 {
        all += &match number % 3 {
            0 => get(&format!("/{number}"), &[]),
            1 => request("POST", &format!("/{number}"), &[("Content-Length", "3")]) + "abc",
            _ => {
                request("POST", &format!("/{number}"), &[("Transfer-Encoding", "chunked")])
                    + "3\r\nabc\r\n0\r\n\r\n"
            }
        };
    }
    client.send(&all);
    for number in 0..100 {
        assert_eq!(client.answer().text(), format!("/{number}"));
    }
    let bodies: Vec<Vec<u8>> = origin.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies.iter().filter(|body| body.is_empty()).count(), 34);
    assert_eq!(bodies.iter().filter(|body| *body == b"abc").count(), 66);
}

#[test]
fn old_clients_get_answers_they_understand() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/chunked" => {
            raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        }
        _ => reply("200 OK", &[], "ok"),
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    for (path, connection, kept) in [
        ("/x", "", false),
        ("/x", "Connection: keep-alive\r\n", true),
        ("/chunked", "", false),
        ("/chunked", "Connection: keep-alive\r\n", false),
    ] {
        let mut client = gateway.connect();
        let text = format!("GET {path} HTTP/1.0\r\nHost: shop.test\r\n{connection}\r\n");
        let answer = client.ask(&text);
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{text}");
        assert_eq!(answer.header("Transfer-Encoding"), None, "HTTP/1.0 knows no chunks");
        if kept {
            assert_eq!(client.ask(text).text(), "ok");
        } else {
            client.expect_end();
        }
    }
    assert!(origin.requests().iter().all(|request| request.version == "HTTP/1.1"));
}

#[test]
fn old_origins_are_understood() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/length" => raw("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        "/kept" => raw("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
        _ => vec![Step::Send(b"HTTP/1.0 200 OK\r\n\r\nok".to_vec()), Step::Close],
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    for path in ["/length", "/kept", "/close", "/length", "/close"] {
        let answer = client.ask(get(path, &[]));
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{path}");
    }
}

#[test]
fn answers_without_a_body_have_none() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/204" => raw("HTTP/1.1 204 No Content\r\n\r\n"),
        "/304" => raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"a\"\r\n\r\n"),
        "/head-chunked" => raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "/empty" => raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        _ => raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    for (method, path, status, length) in [
        ("HEAD", "/x", 200, Some("1000")),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("1000")),
        ("HEAD", "/head-chunked", 200, None),
        ("HEAD", "/204", 204, None),
        ("GET", "/empty", 200, Some("0")),
    ] {
        let answer = client.ask(request(method, path, &[]));
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("Content-Length"), length, "{method} {path}: {answer:?}");
    }
    let refused = client.ask(request("HEAD", "/paid/x", &[]));
    assert_eq!(refused.status, 401, "a refusal of HEAD has a head only");
    assert_eq!(client.ask(get("/empty", &[])).status, 200, "and the connection goes on");
}

#[test]
fn expectations_are_met_before_the_body_is_sent() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let expecting = [("Expect", "100-continue"), ("Content-Length", "5")];
    let mut client = gateway.connect();
    client.send(request("POST", "/x", &expecting));
    assert_eq!(client.head().status, 100);
    client.send("hello");
    assert_eq!(client.answer().status, 200);
    assert_eq!(origin.request().body, b"hello");
    // A refusal says no before the body was sent at all.
    let mut refused = gateway.connect();
    refused.send(request("POST", "/paid/x", &expecting));
    let head = refused.head();
    assert_eq!(head.status, 401, "no 100 goes before it");
}

#[test]
fn interim_answers_pass() {
    let origin = Origin::start(|_| {
        raw("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
             HTTP/1.1 102 Processing\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    client.send(get("/x", &[]));
    let hints = client.head();
    assert_eq!((hints.status, hints.header("Link")), (103, Some("</a.css>; rel=preload")));
    assert_eq!(client.head().status, 102);
    assert_eq!(client.answer().text(), "ok");
    let old = gateway.ask("GET /x HTTP/1.0\r\nHost: shop.test\r\n\r\n");
    assert_eq!(old.text(), "ok", "HTTP/1.0 knows no interim answers");
}

#[test]
fn a_websocket_becomes_a_tunnel_after_101() {
    let origin = Origin::start(|request| {
        if request.header("Upgrade") != Some("websocket") {
            return reply("426 Upgrade Required", &[], "");
        }
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nfirst";
        vec![Step::Send(head.into()), Step::Echo]
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let authorization = bearer("plenty");
    let asking = [
        ("Authorization", authorization.as_str()),
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "abc"),
        ("Sec-WebSocket-Version", "13"),
    ];
    let mut client = gateway.connect();
    let answer = client.ask(get("/paid/ws", &asking));
    assert_eq!((answer.status, answer.header("Upgrade")), (101, Some("websocket")), "{answer:?}");
    assert_eq!(client.exactly(5), b"first", "what came with the head");
    for piece in ["hello", "\0\x01\x02", "GET / HTTP/1.1\r\n\r\n"] {
        client.send(piece);
        assert_eq!(client.exactly(piece.len()), piece.as_bytes());
    }
    let large = vec![7u8; 1 << 20];
    let mut writer = client.stream.try_clone().expect("a socket");
    let sent = large.clone();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &sent));
    assert!(client.exactly(large.len()) == large, "a large message in both directions");
    sending.join().expect("no panic").expect("all sent");
    client.end_sending();
    client.expect_end();
    origin.wait_all_ended();
    assert_eq!(gateway.used("plenty"), 1);
}

#[test]
fn no_tunnel_without_101_and_no_101_without_being_asked() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/unasked" => raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
        _ => reply("200 OK", &[], "no"),
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    let asking = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    // What follows is a request like any other, not bytes for the origin.
    client.send(get("/declined", &asking) + &get("/paid/x", &[]));
    assert_eq!(client.answer().text(), "no");
    assert_eq!(client.answer().status, 401);
    let unasked = gateway.ask(get("/unasked", &[]));
    assert_eq!((unasked.status, unasked.reason().as_str()), (502, "origin_invalid"));
    for other in ["h2c", "TLS/1.0", "websocket, h2c"] {
        let headers = [("Connection", "Upgrade"), ("Upgrade", other)];
        let before = origin.requests().len();
        assert_eq!(gateway.ask(get("/x", &headers)).status, 200, "{other}");
        let seen = origin.wait_request(before + 1);
        assert!(seen.all("Upgrade").iter().all(|value| !value.contains("h2c")), "{seen:?}");
    }
}

#[test]
fn idle_origin_connections_that_close_are_not_seen_by_clients() {
    let origin = Origin::start(|_| {
        let mut steps = reply("200 OK", &[], "ok");
        steps.push(Step::Close);
        steps
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    for number in 0..50 {
        // The origin closes without having said so: the pool must notice, or try again.
        let answer = client.ask(get("/x", &[]));
        assert_eq!(answer.status, 200, "request {number}: {answer:?}");
    }
}

#[test]
fn bytes_on_an_idle_origin_connection_are_nobodys_answer() {
    let origin = Origin::start(|_| {
        raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
             HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    for _ in 0..50 {
        let mut client = gateway.connect();
        assert_eq!(client.ask(get("/x", &[])).text(), "ok");
        assert_eq!(client.ask(get("/x", &[])).text(), "ok");
    }
}

#[test]
fn a_client_that_half_closes_still_gets_its_answer() {
    let origin = Origin::start(|_| {
        let mut steps = vec![Step::Await("go")];
        steps.extend(reply("200 OK", &[], "ok"));
        steps
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let authorization = bearer("plenty");
    let mut client = gateway.connect();
    client.send(get("/paid/x", &[("Authorization", &authorization)]));
    client.end_sending();
    origin.wait_request(1);
    origin.release("go");
    assert_eq!(client.answer().text(), "ok");
    client.expect_end();
    wait_for("the charge", || (gateway.used("plenty") == 1).then_some(()));
}
