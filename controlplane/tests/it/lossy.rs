//! Nodes whose way to the control plane loses, cuts and holds up what goes over it, by real sockets.
//!
//! In: a proxy that rolls dice over every piece, two nodes that use whatever they are leased and send each request once. Out: every unit
//! used, none twice; every change in force on both.
//! Always holds: a run is by its seed, but for the timing of pieces.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use policy::budget::message::LeaseRequest;
use policy::budget::{Calendar, Overage, Period, Terms, Unit};
use policy::ids::entitlement_id;
use serde_json::json;
use tempfile::tempdir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::place::Place;
use super::quota;
use super::samples;
use super::sync_node::{Node, Serving, issue, until};
use crate::world::{System, World as _};

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const LIMIT: u64 = 2_000;
/// Cuts that a run must have had.
const CUTS_MIN: usize = 20;

/// What the proxy does to whatever comes by.
#[derive(Clone)]
struct Dice {
    state: Arc<Mutex<u64>>,
    cuts: Arc<AtomicUsize>,
    /// Once it is over, everything goes through.
    is_calm: watch::Receiver<bool>,
}

impl Dice {
    /// A number below this one (xorshift64).
    fn roll(&self, sides: u64) -> u64 {
        let mut state = self.state.lock();
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % sides
    }

    /// Carries one way; ends where the dice cut it.
    async fn carry<R, W>(&self, mut from: R, mut to: W)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut piece = [0; 2_048];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let is_calm = *self.is_calm.borrow();
            let (sent, is_cut) = match self.roll(24) {
                _ if is_calm => (length, false),
                // Nothing of it comes, or a part, or all of it and then nothing more.
                0 => (0, true),
                1 => (length / 2, true),
                2 => (length, true),
                // It takes its time.
                3 | 4 => {
                    let held = Duration::from_millis(20 + self.roll(200));
                    let _ = tokio::time::timeout(held, std::future::pending::<()>()).await;
                    (length, false)
                }
                _ => (length, false),
            };
            if to.write_all(&piece[..sent]).await.is_err() {
                return;
            }
            if is_cut {
                self.cuts.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }

    /// A way to an address; both directions of a connection end together.
    async fn way_to(self, server: SocketAddr) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let dice = self.clone();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::select! {
                        () = dice.carry(from_client, to_server) => {}
                        () = dice.carry(from_server, to_client) => {}
                    }
                });
            }
        });
        url
    }
}

fn asked(granted: u64, stamp_us: u64) -> LeaseRequest {
    let now_s = System.now_ms() / 1_000;
    let calendar = Calendar { unit: Unit::Month, anchor_s: Some(now_s - now_s % 86_400) };
    let terms = Terms {
        version: 1,
        limit: Some(LIMIT),
        overage: Overage::Deny,
        calendar,
        rate: None,
        concurrency: None,
    };
    let id = entitlement_id("walked", "lossy");
    let report = quota::request(id, Period::first(&calendar, now_s), terms, granted, stamp_us);
    LeaseRequest { need: 1, demand: 100, ..report }
}

/// Uses whatever is leased; sends each request once, and leaves it to the link to have it answered. Its last word: what it used.
async fn use_all(node: &Node, all: &Mutex<[u64; 2]>, own: usize) {
    let (mut granted, mut stamp_us) = (0, 0);
    while all.lock().iter().sum::<u64>() < LIMIT {
        stamp_us += 1;
        node.ledger.send(asked(granted, stamp_us)).await.unwrap();
        let more = until(async || {
            let newest = node.replies.lock().iter().map(|reply| reply.granted).max();
            let newest = newest.unwrap_or_default();
            all.lock()[own] = newest;
            newest > granted || all.lock().iter().sum::<u64>() >= LIMIT
        });
        assert!(more.await, "seed {SEED}: a request is not answered; {granted} so far");
        granted = all.lock()[own];
        assert!(
            all.lock().iter().sum::<u64>() <= LIMIT,
            "seed {SEED}: {:?} of {LIMIT}",
            all.lock()
        );
    }
    node.ledger
        .send(LeaseRequest { need: 0, demand: 0, ..asked(granted, stamp_us + 1) })
        .await
        .unwrap();
}

pub async fn every_unit_is_used_once_over_a_bad_way(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let serving = Serving::start(&place).await;
    let server = serving.url.trim_start_matches("http://").parse().unwrap();
    let (calm, is_calm) = watch::channel(false);
    let dice = Dice { state: Arc::new(Mutex::new(SEED)), cuts: Arc::default(), is_calm };
    let url = dice.clone().way_to(server).await;
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let mut nodes = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        let issued = issue(&owner, &place, &format!("n{number}")).await;
        nodes.push(Node::start(&[&url], &issued.token, 1, folder.path()));
    }
    let all = Mutex::new([0; 2]);
    let mut tokens = Vec::new();
    let changes = async {
        while dice.cuts.load(Ordering::Relaxed) < CUTS_MIN {
            let token = json!({ "subscription_id": ids["subscription_id"] });
            let made = owner.post("/v1/tokens", token).await.expect(201);
            tokens.push(made.json["secret"].as_str().unwrap().to_owned());
            let newest = tokens.last().unwrap();
            let in_force = until(async || nodes.iter().all(|node| node.token(newest).is_some()));
            assert!(in_force.await, "seed {SEED}: a token does not come");
        }
    };
    tokio::join!(use_all(&nodes[0], &all, 0), use_all(&nodes[1], &all, 1), changes);
    calm.send_replace(true);
    let id = asked(0, 0).id.0;
    let settled = until(async || {
        let account = place.store.ledger_account(id).await.unwrap().unwrap();
        account.books.iter().map(|books| books.used()).sum::<u64>() == LIMIT
    });
    assert!(settled.await, "seed {SEED}: not all that was used was told");
    for node in nodes {
        assert!(tokens.iter().all(|token| node.token(token) == Some(false)));
        assert_eq!(node.status().rejected, 0);
        node.stop().await;
    }
    serving.stop().await;
}
