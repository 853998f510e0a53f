//! What comes to the TLS port and is no TLS, or not all of it: each has its answer, and memory stays bounded.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::AlertDescription;

use super::client::{Client, get, request};
use super::origin::{Origin, Step};
use super::policy::{bearer, site};
use super::tls::{Front, VERSIONS, cause, trusting_with};
use super::wait::{DEADLINE, timed, wait_for};

/// The record of a fatal alert (RFC 8446 §6).
fn alert(description: AlertDescription) -> Vec<u8> {
    vec![0x15, 3, 3, 0, 2, 2, u8::from(description)]
}

/// A real ClientHello for `shop.test`, as one record.
fn client_hello(front: &Front) -> Vec<u8> {
    let name = "shop.test".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(front.trusting(), name).expect("a session");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory");
    bytes
}

/// What comes back for `bytes` until the connection ends.
#[track_caller]
fn answered(front: &Front, what: &str, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(front.tls);
    client.send_below(bytes);
    client.until_broken(what).0
}

#[test]
fn plain_http_is_told_so_in_plain_http() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let authorization = bearer("plenty");
    for (number, asked) in [
        get("/paid/x", &[("Authorization", &authorization)]),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        request("POST", "/x", &[("Content-Length", "100000")]) + &"x".repeat(100_000),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "G".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Client::connect(front.tls);
        client.send(&asked);
        let answer = client.answer();
        let line = asked.lines().next().unwrap_or_default();
        assert_eq!((answer.status, answer.reason().as_str()), (400, "request_malformed"), "{line}");
        assert!(answer.text().contains("HTTPS"), "{line}: {answer:?}");
        assert_eq!(answer.header("Connection"), Some("close"), "{line}");
        front.wait_failures("plain_http", number as f64 + 1.0);
    }
    assert_eq!(origin.raw(), b"");
    assert_eq!(front.gateway.used("plenty"), 0);
}

#[test]
fn garbage_is_refused_and_counted() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let hello = client_hello(&front);
    let mut bad_version = hello.clone();
    bad_version[1] = 9;
    let mut half_garbled = hello.clone();
    // The handshake message's own length.
    half_garbled[6..9].copy_from_slice(&[0xff, 0xff, 0xff]);
    let twice = [hello.as_slice(), &hello].concat();
    let rows: [(&str, &[u8]); 9] = [
        ("zeros", &[0; 4096]),
        ("another protocol", b"\x05\x01\x00\x00\x00\x00\x00"),
        ("lower case", b"get / http/1.1\r\n\r\n"),
        ("an SSL 2 hello", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80"),
        ("a record that is too long", b"\x16\x03\x01\xff\xff\x01\x00\x00\x00"),
        ("a record of another protocol's version", &bad_version),
        ("a message that is too long", &half_garbled),
        ("an alert first", &[0x15, 3, 1, 0, 2, 2, 40]),
        ("two hellos", &twice),
    ];
    for (what, bytes) in rows {
        let before = front.handshakes(&["result=\"failed\""]);
        let back = answered(&front, what, bytes);
        wait_for(what, || (front.handshakes(&["result=\"failed\""]) > before).then_some(()));
        // Where it came to a hello, that may have been answered before.
        assert!(back.is_empty() || matches!(back[0], 0x15 | 0x16), "{what}: {back:x?}");
        // The last record is an alert, encrypted after a ServerHello of TLS 1.3.
        let ends =
            |record: &[u8], len: usize| back[..back.len() - len.min(back.len())].ends_with(record);
        let said = ends(&[0x15, 3, 3, 0, 2], 2) || ends(&[0x17, 3, 3, 0, 19], 19);
        assert!(
            said || back.is_empty(),
            "{what}: it ends in an alert: {:x?}",
            &back[..back.len().min(40)]
        );
    }
    assert_eq!(front.connect().ask(get("/x", &[])).status, 200, "it goes on");
}

#[test]
fn what_is_no_tls_is_told_by_an_alert() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    // One byte, so that nothing is unread when the connection is closed: a reset would take the alert along.
    let back = answered(&front, "a byte", b"\x05");
    assert_eq!(back, alert(AlertDescription::UnexpectedMessage));
    front.wait_failures("malformed", 1.0);
}

#[test]
fn a_hello_that_trickles_in_is_a_hello() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let mut client = TcpStream::connect(front.tls).expect("the gateway accepts");
    client.set_nodelay(true).expect("a socket");
    client.set_read_timeout(Some(DEADLINE)).expect("a socket");
    for byte in client_hello(&front) {
        client.write_all(&[byte]).expect("the gateway waits for the rest");
    }
    let mut record = [0; 1];
    client.read_exact(&mut record).expect("a ServerHello");
    assert_eq!(record, [0x16]);
}

#[test]
fn half_a_hello_is_waited_for_until_its_deadline() {
    let origin = Origin::ok();
    let flags = ["--head-timeout-ms", "600", "--shards", "1"];
    let Some(front) = Front::start(&site(origin.address, "", ""), &flags) else { return };
    let hello = client_hello(&front);
    for (number, bytes) in [&hello[..hello.len() / 2], &hello[..1], &[]].into_iter().enumerate() {
        let mut client = Client::connect(front.tls);
        client.send_below(bytes);
        let ((back, _), took) = timed(|| client.until_broken("half a hello"));
        assert_eq!(back, b"", "nothing to say to {} bytes", bytes.len());
        assert!(took.as_millis() >= 500, "{took:?} is before the deadline");
        front.wait_failures("timeout", number as f64 + 1.0);
    }
    let handshakes = ["deadline=\"handshake\""];
    assert!((front.gateway.metric("payfence_timeouts_total", &handshakes) - 3.0).abs() < 1e-9);
    // A hello whose answer is never answered runs into the same deadline.
    let mut client = Client::connect(front.tls);
    client.send_below(&hello);
    let (back, _) = client.until_broken("a handshake that stops");
    assert_eq!(back.first(), Some(&0x16), "a ServerHello");
    front.wait_failures("timeout", 4.0);
}

#[test]
fn many_halves_hold_nobody_up_and_little_memory() {
    const HALVES: usize = 1000;
    let origin = Origin::ok();
    let flags = ["--head-timeout-ms", "60000"];
    let Some(front) = Front::start(&site(origin.address, "", ""), &flags) else { return };
    assert_eq!(front.connect().ask(get("/x", &[])).status, 200);
    let before_kib = front.gateway.rss_kib();
    // A handshake message that says it is 60 KiB long, of which all but the end comes.
    let mut long = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xf0, 0];
    long.resize(5 + 0x4000, 0);
    let mut halves = Vec::new();
    for _ in 0..HALVES {
        let mut client = TcpStream::connect(front.tls).expect("the gateway accepts");
        client.write_all(&long).expect("it is taken");
        halves.push(client);
    }
    let held = || front.gateway.metric("payfence_connections", &[]);
    wait_for("all connections", || (held() >= HALVES as f64).then_some(()));
    assert_eq!(front.connect().ask(get("/x", &[])).status, 200, "others are served");
    let grown_kib = front.gateway.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 128 << 10, "{grown_kib} KiB for {HALVES} halves of 16 KiB");
    drop(halves);
    front.wait_failures("closed", HALVES as f64);
    wait_for("their end", || (held() < 1.0).then_some(()));
}

#[test]
fn an_endless_handshake_message_is_bounded() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    // One message of 16 MiB less one, in records of 16 KiB.
    let mut record = vec![0x16, 3, 1, 0x40, 0];
    record.extend([1, 0xff, 0xff, 0xff]);
    record.resize(5 + 0x4000, 0);
    let mut client = TcpStream::connect(front.tls).expect("the gateway accepts");
    client.set_write_timeout(Some(DEADLINE)).expect("a socket");
    let mut sent = 0;
    while client.write_all(&record).is_ok() {
        sent += record.len();
        assert!(sent < 64 << 20, "the gateway takes whatever comes");
    }
    front.wait_failures("malformed", 1.0);
}

#[test]
fn records_that_are_none_end_a_session() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    for version in VERSIONS {
        let config = Arc::new(trusting_with(&front.authority, &[version], None));
        let mut long = vec![0x17, 3, 3, 0x48, 0x01];
        long.resize(5 + 0x4801, 0);
        for (what, bytes, expected) in [
            (
                "junk",
                &b"\x17\x03\x03\x00\x20................................"[..],
                AlertDescription::BadRecordMac,
            ),
            ("a record that is too long", &long, AlertDescription::DecodeError),
            ("no record", b"GET / HTTP/1.1\r\n\r\n", AlertDescription::DecodeError),
        ] {
            let mut client = front.connect_with(&config);
            assert_eq!(client.ask(get("/x", &[])).status, 200, "{what}");
            let before = origin.requests().len();
            client.send(request("POST", "/y", &[("Content-Length", "5")]) + "he");
            client.send_below(bytes);
            let error = client.until_error();
            let told = cause(&error);
            let is_reset = error.kind() == std::io::ErrorKind::ConnectionReset;
            let is_told = told == Some(&rustls::Error::AlertReceived(expected));
            assert!(is_told || is_reset, "{version:?} {what}: {error:?}");
            front.gateway.wait_metric("payfence_connections", &[], 0.0);
            assert_eq!(
                origin.requests().len(),
                before,
                "{version:?} {what}: half a body is no body"
            );
        }
    }
}

#[test]
fn a_body_that_is_cut_off_is_never_a_whole_one() {
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let authorization = bearer("plenty");
    let chunked = [("Authorization", authorization.as_str()), ("Transfer-Encoding", "chunked")];
    let length = [("Authorization", authorization.as_str()), ("Content-Length", "10")];
    for version in VERSIONS {
        let config = Arc::new(trusting_with(&front.authority, &[version], None));
        for (what, asked) in [
            ("chunks", request("POST", "/paid/x", &chunked) + "5\r\nhello\r\n"),
            ("all but the last line", request("POST", "/paid/x", &chunked) + "5\r\nhello\r\n0\r\n"),
            ("a length", request("POST", "/paid/x", &length) + "hello"),
            ("half a head", "POST /paid/x HTTP/1.1\r\nHost: shop".to_owned()),
        ] {
            for is_said in [false, true] {
                let mut client = front.connect_with(&config);
                client.send(&asked);
                if is_said {
                    client.say_goodbye();
                }
                client.stream.shutdown(Shutdown::Write).expect("an open socket");
                let (back, _) = client.until_broken(what);
                let status = String::from_utf8_lossy(&back).into_owned();
                assert!(!status.starts_with("HTTP/1.1 200"), "{version:?} {what}: {status}");
            }
        }
    }
    origin.wait_all_ended();
    assert_eq!(origin.requests().len(), 0, "{:?}", origin.requests());
    // Whoever says that the body ends early is no client that went away: that costs nothing.
    assert!(front.gateway.used("plenty") <= 6, "{}", front.gateway.used("plenty"));
}

#[test]
fn an_answer_reaches_a_client_that_has_said_its_last_word() {
    let origin = Origin::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec();
        vec![Step::Await("go"), Step::Send(head), Step::Send(b"hello".to_vec())]
    });
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let mut client = front.connect();
    client.send(get("/x", &[]));
    client.say_goodbye();
    origin.wait_request(1);
    origin.release("go");
    assert_eq!(client.answer().text(), "hello");
    client.expect_end();
}

#[test]
fn a_drain_says_goodbye_to_idle_sessions() {
    let origin = Origin::ok();
    let Some(mut front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let mut idle = Vec::new();
    for version in VERSIONS {
        let config = Arc::new(trusting_with(&front.authority, &[version], None));
        let mut client = front.connect_with(&config);
        assert_eq!(client.ask(get("/x", &[])).status, 200);
        idle.push(client);
        idle.push(front.connect_with(&config));
    }
    // In the middle of a handshake.
    let mut beginning = Client::connect(front.tls);
    beginning.send_below(&client_hello(&front)[..20]);
    front.gateway.wait_metric("payfence_connections", &[], 5.0);
    front.gateway.signal("TERM");
    for (number, client) in idle.iter_mut().enumerate() {
        let (bytes, is_announced) = client.until_broken("draining");
        assert!(bytes.is_empty() && is_announced, "{number}: close_notify, then the end");
    }
    beginning.until_broken("draining");
    assert_eq!(front.gateway.wait_end().code(), Some(0), "{}", front.gateway.log());
}

#[test]
fn a_storm_of_handshakes_is_weathered() {
    const STORM: usize = 300;
    let origin = Origin::ok();
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let hello = client_hello(&front);
    let mut served = front.connect();
    assert_eq!(served.ask(get("/x", &[])).status, 200);
    let before_kib = front.gateway.rss_kib();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Each makes the gateway sign and goes away.
                for _ in 0..STORM {
                    let mut client = TcpStream::connect(front.tls).expect("the gateway accepts");
                    client.write_all(&hello).expect("it is taken");
                }
            });
        }
        for _ in 0..100 {
            assert_eq!(served.ask(get("/x", &[])).status, 200, "an open session is served");
        }
    });
    let failed = || front.handshakes(&["result=\"failed\""]);
    wait_for("the storm's end", || (failed() >= 4.0 * STORM as f64).then_some(()));
    front.gateway.wait_metric("payfence_connections", &[], 1.0);
    assert_eq!(front.connect().ask(get("/x", &[])).status, 200);
    let grown_kib = front.gateway.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 64 << 10, "{grown_kib} KiB after the storm");
}
