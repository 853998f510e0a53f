//! The bound on handshakes at one time: what is over it is closed and counted, what runs is served, and ends make room.
//!
//! Always holds: the bound is the product's own, and as many are held open as it names, no fewer.

use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::client::{Client, get};
use super::origin::Origin;
use super::policy::site;
use super::tls::Front;
use super::wait::wait_for;

/// Handshakes under way on one shard (docs/OPERATIONS.md, Limits).
const HANDSHAKES_MAX: usize = 2_048;
const EXCESS: usize = 64;
/// A gateway takes connections up to three quarters of its open files.
const OPEN_FILES: u64 = 4_000;

/// The beginning of a record that holds a ClientHello.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// For this process and the gateway that it starts.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.map_or(OPEN_FILES, |current| current.max(OPEN_FILES));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
    raised.unwrap_or_else(|error| panic!("{OPEN_FILES} open files ({error}): raise `ulimit -Hn`"));
}

/// Handshakes that are begun and go no further: by nothing, or by the first half of a hello.
fn halves(front: &Front, count: usize) -> Vec<Client> {
    let half = |number: usize| {
        let mut client = Client::connect(front.tls);
        if number.is_multiple_of(2) {
            client.send_below(HALF_A_HELLO);
        }
        client
    };
    (0..count).map(half).collect()
}

#[test]
fn handshakes_past_the_bound_are_closed_and_ends_make_room() {
    raise_open_files();
    let origin = Origin::ok();
    let flags = ["--shards", "1", "--head-timeout-ms", "600000", "--idle-timeout-ms", "600000"];
    let Some(front) = Front::start(&site(origin.address, "", ""), &flags) else { return };
    let mut served = front.connect();
    assert_eq!(served.ask(get("/x", &[])).status, 200);
    for round in 1..=2 {
        let held = halves(&front, HANDSHAKES_MAX);
        front.gateway.wait_metric("payfence_connections", &[], HANDSHAKES_MAX as f64 + 1.0);
        let refused = (round - 1) * EXCESS;
        front.wait_failures("busy", refused as f64);
        for (number, mut client) in halves(&front, EXCESS).into_iter().enumerate() {
            let (back, _) = client.until_broken("a handshake too many");
            assert_eq!(back, b"", "{number}: it is closed without a word");
        }
        front.wait_failures("busy", (refused + EXCESS) as f64);
        front.gateway.wait_metric("payfence_connections", &[], HANDSHAKES_MAX as f64 + 1.0);
        for _ in 0..50 {
            assert_eq!(served.ask(get("/x", &[])).status, 200, "an open session is served");
            assert_eq!(front.gateway.ask(get("/x", &[])).status, 200, "so is what is in the clear");
        }
        // The end of one is room for one.
        let mut held = held.into_iter();
        let ended: Vec<TcpStream> = held.by_ref().take(2).map(|client| client.stream).collect();
        drop(ended);
        front.wait_failures("closed", ((round - 1) * HANDSHAKES_MAX + 2) as f64);
        let mut new = front.connect();
        assert_eq!(new.ask(get("/x", &[])).status, 200, "a handshake in the room that was made");
        held.for_each(drop);
        front.wait_failures("closed", (round * HANDSHAKES_MAX) as f64);
        drop(new);
        front.gateway.wait_metric("payfence_connections", &[], 1.0);
    }
    let many: Vec<Client> = (0..100).map(|_| front.connect()).collect();
    wait_for("all that are new", || {
        (front.handshakes(&["result=\"ok\""]) + front.handshakes(&["result=\"resumed\""]) >= 103.0)
            .then_some(())
    });
    drop(many);
    assert_eq!(served.ask(get("/x", &[])).status, 200);
}
