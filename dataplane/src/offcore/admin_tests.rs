//! The admin listener over real sockets: each path, readiness, a taken port, clients that hold connections.

use std::io::{Read, Write};
use std::net::TcpStream as Client;

use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;

fn start() -> (Arc<NodeState>, SocketAddr, AdminThread) {
    let state = Arc::new(NodeState::new(Clock::start(), Arc::new(Metrics::new(1))));
    let listener = AdminListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address();
    let thread = listener.serve(Arc::clone(&state)).unwrap();
    (state, address, thread)
}

fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let mut client = Client::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // What is refused before it was read whole is not taken to its end.
    let _ = write!(client, "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn each_path_answers() {
    let (state, address, _thread) = start();
    let check = |method: &str, path: &str, status: u16, content: &str, body: &str| {
        let (actual, head, text) = ask(address, method, path);
        assert_eq!(actual, status, "{method} {path}");
        assert!(head.contains(content), "{method} {path}: {head}");
        assert!(text.contains(body), "{method} {path}: {text}");
    };
    check("GET", "/healthz", 200, "text/plain", "ok\n");
    check("GET", "/readyz", 503, "text/plain", "no policy snapshot is loaded\n");
    state.snapshot_loaded(4);
    check("GET", "/readyz", 503, "text/plain", "not accepting yet: shard 0\n");
    state.set_accepting(0, true);
    check("GET", "/readyz", 200, "text/plain", "ready\n");
    check("GET", "/status", 200, "application/json", "\"sequence\": 4");
    check("GET", "/metrics", 200, "version=0.0.4", "payfence_snapshot_sequence 4\n");
    check("HEAD", "/metrics", 200, "version=0.0.4", "");
    check("POST", "/status", 405, "", "");
    check("GET", "/", 404, "", "");
    state.set_draining();
    check("GET", "/readyz", 503, "text/plain", "draining");
    check("GET", "/healthz", 200, "text/plain", "ok\n");
}

#[test]
fn a_taken_port_is_one_clear_sentence() {
    let (_state, address, _thread) = start();
    let error = AdminListener::bind(address).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the admin address {address} is taken by another process: stop that one or choose another with --admin"
        )
    );
}

#[test]
fn clients_that_hold_connections_do_not_keep_others_away() {
    let (_state, address, _thread) = start();
    let mut held: Vec<Client> = (0..CONNECTIONS_MAX * 2)
        .map(|_| {
            let mut client = Client::connect(address).unwrap();
            client.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
            client
        })
        .collect();
    assert_eq!(ask(address, "GET", "/healthz").0, 200);
    // The oldest has been closed to make room.
    held[0].set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ended = match held[0].read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    };
    assert!(ended);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let (_state, address, _thread) = start();
    let (status, _, _) = ask(address, "GET", &format!("/{}", "a".repeat(HEAD_BYTES_MAX)));
    assert!((400..500).contains(&status), "{status}");
}

#[test]
fn dropping_the_thread_closes_the_port() {
    let (_state, address, thread) = start();
    drop(thread);
    assert!(Client::connect(address).is_err());
}
