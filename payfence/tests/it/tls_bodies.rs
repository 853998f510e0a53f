//! Bodies through TLS on both sides: whole both ways in every framing, and visibly broken where they are not whole.

use std::sync::Arc;

use super::certificates::{Authority, Folder};
use super::client::{Client, get, request};
use super::origin::{Origin, Received, Step, reply};
use super::policy::{bearer, site, site_of};
use super::tls::{Front, VERSIONS, serving, trusting_with};
use super::wait::wait_for;

/// Bytes in which every loss, repetition and swap shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn chunked(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.chunks(piece) {
        out.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

/// Sends each body back in the framing that the path names.
fn echoed(request: &Received) -> Vec<Step> {
    let body = &request.body;
    match request.target.as_str() {
        "/chunked" => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
            Step::Send(chunked(body, 3000)),
        ],
        "/close" => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec()),
            Step::Send(body.clone()),
            Step::Close,
        ],
        _ => vec![
            Step::Send(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(),
            ),
            Step::Send(body.clone()),
        ],
    }
}

/// A gateway with an https origin of one certificate, and that origin.
fn both_sides(
    script: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static,
) -> Option<(Front, Origin, Folder)> {
    let (authority, folder) = (Authority::new("Of the origin"), Folder::new());
    let address = super::wait::own_address();
    let leaf = authority.issue(&[&address.ip().to_string()]);
    let origin = Origin::start_tls_at(address, serving(&leaf), script);
    let ca = folder.write("origin-ca.pem", &authority.pem());
    let more = format!("origin_ca = {:?}", ca.display().to_string());
    let policy = site_of(&format!("https://{}", origin.address), &more, "");
    Some((Front::start(&policy, &[])?, origin, folder))
}

#[test]
fn bodies_pass_untouched_through_two_sessions() {
    let Some((front, _origin, _folder)) = both_sides(echoed) else { return };
    for version in VERSIONS {
        let config = Arc::new(trusting_with(&front.authority, &[version], None));
        let mut client = front.connect_with(&config);
        for length in [0, 1, 4095, 16_383, 16_384, 16_385, 65_537, 5_000_000] {
            let body = pattern(length);
            for path in ["/length", "/chunked", "/close"] {
                let text = length.to_string();
                let by_length = ("Content-Length", text.as_str());
                let by_chunks = ("Transfer-Encoding", "chunked");
                for framing in [by_length, by_chunks] {
                    client.send(request("POST", path, &[framing]));
                    client.send(if framing == by_chunks {
                        chunked(&body, 7000)
                    } else {
                        body.clone()
                    });
                    let answer = client.answer();
                    assert_eq!(answer.status, 200, "{version:?} {length} {path}");
                    assert!(
                        answer.body == body,
                        "{version:?}: {length} bytes by {path}, {framing:?}"
                    );
                }
            }
        }
    }
    let sum = front.gateway.metric("payfence_connections", &[]);
    assert!(sum <= 1.0, "one connection of a client after the other");
}

#[test]
fn requests_in_a_row_are_answered_in_order() {
    let Some((front, origin, _folder)) =
        both_sides(|request| reply("200 OK", &[], &request.target))
    else {
        return;
    };
    let mut client = front.connect();
    let paths: Vec<String> = (0..200).map(|number| format!("/{number}")).collect();
    let all: String = paths.iter().map(|path| get(path, &[])).collect();
    client.send(all);
    for path in &paths {
        assert_eq!(client.answer().text(), *path);
    }
    assert_eq!(origin.greetings().len(), 1, "one session with the origin serves them all");
}

#[test]
fn events_arrive_one_by_one() {
    let Some((front, origin, _folder)) = both_sides(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        vec![
            Step::Send(head.into()),
            Step::Await("one"),
            Step::Send(b"data: 1\n\n".to_vec()),
            Step::Await("two"),
            Step::Send(b"data: 2\n\n".to_vec()),
            Step::Close,
        ]
    }) else {
        return;
    };
    let mut client = front.connect();
    client.send(get("/events", &[]));
    assert_eq!(client.head().status, 200, "before any event");
    origin.release("one");
    assert_eq!(client.chunk(), b"data: 1\n\n", "before the second is sent");
    origin.release("two");
    assert_eq!(client.chunk(), b"data: 2\n\n");
    assert_eq!(client.chunk(), b"");
}

#[test]
fn a_tunnel_runs_through_two_sessions() {
    let Some((front, origin, _folder)) = both_sides(|_| {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        vec![Step::Send(head.into()), Step::Echo]
    }) else {
        return;
    };
    for version in VERSIONS {
        let config = Arc::new(trusting_with(&front.authority, &[version], None));
        let mut client = front.connect_with(&config);
        let upgrade = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        assert_eq!(client.ask(get("/socket", &upgrade)).status, 101);
        for length in [1, 125, 16_384, 100_000] {
            let frame = pattern(length);
            client.send(&frame);
            assert!(client.exactly(length) == frame, "{version:?}: {length} bytes");
        }
        client.say_goodbye();
        client.expect_end();
    }
    origin.wait_all_ended();
    front.gateway.wait_metric("payfence_connections", &[], 0.0);
}

#[test]
fn a_body_up_to_the_close_is_whole_only_if_its_end_was_announced() {
    let Some((front, origin, _folder)) = both_sides(|request| {
        let head = Step::Send(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec());
        let junk = b"\x17\x03\x03\x00\x20................................".to_vec();
        let rest = match request.target.as_str() {
            "/paid/announced" => return vec![head, Step::Close],
            "/paid/cut" => return vec![head, Step::Cut],
            "/paid/reset" => [Step::Await("reset"), Step::Reset].to_vec(),
            "/paid/junk" => vec![Step::Await("junk"), Step::SendBelow(junk), Step::Close],
            _ => vec![Step::Await("plain"), Step::SendBelow(b"HTTP/1.1 ".to_vec()), Step::Close],
        };
        [vec![head], rest].concat()
    }) else {
        return;
    };
    let authorization = bearer("plenty");
    let headers = [("Authorization", authorization.as_str())];
    let whole = front.connect().ask(get("/paid/announced", &headers));
    assert_eq!(whole.text(), "hello");
    for name in ["cut", "reset", "junk", "plain"] {
        let mut client = front.connect();
        client.send(get(&format!("/paid/{name}"), &headers));
        let head = client.head();
        assert_eq!(head.status, 200, "{name}");
        assert_eq!(head.header("Transfer-Encoding"), Some("chunked"), "{name}");
        assert_eq!(client.chunk(), b"hello", "{name}");
        origin.release(name);
        let (rest, is_announced) = client.until_broken(name);
        assert_eq!(rest, b"", "{name}: no last chunk");
        assert!(!is_announced, "{name}: not in TLS either");
    }
    front.gateway.wait_used("plenty", 5);
}

/// What an HTTP/1.0 client is given has no end but the connection's.
fn old(path: &str) -> String {
    format!("GET {path} HTTP/1.0\r\nHost: shop.test\r\n\r\n")
}

#[test]
fn a_body_that_broke_off_is_never_announced_as_ended() {
    let Some((front, _origin, _folder)) = both_sides(|request| {
        let unframed = Step::Send(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec());
        let chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec();
        match request.target.as_str() {
            "/cut" => vec![unframed, Step::Cut],
            "/chunks-end" => vec![Step::Send(chunk), Step::Close],
            "/chunks-garbled" => vec![Step::Send([&chunk[..], b"zz\r\n"].concat())],
            _ => vec![unframed, Step::Close],
        }
    }) else {
        return;
    };
    for version in VERSIONS {
        let config = Arc::new(trusting_with(&front.authority, &[version], None));
        for path in ["/whole", "/cut", "/chunks-end", "/chunks-garbled"] {
            let mut client = front.connect_with(&config);
            client.send(old(path));
            assert_eq!(client.head().status, 200, "{path}");
            let (body, is_announced) = client.until_broken(path);
            assert!(b"hello".starts_with(&body), "{path}: {body:?}");
            assert!(path != "/whole" || body == b"hello");
            assert_eq!(is_announced, path == "/whole", "{version:?} {path}");
        }
    }
}

#[test]
fn the_end_of_a_large_body_is_announced_to_a_slow_client() {
    const LENGTH: usize = 3_000_000;
    let Some((front, _origin, _folder)) = both_sides(|_| {
        let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        vec![Step::Send([head, pattern(LENGTH)].concat()), Step::Close]
    }) else {
        return;
    };
    let config = front.trusting();
    for _ in 0..10 {
        let client = Client::connect(front.tls);
        let socket = socket2::SockRef::from(&client.stream);
        socket.set_recv_buffer_size(128 << 10).expect("a socket");
        let mut client = client.into_secure(&config, "shop.test").expect("a session");
        client.send(old("/large"));
        assert_eq!(client.head().status, 200);
        let (body, is_announced) = client.until_broken("a large body");
        assert!(body == pattern(LENGTH), "{} bytes", body.len());
        assert!(is_announced, "a body that is whole ends with close_notify");
    }
}

#[test]
fn an_upload_that_an_origin_refuses_ends_in_its_answer() {
    let Some((front, origin, _folder)) = both_sides(|_| reply("200 OK", &[], "ok")) else { return };
    let mut client = front.connect();
    client.send(request("POST", "/paid/x", &[("Content-Length", "3000000")]));
    client.send(vec![b'x'; 200_000]);
    assert_eq!(client.answer().reason(), "token_missing");
    assert_eq!(origin.raw(), b"");
}

#[test]
fn a_slow_reader_holds_the_origin_back_over_tls() {
    const LENGTH: usize = 64 << 20;
    let Some((front, _origin, _folder)) = both_sides(|request| match request.target.as_str() {
        "/large" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
            vec![Step::Send(head.into_bytes()), Step::Send(vec![b'x'; LENGTH])]
        }
        _ => reply("200 OK", &[], "ok"),
    }) else {
        return;
    };
    let before_kib = front.gateway.rss_kib();
    let mut slow = front.connect();
    slow.send(get("/large", &[]));
    assert_eq!(slow.head().status, 200);
    let mut other = front.connect();
    for _ in 0..200 {
        assert_eq!(other.ask(get("/x", &[])).text(), "ok", "others are served");
    }
    let grown_kib = front.gateway.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 32 << 10, "the gateway grew by {grown_kib} KiB for a body nobody reads");
    let mut left = LENGTH;
    while left > 0 {
        let piece = left.min(1 << 20);
        assert!(slow.exactly(piece).iter().all(|byte| *byte == b'x'));
        left -= piece;
    }
    assert_eq!(slow.ask(get("/x", &[])).text(), "ok", "and the session goes on");
    wait_for("both clients only", || {
        (front.gateway.metric("payfence_connections", &[]) < 2.5).then_some(())
    });
}

#[test]
fn a_plain_origin_serves_tls_clients_alike() {
    let origin = Origin::start(echoed);
    let Some(front) = Front::start(&site(origin.address, "", ""), &[]) else { return };
    let body = pattern(2_000_000);
    let mut client = front.connect();
    for path in ["/length", "/chunked", "/close"] {
        client.send(request("POST", path, &[("Content-Length", &body.len().to_string())]));
        client.send(&body);
        assert!(client.answer().body == body, "{path}");
    }
}
