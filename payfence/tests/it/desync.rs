//! Requests that are never read to their end: what follows on the connection must not be taken for a request, and nobody
//! pays for what was not delivered.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use super::client::{get, request};
use super::gateway::Gateway;
use super::origin::Origin;
use super::policy::{bearer, site};

const FAST: &str = "connect_timeout_ms = 500\nresponse_timeout_ms = 1500";

/// An origin that reads heads only, answers each with `answer` and closes; keeps what it received.
fn hasty_origin(answer: &'static str) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            kept.lock().expect("no panic").extend(head);
            // The gateway may have gone: then there is nobody to answer.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, received)
}

#[test]
fn the_rest_of_an_unread_body_is_no_request() {
    let answers = [
        ("", 502),
        ("this is no answer\r\n\r\n", 502),
        ("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n", 413),
    ];
    for (answer, status) in answers {
        let (origin, received) = hasty_origin(answer);
        let Some(gateway) = Gateway::start(&site(origin, FAST, "")) else { return };
        let authorization = bearer("plenty");
        let headers = [("Authorization", authorization.as_str()), ("Content-Length", "200")];
        let mut client = gateway.connect();
        client.send(request("POST", "/paid/x", &headers) + "ab");
        let first = client.answer();
        assert_eq!(first.status, status, "{answer}");
        assert_eq!(first.header("Connection"), Some("close"), "{answer}");
        client.send(get("/smuggled", &[]));
        let (more, _) = client.until_broken("after an unread body");
        assert!(more.is_empty(), "{answer}: {}", String::from_utf8_lossy(&more));
        let seen = String::from_utf8_lossy(&received.lock().expect("no panic")).into_owned();
        assert!(!seen.contains("smuggled"), "{answer}: {seen}");
        gateway.wait_used("plenty", i64::from(status == 413));
    }
}

#[test]
fn a_half_close_is_waited_for_and_gets_its_charge_back() {
    let origin = Origin::start(|_| vec![super::origin::Step::Await("never")]);
    let Some(gateway) = Gateway::start(&site(origin.address, FAST, "")) else { return };
    let authorization = bearer("plenty");
    let mut client = gateway.connect();
    client.send(get("/paid/x", &[("Authorization", &authorization)]));
    client.end_sending();
    let answer = client.answer();
    assert_eq!((answer.status, answer.reason().as_str()), (504, "origin_timeout"));
    gateway.wait_used("plenty", 0);
    origin.release("never");
}

#[test]
fn a_body_cut_short_is_400_and_free() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, FAST, "")) else { return };
    let authorization = bearer("plenty");
    for framing in [("Content-Length", "200"), ("Transfer-Encoding", "chunked")] {
        let mut client = gateway.connect();
        let headers = [("Authorization", authorization.as_str()), framing];
        client.send(request("POST", "/paid/x", &headers) + "5\r\nhel");
        client.end_sending();
        let answer = client.answer();
        assert_eq!((answer.status, answer.reason().as_str()), (400, "request_malformed"));
        client.expect_end();
    }
    gateway.wait_used("plenty", 0);
}

#[test]
fn an_origin_that_never_says_continue_is_timed_out() {
    // Reads the head and says nothing until the gateway gives up.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the gateway");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let Some(gateway) = Gateway::start(&site(address, FAST, "")) else { return };
    let authorization = bearer("plenty");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Length", "200"),
        ("Expect", "100-continue"),
    ];
    let mut client = gateway.connect();
    client.send(request("POST", "/paid/x", &headers));
    let answer = client.answer();
    assert_eq!((answer.status, answer.reason().as_str()), (504, "origin_timeout"));
    client.expect_end();
    gateway.wait_used("plenty", 0);
}

#[test]
fn a_trusted_peers_proxy_header_names_the_client() {
    let tokens = format!(
        "tokens = [ {{ id = \"t\", value = \"{}\", allow_from = [\"203.0.113.0/24\"] }} ]",
        super::policy::token("fixed")
    );
    let tables = super::policy::subscription("fixed", "plenty", &tokens);
    let origin = Origin::ok();
    let policy = site(origin.address, "", &tables);
    let authorization = bearer("fixed");
    let ask = get("/paid/x", &[("Authorization", &authorization)]);
    let header = |client: [u8; 4]| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
        bytes.extend(client);
        bytes.extend([127, 0, 0, 1, 0x30, 0x39, 0, 80]);
        bytes
    };
    let Some(gateway) = Gateway::start_with(&policy, &["--trusted-proxy", "127.0.0.0/8"]) else {
        return;
    };
    for (client, status) in [([203, 0, 113, 9], 200), ([198, 51, 100, 1], 403)] {
        let mut connection = gateway.connect();
        connection.send(header(client));
        connection.send(&ask);
        assert_eq!(connection.answer().status, status, "{client:?}");
        assert_eq!(connection.ask(&ask).status, status, "{client:?}: for the whole connection");
    }
    let Some(wary) = Gateway::start(&policy) else { return };
    let mut connection = wary.connect();
    connection.send(header([203, 0, 113, 9]));
    connection.send(&ask);
    assert_eq!(connection.answer().status, 400, "from a peer that nobody trusts");
}
