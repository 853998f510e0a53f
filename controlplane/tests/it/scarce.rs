//! PostgreSQL that has no connection left, or does not come back with an answer.
//!
//! In: a database whose connections others hold, a table that somebody has locked. Out: 503 with `Retry-After` in time, and all well after it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

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
    while !is_locked() {
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
