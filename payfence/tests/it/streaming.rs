//! Bodies: streamed untouched both ways, whatever their size and framing, without waiting for their end.

use std::io::Write;

use super::client::{Client, get, request};
use super::gateway::Gateway;
use super::origin::{Origin, Step, raw, reply};
use super::policy::site;

/// Bytes in which every loss, repetition and swap shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 24) as u8
    };
    (0..length).map(|_| next(&mut state)).collect()
}

fn send_apart(client: &Client, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut writer = client.stream.try_clone().expect("a socket");
    std::thread::spawn(move || writer.write_all(&bytes).expect("the gateway takes it all"))
}

fn chunked(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in bytes.chunks(piece) {
        out.extend(format!("{:x};ext=\"a b\"\r\n", chunk.len()).as_bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

/// An origin that sends each body back in the framing that the path names.
fn echo() -> Origin {
    Origin::start(|request| {
        let body = &request.body;
        let mut bytes = match request.target.as_str() {
            "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            "/close" => b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(),
            _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(),
        };
        match request.target.as_str() {
            "/chunked" => bytes.extend(chunked(body, 1000)),
            _ => bytes.extend(body),
        }
        let mut steps = vec![Step::Send(bytes)];
        if request.target == "/close" {
            steps.push(Step::Close);
        }
        steps
    })
}

#[test]
fn bodies_pass_untouched_in_every_framing_and_size() {
    let origin = echo();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    for length in [0, 1, 2, 4095, 4096, 4097, 16_384, 65_535, 65_536, 65_537, 1 << 20, 10_000_000] {
        let body = pattern(length);
        for (path, piece) in
            [("/length", 0), ("/chunked", 0), ("/close", 0), ("/length", 7), ("/chunked", 5000)]
        {
            // Tiny chunks of a large body would only measure patience.
            if piece == 7 && length > 100_000 {
                continue;
            }
            let mut client = gateway.connect();
            let length_text = length.to_string();
            let (framing, sent) = if piece == 0 {
                (("Content-Length", length_text.as_str()), body.clone())
            } else {
                (("Transfer-Encoding", "chunked"), chunked(&body, piece))
            };
            client.send(request("POST", path, &[framing]));
            let sending = send_apart(&client, sent);
            let answer = client.answer();
            sending.join().expect("all sent");
            assert_eq!(answer.status, 200, "{length} {path} {piece}");
            assert!(
                answer.body == body,
                "{length} bytes by {path}, chunks of {piece}, came back changed"
            );
        }
    }
}

#[test]
fn trailers_pass_both_ways_without_what_may_not() {
    let origin = Origin::start(|_| {
        raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\nPayFence-Cost: 9\r\n\
             Transfer-Encoding: chunked\r\nPayFence-Request-Id: x\r\n\r\n")
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    let headers = [("Transfer-Encoding", "chunked"), ("TE", "trailers"), ("Trailer", "X-Sum")];
    let answer = client.ask(
        request("POST", "/x", &headers)
            + "2\r\nhi\r\n0\r\nX-Sum: 2\r\nContent-Length: 9\r\nHost: evil\r\n\
               PayFence-Customer: me\r\nX_Forwarded_For: 1.2.3.4\r\nX-Original-URL: /paid/x\r\n\r\n",
    );
    let expected = |value: &str| vec![("x-sum".to_owned(), value.to_owned())];
    let lower = |fields: &[(String, String)]| -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    };
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(lower(&answer.trailers), expected("1"));
    let seen = origin.request();
    assert_eq!(seen.body, b"hi");
    assert_eq!(lower(&seen.trailers), expected("2"));
}

#[test]
fn events_arrive_while_the_answer_goes_on() {
    let origin = Origin::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        vec![
            Step::Send(head.into()),
            Step::Await("one"),
            Step::Send(b"8\r\ndata: 1\n\r\n".to_vec()),
            Step::Await("two"),
            Step::Send(b"8\r\ndata: 2\n\r\n".to_vec()),
            Step::Await("end"),
            Step::Send(b"0\r\n\r\n".to_vec()),
        ]
    });
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    client.send(get("/events", &[]));
    let head = client.head();
    assert_eq!(head.header("Content-Type"), Some("text/event-stream"), "before any event");
    origin.release("one");
    assert_eq!(client.chunk(), b"data: 1\n", "before the second is sent");
    origin.release("two");
    assert_eq!(client.chunk(), b"data: 2\n");
    origin.release("end");
    assert_eq!(client.chunk(), b"");
    assert_eq!(client.fields(), []);
}

#[test]
fn a_request_reaches_the_origin_before_its_body_ends() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    let mut client = gateway.connect();
    client.send(request("POST", "/x", &[("Content-Length", "10")]) + "hello");
    super::wait::wait_for("the first half at the origin", || {
        origin.raw().ends_with(b"\r\n\r\nhello").then_some(())
    });
    client.send("world");
    assert_eq!(client.answer().status, 200);
    assert_eq!(origin.request().body, b"helloworld");
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    // The origin reads nothing of the body: it answers the head.
    let listener = std::net::TcpListener::bind(super::wait::own_address()).expect("free");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let mut head = [0; 4096];
                let _ = std::io::Read::read(&mut stream, &mut head);
                let _ = stream.write_all(
                    b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
                );
                let _ = stream.shutdown(std::net::Shutdown::Write);
                // Kept open until the gateway gives up, so that no reset eats the answer.
                while std::io::Read::read(&mut stream, &mut head).is_ok_and(|read| read > 0) {}
            });
        }
    });
    let Some(gateway) = Gateway::start(&site(address, "", "")) else { return };
    let mut client = gateway.connect();
    client.send(request("POST", "/x", &[("Content-Length", "1000000000")]) + "some");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
    assert_eq!(gateway.ask(get("/y", &[])).status, 413, "the gateway goes on");
}

#[test]
fn a_refusal_reaches_a_client_that_is_sending_a_large_body() {
    let origin = Origin::ok();
    let Some(gateway) = Gateway::start(&site(origin.address, "", "")) else { return };
    for _ in 0..20 {
        let mut client = gateway.connect();
        client.send(request("POST", "/paid/x", &[("Content-Length", "3000000")]));
        let mut writer = client.stream.try_clone().expect("a socket");
        let sending = std::thread::spawn(move || {
            let _ = writer.write_all(&vec![b'x'; 3_000_000]);
        });
        let answer = client.answer();
        assert_eq!((answer.status, answer.reason().as_str()), (401, "token_missing"));
        drop(client);
        sending.join().expect("no panic");
    }
    assert_eq!(origin.raw(), b"");
}

#[test]
fn a_slow_reader_holds_the_origin_back_and_nobody_else() {
    const LENGTH: usize = 64 << 20;
    let origin = Origin::start(|request| match request.target.as_str() {
        "/large" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
            vec![Step::Send(head.into_bytes()), Step::Send(vec![b'x'; LENGTH])]
        }
        _ => reply("200 OK", &[], "ok"),
    });
    let policy = site(origin.address, "", "");
    let Some(gateway) = Gateway::start_with(&policy, &["--shards", "1"]) else { return };
    let before_kib = gateway.rss_kib();
    let mut slow = gateway.connect();
    slow.send(get("/large", &[]));
    assert_eq!(slow.head().status, 200);
    for _ in 0..200 {
        assert_eq!(gateway.ask(get("/x", &[])).text(), "ok", "others are served");
    }
    let grown_kib = gateway.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 32 << 10, "the gateway grew by {grown_kib} KiB for a body nobody reads");
    let mut left = LENGTH;
    while left > 0 {
        let piece = left.min(1 << 20);
        assert!(slow.exactly(piece).iter().all(|byte| *byte == b'x'));
        left -= piece;
    }
    assert_eq!(slow.ask(get("/x", &[])).text(), "ok", "and the connection goes on");
}
