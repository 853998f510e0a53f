//! The node's own deadlines: heads, idle connections, bodies, streams, lingering. Each short here by its flag, all others as
//! long as ever, so that nothing else can end what a test waits for.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};

use super::client::{Client, get, request};
use super::gateway::Gateway;
use super::origin::{Origin, Step, reply};
use super::policy::{bearer, site};
use super::wait::{own_address, wait_for};

/// Milliseconds: no test takes long, and a busy machine still gets a request through.
const SHORT: &str = "300";

/// Deadlines of this kind that have passed.
#[track_caller]
fn passed(gateway: &Gateway, deadline: &str) -> f64 {
    gateway.metric("payfence_timeouts_total", &[&format!("deadline=\"{deadline}\"")])
}

#[track_caller]
fn wait_passed(gateway: &Gateway, deadline: &str, count: f64) {
    let label = format!("deadline=\"{deadline}\"");
    gateway.wait_metric("payfence_timeouts_total", &[&label], count);
}

/// Heads and bodies that did not come.
#[track_caller]
fn wait_missed(gateway: &Gateway, count: f64) {
    gateway.wait_metric("payfence_requests_malformed_total", &["cause=\"timeout\""], count);
}

/// A paid request of the subscription with plenty of units.
fn paid(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let authorization = bearer("plenty");
    let all = [&[("Authorization", authorization.as_str())], headers].concat();
    request(method, path, &all)
}

#[test]
fn a_head_has_one_deadline_however_much_of_it_comes() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let flags = ["--head-timeout-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    for (before, count) in [(0, 1.0), (2, 2.0)] {
        let mut client = gateway.connect();
        for _ in 0..before {
            assert_eq!(client.ask(get("/x", &[])).status, 200);
        }
        client.send("GET /x HTTP/1.1\r\nHost: shop.test\r\nA: ");
        wait_for("the head's deadline", || {
            client.send("a");
            (passed(&gateway, "head") >= count).then_some(())
        });
        let answer = client.answer();
        assert_eq!((answer.status, answer.reason().as_str()), (408, "request_timeout"));
        assert_eq!(answer.header("Connection"), Some("close"));
        client.end_sending();
        client.expect_end();
        wait_missed(&gateway, count);
    }
    assert_eq!(origin.requests().len(), 2, "what came before the slow heads");
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let origin = Origin::start(|request| {
        let mut steps = Vec::new();
        if request.target == "/held" {
            steps.push(Step::Await("go"));
        }
        steps.extend(reply("200 OK", &[], "ok"));
        steps
    });
    let policy = site(origin.address, "", "");
    let flags = ["--idle-timeout-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let mut silent = gateway.connect();
    assert_eq!(silent.rest(), b"", "before the first request");
    let mut served = gateway.connect();
    assert_eq!(served.ask(get("/x", &[])).status, 200);
    assert_eq!(served.rest(), b"", "between two requests");
    wait_passed(&gateway, "idle", 2.0);
    // A connection whose request runs is not idle: it outlives several that are.
    let mut busy = gateway.connect();
    busy.send(get("/held", &[]));
    origin.wait_request(2);
    for _ in 0..3 {
        assert_eq!(gateway.connect().rest(), b"");
    }
    origin.release("go");
    assert_eq!(busy.answer().text(), "ok");
    assert_eq!(busy.rest(), b"");
    gateway.wait_metric("payfence_connections", &[], 0.0);
    wait_passed(&gateway, "idle", 6.0);
}

#[test]
fn a_body_that_stalls_is_refused_given_back_and_broken_off_at_the_origin() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let flags = ["--stall-timeout-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let rows = [
        (("Content-Length", "10"), "hello"),
        (("Content-Length", "10"), ""),
        (("Content-Length", "1000000"), "hello"),
        (("Transfer-Encoding", "chunked"), "5\r\nhello\r\n"),
        (("Transfer-Encoding", "chunked"), "5\r\nhel"),
        (("Transfer-Encoding", "chunked"), "5\r\nhello\r\n0\r\n"),
    ];
    for (number, (framing, body)) in rows.iter().enumerate() {
        let mut client = gateway.connect();
        client.send(paid("POST", "/paid/x", &[*framing]) + body);
        let answer = client.answer();
        let what = format!("{framing:?} {body:?}: {answer:?}");
        assert_eq!((answer.status, answer.reason().as_str()), (408, "request_timeout"), "{what}");
        assert_eq!(answer.header("Connection"), Some("close"), "{what}");
        assert_eq!(answer.number("X-RateLimit-Remaining"), 1_000_000, "{what}");
        client.expect_end();
        assert_eq!(origin.connections(), number + 1, "{what}: it was under way");
    }
    wait_passed(&gateway, "stall", rows.len() as f64);
    wait_missed(&gateway, rows.len() as f64);
    gateway.wait_used("plenty", 0);
    origin.wait_all_ended();
    assert_eq!(origin.requests().len(), 0, "{:?}", origin.requests());
}

/// An origin that answers each connection's first bytes with `answer` and reads on to its end.
fn early(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(own_address()).expect("an address of its own");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                let _ = stream.read(&mut piece);
                let _ = stream.write_all(answer.as_bytes());
                while stream.read(&mut piece).is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

#[test]
fn a_body_that_stalls_under_an_answer_breaks_that_off() {
    // An event stream, so that the answer's own deadline is the long one.
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                   Transfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n";
    let policy = site(early(answer), "", "");
    let flags = ["--stall-timeout-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    for (version, count) in [("1.1", 1), ("1.0", 2)] {
        let mut client = gateway.connect();
        let ask = paid("POST", "/paid/x", &[("Content-Length", "10")]);
        client.send(ask.replace("HTTP/1.1", &format!("HTTP/{version}")) + "hello");
        let (bytes, orderly) = client.until_broken("a body that stalls under an answer");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("data: 1\n"), "{text}");
        assert!(!text.contains("408"), "{text}");
        assert!(!text.contains("0\r\n\r\n"), "as if it had ended: {text}");
        assert!(version == "1.1" || !orderly, "only a reset shows HTTP/1.0 where it broke");
        gateway.wait_used("plenty", count);
    }
    wait_passed(&gateway, "stall", 2.0);
}

#[test]
fn a_body_that_nobody_reads_is_waited_for_no_longer() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let flags = ["--stall-timeout-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let mut client = gateway.connect();
    let answer = client.ask(request("POST", "/paid/x", &[("Content-Length", "100")]) + "hello");
    assert_eq!((answer.status, answer.header("Connection")), (401, None));
    client.expect_end();
    wait_passed(&gateway, "stall", 1.0);
    assert_eq!(origin.connections(), 0);
}

const LARGE: usize = 16 << 20;

/// An origin of answers larger than all buffers on their way, and of small ones.
fn large() -> Origin {
    Origin::start(|request| match request.target.as_str() {
        "/paid/large" => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            vec![Step::Send(head.into_bytes()), Step::Send(vec![b'x'; LARGE])]
        }
        "/paid/unframed" => {
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            vec![Step::Send(head.into()), Step::Send(vec![b'x'; LARGE]), Step::Close]
        }
        // On connections of their own, so that none stays open for the next.
        _ => reply("200 OK", &[("Connection", "close")], "ok"),
    })
}

#[test]
fn clients_that_do_not_read_are_closed_and_harm_nobody() {
    const CLIENTS: usize = 8;
    let origin = large();
    let policy = site(origin.address, "", "");
    let flags = ["--stall-timeout-ms", SHORT, "--shards", "1"];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let before_kib = gateway.rss_kib();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(paid("GET", "/paid/large", &[]));
    }
    let mut most_kib = 0;
    wait_for("the stall deadline of every client", || {
        assert_eq!(gateway.ask(get("/x", &[])).text(), "ok", "others are served");
        most_kib = most_kib.max(gateway.rss_kib().saturating_sub(before_kib));
        (passed(&gateway, "stall") >= CLIENTS as f64).then_some(())
    });
    assert!(most_kib < 32 << 10, "the gateway grew by {most_kib} KiB for bodies nobody reads");
    gateway.wait_metric("payfence_connections", &[], 0.0);
    origin.wait_all_ended();
    for client in &mut clients {
        let (bytes, _) = client.until_broken("a client that did not read");
        assert!(bytes.starts_with(b"HTTP/1.1 200"), "what was under way may still be read");
        assert!(bytes.len() < LARGE, "{} bytes: the answer is broken", bytes.len());
    }
    gateway.wait_used("plenty", CLIENTS as i64);
}

#[test]
fn an_unframed_answer_that_is_not_read_does_not_end_as_if_whole() {
    let origin = large();
    let policy = site(origin.address, "", "");
    let flags = ["--stall-timeout-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let mut client = gateway.connect();
    client.send(paid("GET", "/paid/unframed", &[]).replace("HTTP/1.1", "HTTP/1.0"));
    wait_passed(&gateway, "stall", 1.0);
    gateway.wait_metric("payfence_connections", &[], 0.0);
    let (bytes, orderly) = client.until_broken("a client that did not read");
    assert!(!orderly, "{} bytes of {LARGE} ended in good order", bytes.len());
}

#[test]
fn an_answer_that_stops_is_visibly_broken_and_paid() {
    let origin = Origin::start(|request| {
        let head = match request.target.as_str() {
            "/paid/length" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "/paid/chunked" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\n\r\nhello",
        };
        vec![Step::Send(head.into()), Step::Await("end"), Step::Close]
    });
    let policy = site(origin.address, "", "");
    let flags = ["--stall-timeout-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let rows = [
        ("/paid/length", "HTTP/1.1"),
        ("/paid/chunked", "HTTP/1.1"),
        ("/paid/unframed", "HTTP/1.1"),
        ("/paid/length", "HTTP/1.0"),
        ("/paid/chunked", "HTTP/1.0"),
        ("/paid/unframed", "HTTP/1.0"),
    ];
    for (path, version) in rows {
        let what = format!("{path} {version}");
        let mut client = gateway.connect();
        client.send(paid("GET", path, &[]).replace("HTTP/1.1", version));
        let (bytes, orderly) = client.until_broken(&what);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("hello"), "{what}: {text}");
        let head = text.to_ascii_lowercase();
        if head.contains("transfer-encoding: chunked") {
            assert!(!text.ends_with("0\r\n\r\n"), "{what} ended as if whole: {text}");
        } else if !head.contains("content-length: 10") {
            assert!(!orderly, "{what} ended in good order: {text}");
        }
    }
    wait_passed(&gateway, "stall", rows.len() as f64);
    gateway.wait_used("plenty", rows.len() as i64);
    origin.release("end");
    origin.wait_all_ended();
}

/// Event streams that wait for `name` between two events, and bodies that stall for good.
fn events(name: &'static str) -> Origin {
    Origin::start(move |request| match request.target.as_str() {
        "/events" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                        Transfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n";
            let rest = "8\r\ndata: 2\n\r\n0\r\n\r\n";
            vec![Step::Send(head.into()), Step::Await(name), Step::Send(rest.into())]
        }
        "/tunnel" => {
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\n\r\n";
            vec![Step::Send(head.into()), Step::Echo]
        }
        _ => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
            vec![Step::Send(head.into()), Step::Await(name), Step::Close]
        }
    })
}

fn upgrade() -> String {
    get("/tunnel", &[("Connection", "Upgrade"), ("Upgrade", "websocket")])
}

#[test]
fn streams_and_tunnels_may_be_quiet_where_a_body_may_not() {
    let origin = events("next");
    let policy = site(origin.address, "", "");
    let flags = ["--stall-timeout-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let mut stream = gateway.connect();
    stream.send(get("/events", &[]));
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.chunk(), b"data: 1\n");
    let mut tunnel = gateway.connect();
    assert_eq!(tunnel.ask(upgrade()).status, 101);
    for _ in 0..3 {
        let mut plain = gateway.connect();
        plain.send(get("/plain", &[]));
        let (bytes, _) = plain.until_broken("a body that stalls");
        assert!(bytes.ends_with(b"hello"));
    }
    origin.release("next");
    assert_eq!(stream.chunk(), b"data: 2\n");
    assert_eq!(stream.chunk(), b"");
    tunnel.send("hello");
    assert_eq!(tunnel.exactly(5), b"hello");
    wait_passed(&gateway, "stall", 3.0);
}

#[test]
fn streams_and_tunnels_that_stay_quiet_end() {
    let origin = events("next");
    let policy = site(origin.address, "", "");
    let flags = ["--quiet-timeout-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let mut stream = gateway.connect();
    stream.send(get("/events", &[]));
    let (bytes, _) = stream.until_broken("a quiet stream");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.ends_with("data: 1\n\r\n"), "no last chunk: {text}");
    let mut tunnel = gateway.connect();
    assert_eq!(tunnel.ask(upgrade()).status, 101);
    tunnel.send("hello");
    assert_eq!(tunnel.exactly(5), b"hello");
    tunnel.expect_end();
    gateway.wait_metric("payfence_tunnels", &[], 0.0);
    gateway.wait_metric("payfence_connections", &[], 0.0);
    assert!(passed(&gateway, "stall") >= 2.0);
    origin.release("next");
    origin.wait_all_ended();
}

const NO_REQUEST: &str = "GET /x HTTP/1.1\r\nHost: shop.test\r\nHost: shop.test\r\n\r\n";

#[test]
fn a_client_that_is_silent_after_its_last_answer_is_closed() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let flags = ["--linger-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let mut client = gateway.connect();
    assert_eq!(client.ask(NO_REQUEST).status, 400);
    assert_eq!(client.rest(), b"", "the gateway says that nothing more will come");
    gateway.wait_metric("payfence_connections", &[], 0.0);
    client.stream.shutdown(Shutdown::Both).expect("open until here");
}

#[test]
fn a_client_that_goes_on_sending_after_its_last_answer_is_closed() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let flags = ["--linger-ms", "60000", "--linger-max-ms", SHORT];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let mut client = gateway.connect();
    client.send(NO_REQUEST);
    wait_for("the connection's end", || {
        client.send("more");
        (gateway.metric("payfence_connections", &[]) < 0.5).then_some(())
    });
    let (bytes, _) = client.until_broken("a client that went on sending");
    assert!(bytes.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_client_that_reads_late_gets_its_answer_and_ends_when_it_likes() {
    let origin = Origin::ok();
    let policy = site(origin.address, "", "");
    let flags = ["--linger-ms", "60000", "--linger-max-ms", "60000"];
    let Some(gateway) = Gateway::start_with(&policy, &flags) else { return };
    let mut client = gateway.connect();
    client.send(NO_REQUEST);
    // Closed at once, this would be answered by a reset, which takes the answer along.
    client.send(vec![b'x'; 4 << 20]);
    assert_eq!(client.answer().status, 400);
    assert_eq!(client.rest(), b"");
    assert!(gateway.metric("payfence_connections", &[]) > 0.5, "still listened to");
    client.end_sending();
    gateway.wait_metric("payfence_connections", &[], 0.0);
}
