//! PostgreSQL behind a way on which nothing comes through any more, though every connection stays open, as behind a machine that lost power.
//!
//! In: everything that control planes ask of their own accord. Out: each gives up in time; once the way is free again all is well, and
//! nothing of what was given up is left on the database.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

use super::place::{Place, actor};
use super::postgres::Cluster;
use super::sync_node::until;
use crate::api::ApiSettings;
use crate::storage::StorageResult;

/// Longer than any one of them may take, and shorter than TCP waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// Shorter than PostgreSQL lets an idle transaction live.
const RETURNED: Duration = Duration::from_secs(20);

/// Carries bytes while the way is free.
async fn carry<R, W>(mut from: R, mut to: W, mut is_free: watch::Receiver<bool>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut piece = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let _ = is_free.wait_for(|is_free| *is_free).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

/// A port that leads to the socket, and what closes the way.
async fn way_to(socket: PathBuf) -> (u16, watch::Sender<bool>) {
    let (free, is_free) = watch::channel(true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let Ok(server) = UnixStream::connect(&socket).await else { continue };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(carry(from_client, to_server, is_free.clone()));
            tokio::spawn(carry(from_server, to_client, is_free.clone()));
        }
    });
    (port, free)
}

type Asked<'a> = (&'static str, Pin<Box<dyn Future<Output = StorageResult<()>> + 'a>>);

/// What is asked by tasks of their own accord.
fn all(place: &Place) -> Vec<Asked<'_>> {
    macro_rules! asked {
        ($($name:literal: $call:expr),* $(,)?) => {
            vec![$(($name, Box::pin(async { $call.await.map(drop) }) as Pin<Box<_>>),)*]
        };
    }
    let store = &place.store;
    asked![
        "the publisher": store.outbox().publish_once(),
        "a follower": store.outbox().read_after(0),
        "the base": store.policy_reader(),
        "the undertaker, looking": store.unburied(),
        "the undertaker": store.declare_dead(1),
        "the ledger": store.take_requests(1, 1, &[]),
        "mail": store.take_mail(&[1]),
        "pruning": store.prune(1),
        "pruning of notifications": store.prune_notifications(),
        "a change": store.change("acct_x", actor()),
        "migrations": store.migrate(),
        "health": store.ping(),
    ]
}

pub fn whatever_asks_gives_up(cluster: &Cluster) {
    let (name, url) = cluster.named_database();
    let folder = url.split_once("host=").unwrap().1;
    let socket = PathBuf::from(folder).join(".s.PGSQL.5432");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let direct = Place::at(url.clone(), None);
        let (port, free) = way_to(socket).await;
        let place = Place::at(format!("postgres://payfence@127.0.0.1:{port}/{name}"), None);
        place.prepare().await;
        let owner = place.owner().await;
        let calm = super::client::Client::new(
            place.router_with(ApiSettings::default()),
            owner.key.clone(),
        );
        // In the middle of a transaction, as a base is that is being compiled.
        let reader = place.store.policy_reader().await.unwrap();
        reader.sequence().await.unwrap();
        free.send_replace(false);
        let compiling = tokio::time::timeout(PATIENCE, reader.sites()).await;
        assert!(compiling.expect("the base waits for ever").is_err());
        drop(reader);
        for (what, call) in all(&place) {
            let outcome = tokio::time::timeout(PATIENCE, call).await;
            assert!(outcome.unwrap_or_else(|_| panic!("{what} waits for ever")).is_err(), "{what}");
        }
        let refused = tokio::time::timeout(PATIENCE, calm.get("/v1/sites")).await;
        refused.expect("a request waits for ever").expect(503);
        free.send_replace(true);
        let sql = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() \
                   AND state LIKE 'idle in transaction%'";
        let none_open = until(async || direct.store.raw_number(sql).await == 0);
        tokio::time::timeout(RETURNED, none_open).await.expect("a transaction was left open");
        let is_well = until(async || place.store.ping().await.is_ok()).await;
        assert!(is_well, "it does not recover");
        calm.get("/v1/sites").await.expect(200);
        calm.post("/v1/customers", serde_json::json!({})).await.expect(201);
    });
}
