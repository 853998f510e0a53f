//! Control planes that are killed in the middle of whatever they do, while others write and a node follows.
//!
//! In: writers that send each request again with its key until it is answered, kills. Out: every change once, in order, on the node as well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::json;
use tempfile::tempdir;
use tokio::runtime::{Handle, Runtime};

use super::client::Client;
use super::place::Place;
use super::samples;
use super::sync_node::{Node, issue, until};
use crate::api::{self, ApiSettings, App};
use crate::ids::new_id;
use crate::server::{Config, Server};
use crate::world::System;

const KILLS: usize = 6;
/// Answers between a kill and what comes next.
const ANSWERS: usize = 25;

/// A control plane with a runtime of its own, which ends as a process does that is killed: whatever it awaits never comes, its sockets close.
struct Plane {
    runtime: Runtime,
    address: SocketAddr,
    client: Client,
}

impl Plane {
    fn start(place: &Place, key: &str, listen: SocketAddr) -> Self {
        let runtime = Runtime::new().unwrap();
        let (address, client) = runtime.block_on(async {
            let mut started = None;
            // The one that was killed may hold the address a moment longer.
            let begins = until(async || {
                let config = Config { listen, ..place.config() };
                started = Server::start(config, Arc::new(System)).await.ok();
                started.is_some()
            });
            assert!(begins.await, "no control plane on {listen}");
            let server = started.unwrap();
            let settings = ApiSettings::default();
            let app = App::new(server.store().clone(), place.keyring.clone(), settings);
            let client = Client::new(api::router(app), key.to_owned());
            let address = server.address;
            tokio::spawn(server.run(std::future::pending()));
            (address, client)
        });
        Self { runtime, address, client }
    }
}

/// What writers share.
struct Shared {
    planes: Mutex<Vec<(Handle, Client)>>,
    is_over: AtomicBool,
    made: AtomicUsize,
    secrets: Mutex<Vec<String>>,
}

/// Issues tokens, each sent again with its key, to one control plane after another, until it is answered with 201.
async fn write(shared: Arc<Shared>, mut turn: usize, subscription: String) {
    while !shared.is_over.load(Ordering::Relaxed) {
        let key = new_id("once", &System);
        loop {
            turn += 1;
            let (handle, client) = {
                let planes = shared.planes.lock();
                planes[turn % planes.len()].clone()
            };
            let (key, body) = (key.clone(), json!({ "subscription_id": subscription }));
            let sent =
                handle.spawn(async move { client.post_once("/v1/tokens", &key, body).await });
            // Killed, it does not answer.
            let Ok(answer) = sent.await else {
                tokio::task::yield_now().await;
                continue;
            };
            match answer.status.as_u16() {
                201 => {
                    let secret = answer.json["secret"].as_str().map(str::to_owned);
                    shared.secrets.lock().extend(secret);
                    break;
                }
                503 | 429 => assert!(!answer.header("retry-after").is_empty(), "{answer:?}"),
                _ => panic!("{answer:?}"),
            }
        }
        shared.made.fetch_add(1, Ordering::Relaxed);
    }
}

/// As many control planes as the database can have.
pub fn no_change_is_lost_or_made_twice(at: impl Fn() -> Place) {
    let runtime = Runtime::new().unwrap();
    let place = {
        let _within = runtime.enter();
        at()
    };
    let (owner, ids) = runtime.block_on(async {
        place.prepare().await;
        let owner = place.owner().await;
        let ids = samples::make(&owner).await;
        (owner, ids)
    });
    let count = if place.store.is_shared() { 2 } else { 1 };
    let any = "127.0.0.1:0".parse().unwrap();
    let mut planes: Vec<Plane> =
        (0..count).map(|_| Plane::start(&place, &owner.key, any)).collect();
    let handles = |planes: &[Plane]| -> Vec<(Handle, Client)> {
        planes.iter().map(|plane| (plane.runtime.handle().clone(), plane.client.clone())).collect()
    };
    let urls: Vec<String> =
        planes.iter().map(|plane| format!("http://{}", plane.address)).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let folder = tempdir().unwrap();
    let issued = runtime.block_on(issue(&owner, &place, "n1"));
    let node = Node::start(&urls, &issued.token, 1, folder.path());
    runtime.block_on(node.wait("a stream", |node| node.status().connected.is_some()));

    let shared = Arc::new(Shared {
        planes: Mutex::new(handles(&planes)),
        is_over: AtomicBool::new(false),
        made: AtomicUsize::new(0),
        secrets: Mutex::default(),
    });
    let writers: Vec<_> = (0..4)
        .map(|turn| runtime.spawn(write(shared.clone(), turn, ids["subscription_id"].clone())))
        .collect();
    let wait_for_more = |more: usize| {
        let from = shared.made.load(Ordering::Relaxed);
        let came = until(async || shared.made.load(Ordering::Relaxed) >= from + more);
        assert!(runtime.block_on(came), "writers stand still at {from}");
    };
    for kill in 0..KILLS {
        wait_for_more(ANSWERS);
        let killed = planes.remove(kill % count);
        let listen = killed.address;
        killed.runtime.shutdown_background();
        if count > 1 {
            // The other one alone.
            wait_for_more(ANSWERS);
        }
        planes.insert(kill % count, Plane::start(&place, &owner.key, listen));
        *shared.planes.lock() = handles(&planes);
    }
    wait_for_more(ANSWERS);
    shared.is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        runtime.block_on(writer).unwrap();
    }
    let made = shared.made.load(Ordering::Relaxed);
    runtime.block_on(check(&place, &owner, &node, made, &shared.secrets.lock()));
    runtime.block_on(node.stop());
    for plane in planes {
        plane.runtime.shutdown_background();
    }
}

async fn check(place: &Place, owner: &Client, node: &Node, made: usize, secrets: &[String]) {
    // Beside them the one of the samples.
    let mut entries = Vec::new();
    let all = until(async || {
        place.store.outbox().publish_once().await.unwrap();
        entries.clear();
        loop {
            let after =
                entries.last().map_or(0, |entry: &crate::storage::OutboxEntry| entry.sequence);
            let more = place.store.outbox().read_after(after).await.unwrap();
            if more.is_empty() {
                break;
            }
            entries.extend(more);
        }
        let is_made = |entry: &&crate::storage::OutboxEntry| {
            entry.kind == "token" && entry.operation == "insert"
        };
        entries.iter().filter(is_made).count() > made
    });
    assert!(all.await, "changes are missing");
    for (entry, expected) in entries.iter().zip(1..) {
        assert_eq!(entry.sequence, expected, "a gap, or a number twice");
    }
    let inserted: Vec<&String> = entries
        .iter()
        .filter(|entry| entry.kind == "token" && entry.operation == "insert")
        .map(|entry| &entry.row_id)
        .collect();
    let distinct: std::collections::BTreeSet<_> = inserted.iter().collect();
    assert_eq!((inserted.len(), distinct.len()), (made + 1, made + 1));
    let (mut count, mut after) = (0, String::new());
    loop {
        let page = owner.get(&format!("/v1/tokens?limit=100{after}")).await.expect(200);
        let data = page.json["data"].as_array().unwrap();
        count += data.len();
        let (true, Some(last)) = (page.json["has_more"] == true, data.last()) else { break };
        after = format!("&starting_after={}", last["id"].as_str().unwrap());
    }
    assert_eq!(count, made + 1, "answered and made differ");
    let head = entries.last().unwrap().sequence.unsigned_abs();
    node.wait("all changes", |node| node.status().sequence == head).await;
    assert!(!secrets.is_empty());
    for secret in secrets {
        assert_eq!(node.token(secret), Some(false), "a token that was answered is not on the node");
    }
    let status = node.status();
    assert_eq!((status.rejected, status.alarm), (0, None));
}
