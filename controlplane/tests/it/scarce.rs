//! PostgreSQL that has no connection left, or does not come back with an answer.
//!
//! In: a database whose connections others hold, a table that somebody has locked, connections whose other end is gone without a word. Out: 503
//! with `Retry-After` in time, and all well after it.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

use super::client::{Answer, Client};
use super::place::{Place, actor};
use super::postgres::Cluster;

/// Longer than any wait that a request is given.
const DEADLINE: Duration = Duration::from_secs(60);

/// Sends a request again with its key until it is answered with `status`.
async fn until_answered(owner: &Client, key: &str, status: u16) -> Answer {
    let wait = async {
        loop {
            let answer = owner.post_once("/v1/customers", key, json!({})).await;
            match answer.status.as_u16() {
                got if got == status => return answer,
                201 | 503 => tokio::task::yield_now().await,
                _ => panic!("{answer:?}"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("no {status} came"))
}

async fn customers(owner: &Client) -> usize {
    let page = owner.get("/v1/customers?limit=100").await.expect(200);
    page.json["data"].as_array().unwrap().len()
}

/// Others hold every connection that the server has.
pub fn a_database_without_connections_is_waited_for() {
    let mut cluster = Cluster::start_with(&["fsync=off", "max_connections=12"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (place, others) = {
        let _within = runtime.enter();
        let place = Place::at(cluster.database(), None);
        let others = [place.another_store(), place.another_store()];
        (place, others)
    };
    runtime.block_on(async {
        place.prepare().await;
        let owner = place.owner().await;
        until_answered(&owner, "before", 201).await;
        // Its own pool is empty, as after a night without requests.
        let key = owner.key.clone();
        let (url, keyring) = (place.url.clone(), place.keyring.clone());
        place.store.clone().close().await;
        let mut held = Vec::new();
        'all: for other in &others {
            for _ in 0..8 {
                match other.change("acct_held", actor()).await {
                    Ok(change) => held.push(change),
                    Err(_) => break 'all,
                }
            }
        }
        assert!(held.len() > 5, "{} are held", held.len());
        let mut place = Place::at(url, None);
        place.keyring = keyring;
        let owner = Client::new(place.router(), key);
        let refused = until_answered(&owner, "during", 503).await;
        assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
        let read = owner.get("/v1/customers").await.expect(503);
        assert!(!read.header("retry-after").is_empty(), "{read:?}");
        drop(held);
        for other in others {
            other.close().await;
        }
        until_answered(&owner, "during", 201).await;
        assert_eq!(customers(&owner).await, 2);
    });
    cluster.stop(false);
}

/// Somebody has locked a table and does not let go: a request for it ends all the same, others go on, and it is done once after it.
pub fn a_database_that_does_not_answer_is_waited_for(cluster: &Cluster) {
    let (name, url) = cluster.named_database();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = {
        let _within = runtime.enter();
        Place::at(url, None)
    };
    let owner = runtime.block_on(async {
        place.prepare().await;
        place.owner().await
    });
    let lock = "BEGIN; LOCK TABLE customers IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3600)";
    let mut locker = cluster
        .psql(&name)
        .args(["-c", lock])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Once the lock is held, another one is refused at once.
    let is_locked =
        || !cluster.run(&name, "BEGIN; LOCK TABLE customers IN ACCESS SHARE MODE NOWAIT; COMMIT");
    let began = tokio::time::Instant::now();
    while !is_locked() {
        assert!(began.elapsed() < DEADLINE, "the lock is not had");
        assert!(locker.try_wait().unwrap().is_none(), "psql ended");
        std::thread::yield_now();
    }
    runtime.block_on(async {
        let refused = until_answered(&owner, "slow", 503).await;
        assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
        owner.get("/v1/sites").await.expect(200);
    });
    // The session goes with its server process; psql alone would leave it asleep.
    assert!(cluster.run(
        &name,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' AND pid <> pg_backend_pid()"
    ));
    let _ = locker.wait();
    runtime.block_on(async {
        until_answered(&owner, "slow", 201).await;
        assert_eq!(customers(&owner).await, 1);
    });
}

/// The way to a database. Once it sees the trap's text go by, it loses that and whatever else is on the way on the connections that there are,
/// which stay open all the same; later ones are well.
#[derive(Clone)]
struct Way {
    trap: Arc<Mutex<Option<&'static [u8]>>>,
    /// How often it was sprung.
    sprung: Arc<watch::Sender<u32>>,
}

impl Way {
    /// Leads to the socket; the port to connect to.
    async fn to(socket: PathBuf) -> (Self, u16) {
        let way = Self { trap: Arc::default(), sprung: Arc::new(watch::Sender::new(0)) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let leading = way.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Ok(server) = UnixStream::connect(&socket).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(leading.clone().carry(from_client, to_server, true));
                tokio::spawn(leading.clone().carry(from_server, to_client, false));
            }
        });
        (way, port)
    }

    async fn carry<R, W>(self, mut from: R, mut to: W, is_question: bool)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut sprung = self.sprung.subscribe();
        let mut piece = [0; 8192];
        loop {
            let read = tokio::select! {
                biased;
                _ = sprung.changed() => return std::future::pending().await,
                read = from.read(&mut piece) => read,
            };
            let Ok(length @ 1..) = read else { return };
            if is_question && self.springs(&piece[..length]) {
                self.sprung.send_modify(|count| *count += 1);
                return std::future::pending().await;
            }
            if to.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
    }

    fn springs(&self, piece: &[u8]) -> bool {
        let mut trap = self.trap.lock();
        let is_sprung =
            trap.is_some_and(|text| piece.windows(text.len()).any(|window| window == text));
        if is_sprung {
            *trap = None;
        }
        is_sprung
    }
}

/// The publisher's connection is lost in the middle of numbering, with the lock that all publishers need, and so are all others: as when the
/// machine between has lost power. What was answered is told to followers all the same, before anybody's patience of hours is over.
pub fn connections_that_lead_nowhere_are_given_up(cluster: &Cluster) {
    let (name, url) = cluster.named_database();
    let folder = url.split_once("host=").unwrap().1;
    let socket = PathBuf::from(folder).join(".s.PGSQL.5432");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (way, port) = Way::to(socket).await;
        let place = Place::at(format!("postgres://payfence@127.0.0.1:{port}/{name}"), None);
        place.prepare().await;
        let owner = place.owner().await;
        let publisher = tokio::spawn(place.store.outbox().clone().publish());
        let mut follower = place.store.outbox().follow(0);
        let mut customers = async |expected: usize| {
            let mut seen = 0;
            let follow = async {
                while seen < expected {
                    // While nobody answers it says so, and keeps its place.
                    if let Ok(entries) = follower.next().await {
                        seen += entries.iter().filter(|entry| entry.kind == "customer").count();
                    }
                }
            };
            let followed = tokio::time::timeout(2 * DEADLINE, follow).await;
            followed.unwrap_or_else(|_| panic!("{seen} of {expected} customers"));
        };
        until_answered(&owner, "before", 201).await;
        customers(1).await;
        *way.trap.lock() = Some(b"UPDATE outbox SET sequence");
        until_answered(&owner, "during", 201).await;
        let mut sprung = way.sprung.subscribe();
        let is_lost = tokio::time::timeout(DEADLINE, sprung.wait_for(|count| *count == 1)).await;
        is_lost.expect("nobody numbers anything").unwrap();
        until_answered(&owner, "after", 201).await;
        customers(2).await;
        publisher.abort();
    });
}
