//! PostgreSQL goes away and comes back, under requests over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::client::Client;
use super::place::Place;
use super::postgres::Cluster;
use crate::server::Server;
use crate::world::System;

const DEADLINE: Duration = Duration::from_secs(60);

/// Nothing that was answered with 201 is lost, and every answer is 201, or 503 or 429 with Retry-After; the outbox goes on.
pub fn a_database_that_goes_away_is_waited_for(cluster: &mut Cluster) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = {
        let _within = runtime.enter();
        Place::at(cluster.database(), None)
    };
    let owner = runtime.block_on(async {
        place.prepare().await;
        place.owner().await
    });
    let publisher = runtime.spawn(place.store.outbox().clone().publish());
    for is_crash in [true, false] {
        outage(cluster, &runtime, &owner, is_crash);
    }
    runtime.block_on(async {
        let head = async {
            let mut follower = place.store.outbox().follow(0);
            let mut customers = 0;
            let expected = count(&owner).await;
            while customers < expected {
                let entries = follower.next().await.unwrap();
                customers += entries.iter().filter(|entry| entry.kind == "customer").count();
            }
            assert_eq!(customers, expected, "an entry of the outbox stands for no customer");
        };
        tokio::time::timeout(DEADLINE, head).await.expect("the outbox goes on");
    });
    publisher.abort();
}

fn outage(
    cluster: &mut Cluster,
    runtime: &tokio::runtime::Runtime,
    owner: &Client,
    is_crash: bool,
) {
    let is_over = Arc::new(AtomicBool::new(false));
    let before = runtime.block_on(count(owner));
    let writers: Vec<_> =
        (0..4).map(|_| runtime.spawn(write(owner.clone(), is_over.clone()))).collect();
    let until = |what: u16| runtime.block_on(until_answered(owner, what));
    until(200);
    cluster.stop(is_crash);
    until(503);
    cluster.start_again();
    until(200);
    is_over.store(true, Ordering::Relaxed);
    let mut made = 0;
    for writer in writers {
        made += runtime.block_on(writer).unwrap();
    }
    let after = runtime.block_on(count(owner));
    assert!(made > 0 && after >= before + made, "{made} answered, {before} before, {after} after");
    // With a key sent again until it was answered, each was made once.
    assert_eq!(after, before + made);
}

/// Makes customers, each sent again with its key until it is answered with 201.
async fn write(owner: Client, is_over: Arc<AtomicBool>) -> usize {
    let mut made = 0;
    while !is_over.load(Ordering::Relaxed) {
        let key = crate::ids::new_id("once", &System);
        loop {
            let answer = owner.post_once("/v1/customers", &key, json!({})).await;
            match answer.status.as_u16() {
                201 => break,
                // Faster than one key may ask: told so, and nothing was done.
                503 | 429 => assert!(!answer.header("retry-after").is_empty(), "{answer:?}"),
                _ => panic!("{answer:?}"),
            }
        }
        made += 1;
    }
    made
}

async fn until_answered(owner: &Client, status: u16) {
    let wait = async {
        while owner.get("/v1/customers").await.status.as_u16() != status {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("no {status} came"));
}

async fn count(owner: &Client) -> usize {
    let (mut count, mut after) = (0, String::new());
    loop {
        let page = owner.get(&format!("/v1/customers?limit=100{after}")).await.expect(200);
        let data = page.json["data"].as_array().unwrap();
        count += data.len();
        match (page.json["has_more"].as_bool(), data.last()) {
            (Some(true), Some(last)) => {
                after = format!("&starting_after={}", last["id"].as_str().unwrap());
            }
            _ => return count,
        }
    }
}

/// The server over a socket: it answers, refuses an endless head, and drains when told to stop.
pub async fn a_server_answers_and_drains(place: Place) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start(place.config(), Arc::new(System)).await.unwrap();
    let address = server.address;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    let ask = async |request: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset after an answer is as good as its end.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let healthy = ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(healthy.starts_with("HTTP/1.1 200 OK"), "{healthy}");
    let mut endless = b"GET / HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    endless.resize(200_000, b'a');
    let refused = ask(&endless).await;
    assert!(!refused.starts_with("HTTP/1.1 2"), "{refused}");
    stop.send(()).unwrap();
    tokio::time::timeout(DEADLINE, running).await.expect("it drains").unwrap();
}
