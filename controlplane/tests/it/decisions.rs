//! Decisions that nodes ship: each counted once, whatever happens on the way; kept as long as is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use link::control::{ControlConfig, Pace};
use link::ship::{Export, Limits, Shipper};
use link::sink::control::ControlSink;
use link::wire::decisions::BODY_BYTES_MAX;
use link::wire::{Decisions, NodeToken, Positions};
use policy::budget::{Calendar, Period, Unit};
use policy::ids::entitlement_id;
use serde_json::json;
use tempfile::tempdir;

use super::client::Client;
use super::decision_rows::{Blocks, Sample, batch, now_us, sample};
use super::place::Place;
use super::quota;
use super::sync_node::{Issued, issue};
use crate::storage::{ReadDecisions, Retention, Store};
use crate::sync::Sync;

async fn site(owner: &Client, slug: &str) -> String {
    let site = json!({ "slug": slug, "origin": "https://api.example.com" });
    owner.post("/v1/sites", site).await.expect(201).id()
}

async fn take(store: &Store, node: &Issued, decisions: &Decisions, kept: &Retention) -> u64 {
    let rows = ReadDecisions::of(decisions).unwrap();
    let taken = store.take_decisions(node.key, &rows, kept).await.unwrap();
    taken.positions.iter().map(|position| position.next).max().unwrap()
}

/// Rows, requests by minute and by day, units by minute and by day.
async fn sums(store: &Store) -> [i64; 5] {
    [
        store.raw_number("SELECT COUNT(*) AS n FROM decisions").await,
        store
            .raw_number("SELECT CAST(COALESCE(SUM(requests), 0) AS BIGINT) AS n FROM usage_minutes")
            .await,
        store
            .raw_number("SELECT CAST(COALESCE(SUM(requests), 0) AS BIGINT) AS n FROM usage_days")
            .await,
        store
            .raw_number("SELECT CAST(COALESCE(SUM(charge), 0) AS BIGINT) AS n FROM usage_minutes")
            .await,
        store
            .raw_number("SELECT CAST(COALESCE(SUM(charge), 0) AS BIGINT) AS n FROM usage_days")
            .await,
    ]
}

/// What [`sums`] has to be for these.
fn expected(samples: &[Sample]) -> [i64; 5] {
    let rows = samples.len() as i64;
    let charge = samples.iter().map(|sample| sample.charge.cast_signed()).sum();
    [rows, rows, rows, charge, charge]
}

pub async fn a_batch_counts_once(place: Place) {
    let owner = place.owner().await;
    site(&owner, "shop").await;
    let node = issue(&owner, &place, "n1").await;
    let kept = Retention::default();
    let all: Vec<Sample> = (0..500).map(|number| sample("shop", number)).collect();
    // From, to, and where the stream is then: again, overlapping, from before, with a hole.
    let steps = [
        (0, 100, 100),
        (0, 100, 100),
        (50, 150, 150),
        (0, 10, 150),
        (140, 300, 300),
        (320, 400, 400),
        (300, 320, 400),
        (390, 500, 500),
    ];
    for (from, to, next) in steps {
        let decisions = batch(9, 3, from as u64, &all[from..to]);
        assert_eq!(take(&place.store, &node, &decisions, &kept).await, next, "{from}..{to}");
    }
    let counted = [&all[..300], &all[320..]].concat();
    assert_eq!(sums(&place.store).await, expected(&counted));
    // By whom and why, as a plain map says it.
    let mut cells: BTreeMap<(String, i64), i64> = BTreeMap::new();
    for sample in &counted {
        *cells.entry((sample.token.clone(), sample.reason as i64)).or_default() += 1;
    }
    for ((token, reason), requests) in cells {
        for table in ["usage_minutes", "usage_days"] {
            let sql = format!(
                "SELECT CAST(SUM(u.requests) AS BIGINT) AS n FROM {table} u JOIN usage_keys k ON k.site_key = u.site_key AND k.id = u.key_id \
                 WHERE k.token = '{token}' AND u.reason = {reason} AND u.period = 7"
            );
            assert_eq!(place.store.raw_number(&sql).await, requests, "{token} {reason} {table}");
        }
    }
    let took: i64 = counted.iter().filter(|sample| sample.total_us <= 1_000).count() as i64;
    let sql = "SELECT CAST(SUM(took_0) AS BIGINT) AS n FROM usage_days";
    assert_eq!(place.store.raw_number(sql).await, took);
    let known = place.store.decision_positions(node.key, 9).await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].shard, known[0].next), (3, 500));
}

pub async fn two_control_planes_take_at_once(place: Place) {
    let owner = place.owner().await;
    site(&owner, "shop").await;
    let nodes = [issue(&owner, &place, "n1").await, issue(&owner, &place, "n2").await];
    let stores = [place.store.clone(), place.another_store()];
    let all: Vec<Sample> = (0..400).map(|number| sample("shop", number)).collect();
    let kept = Retention::default();
    let mut tasks = Vec::new();
    // Both nodes have a stream of the same name; each batch goes to both control planes at the same time.
    for node in nodes {
        let node = Arc::new(node);
        for store in stores.clone() {
            let (node, all) = (Arc::clone(&node), all.clone());
            tasks.push(tokio::spawn(async move {
                for from in (0..all.len()).step_by(40) {
                    let decisions = batch(1, 0, from as u64, &all[from..from + 40]);
                    // A lock that is held too long is a passing failure, after which a node sends again.
                    let rows = ReadDecisions::of(&decisions).unwrap();
                    let mut tries = 0;
                    while let Err(error) = store.take_decisions(node.key, &rows, &kept).await {
                        tries += 1;
                        assert!(tries < 1_000, "a batch is not taken: {error}");
                    }
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let twice = [all.as_slice(), all.as_slice()].concat();
    assert_eq!(sums(&place.store).await, expected(&twice));
}

/// Somebody's request waits for a lease, nobody's for a row.
pub async fn leases_do_not_wait_for_many_rows(place: Place) {
    const ROWS: usize = 10_000;
    let owner = place.owner().await;
    site(&owner, "shop").await;
    let all: Arc<Vec<Sample>> = Arc::new((0..ROWS as u64).map(|n| sample("shop", n)).collect());
    let (kept, busy) = (Retention::default(), Arc::new(AtomicU64::new(0)));
    let decisions = Arc::new(batch(1, 0, 0, &all));
    let mut tasks = Vec::new();
    // As many batches at once as a control plane takes.
    for name in ["n1", "n2"] {
        let node = issue(&owner, &place, name).await;
        let (store, busy) = (place.store.clone(), Arc::clone(&busy));
        let decisions = Arc::clone(&decisions);
        busy.fetch_add(1, Ordering::Relaxed);
        tasks.push(tokio::spawn(async move {
            let end = take(&store, &node, &decisions, &kept).await;
            busy.fetch_sub(1, Ordering::Relaxed);
            end
        }));
    }
    let now_s = now_us() / 1_000_000;
    let calendar = Calendar { unit: Unit::Month, anchor_s: Some(now_s - now_s % 86_400) };
    let (terms, period) = (quota::terms(1, None, calendar), Period::first(&calendar, now_s));
    let id = entitlement_id("shop", "asks");
    let mut leased = 0;
    loop {
        let request = quota::request(id, period, terms, 0, leased + 1);
        place.store.take_requests(1, 1, &[request]).await.unwrap();
        if busy.load(Ordering::Relaxed) < 2 {
            break;
        }
        leased += 1;
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), ROWS as u64);
    }
    assert!(leased >= 5, "{leased} requests for leases were answered meanwhile");
    let twice = [all.as_slice(), all.as_slice()].concat();
    assert_eq!(sums(&place.store).await, expected(&twice));
}

/// A control plane whose answers are lost now and then, and which is away now and then.
struct Lossy {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

async fn lossy(place: &Place, store: Store, kept: Retention, seed: u64) -> Lossy {
    let sync = Sync::new(store, place.keyring.clone(), std::env::temp_dir(), kept);
    let count = Arc::new(AtomicU64::new(seed));
    let router = sync.router().layer(from_fn(move |request: Request, next: Next| {
        let turn = count.fetch_add(1, Ordering::Relaxed) % 5;
        async move {
            if turn == 1 {
                return StatusCode::BAD_GATEWAY.into_response();
            }
            let answer: Response = next.run(request).await;
            // Taken, and nobody hears of it.
            if turn == 3 { StatusCode::GATEWAY_TIMEOUT.into_response() } else { answer }
        }
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Lossy { url, task }
}

fn sink(urls: &[&str], token: &NodeToken, folder: &std::path::Path) -> ControlSink {
    let token_file = folder.join("token");
    std::fs::write(&token_file, token.reveal()).unwrap();
    ControlSink::new(ControlConfig {
        urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
        token_file,
        ca_file: None,
        folder: folder.to_owned(),
        epoch: 1,
        version: "test".to_owned(),
        pace: Pace::default(),
    })
    .unwrap()
}

pub async fn lost_answers_lose_and_double_nothing(place: Place) {
    let owner = place.owner().await;
    site(&owner, "shop").await;
    site(&owner, "other").await;
    let node = issue(&owner, &place, "n1").await;
    let kept = Retention::default();
    let planes = [
        lossy(&place, place.store.clone(), kept, 0).await,
        lossy(&place, place.another_store(), kept, 2).await,
    ];
    let (mut blocks, mut all) = (Blocks::default(), Vec::new());
    let mut seqs: BTreeMap<(u64, u16), u64> = BTreeMap::new();
    for block in 0..60_u64 {
        let stream = (block / 30, (block % 3) as u16);
        let seq = seqs.entry(stream).or_default();
        let slug = if block % 4 == 0 { "other" } else { "shop" };
        let samples: Vec<Sample> = (0..17).map(|at| sample(slug, block * 17 + at)).collect();
        // Some numbers are missing, as where a spool was at its cap.
        *seq += block % 2;
        blocks.all.push((stream.0, stream.1, *seq, samples.clone()));
        *seq += 17;
        all.extend(samples);
    }
    let folder = tempdir().unwrap();
    let urls: Vec<&str> = planes.iter().map(|plane| plane.url.as_str()).collect();
    let limits = Limits {
        rows_max: 40,
        age_max: Duration::from_millis(5),
        poll_interval: Duration::from_millis(1),
        retry_first: Duration::from_millis(1),
        retry_longest: Duration::from_millis(5),
        ..ControlSink::limits()
    };
    // The second time the position on disk is lost: all of it is looked up, and nothing sent again.
    for round in 0..2 {
        let sink = sink(&urls, &node.token, folder.path());
        let export = Export::new("control", limits, sink, blocks.clone());
        let data = folder.path().join(round.to_string());
        let shipper = Shipper::start(&data, "n1", vec![export]).unwrap();
        let flush = tokio::task::spawn_blocking(|| shipper.flush(Duration::from_secs(60)));
        assert!(flush.await.unwrap(), "not all of it arrived");
        assert_eq!(sums(&place.store).await, expected(&all), "round {round}");
    }
    planes.into_iter().for_each(|plane| plane.task.abort());
}

/// A request to the routes of nodes: its status and body.
async fn post(place: &Place, token: Option<&str>, body: Vec<u8>) -> (u16, Vec<u8>) {
    let sync = Sync::new(
        place.store.clone(),
        place.keyring.clone(),
        std::env::temp_dir(),
        Retention::default(),
    );
    let mut request = http::Request::post(link::wire::DECISIONS_PATH)
        .header(link::wire::PROTOCOL_HEADER, link::wire::PROTOCOL.to_string());
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(axum::body::Body::from(body)).unwrap();
    let response = tower::ServiceExt::oneshot(sync.router(), request).await.unwrap();
    let status = response.status().as_u16();
    (status, axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
}

pub async fn a_node_speaks_for_itself(place: Place) {
    let owner = place.owner().await;
    site(&owner, "shop").await;
    let (one, two) = (issue(&owner, &place, "n1").await, issue(&owner, &place, "n2").await);
    let all: Vec<Sample> = (0..20).map(|number| sample("shop", number)).collect();
    let body = batch(5, 0, 0, &all).encode().unwrap();
    let open = Sample { is_ended: false, ..all[0].clone() };
    let mut cut = body.clone();
    cut.truncate(body.len() - 1);
    let mut flipped = body.clone();
    flipped[20] ^= 1;
    let mut foreign = batch(5, 0, 0, &all);
    foreign.runs[0].rows += 1;
    let unknown = NodeToken::make(getrandom::fill).unwrap();
    let refused: [(&str, Option<&str>, Vec<u8>, u16); 8] = [
        ("no token", None, body.clone(), 401),
        ("an unknown token", Some(unknown.reveal()), body.clone(), 401),
        ("nothing", Some(one.token.reveal()), Vec::new(), 400),
        ("a cut body", Some(one.token.reveal()), cut, 400),
        ("a changed body", Some(one.token.reveal()), flipped, 400),
        ("an open row", Some(one.token.reveal()), batch(5, 0, 0, &[open]).encode().unwrap(), 400),
        ("rows that are not there", Some(one.token.reveal()), foreign.encode().unwrap(), 400),
        ("too much", Some(one.token.reveal()), vec![0; BODY_BYTES_MAX + 100], 413),
    ];
    for (what, token, body, status) in refused {
        let (answered, text) = post(&place, token, body).await;
        assert_eq!(answered, status, "{what}");
        assert!(link::wire::Refusal::decode(&text).is_ok(), "{what}: no words of ours");
    }
    assert_eq!(sums(&place.store).await, [0; 5]);
    for (node, total) in [(&one, 1), (&two, 2), (&one, 2)] {
        let (status, answer) = post(&place, Some(node.token.reveal()), body.clone()).await;
        assert_eq!(status, 200);
        assert_eq!(Positions::decode(&answer).unwrap().positions[0].next, 20);
        assert_eq!(sums(&place.store).await[1], 20 * total, "one node's rows are not another's");
    }
    owner.delete(&format!("/v1/nodes/{}/tokens/{}", two.id, two.token_id)).await.expect(200);
    assert_eq!(post(&place, Some(two.token.reveal()), body).await.0, 401);
}

pub async fn rows_go_to_the_site_that_had_the_slug(place: Place) {
    let owner = place.owner().await;
    let node = issue(&owner, &place, "n1").await;
    let first = site(&owner, "shop").await;
    let early = sample("shop", 0);
    owner.delete(&format!("/v1/sites/{first}")).await.expect(200);
    let second = site(&owner, "shop").await;
    // Decided by a node whose clock is ahead: it is the newer site's from the moment that there is one.
    let late = Sample { time_us: now_us() + 1_000_000, ..early.clone() };
    let strange = Sample { site: "nobody".to_owned(), ..early.clone() };
    let nul = Sample { site: "shop\0".to_owned(), ..early.clone() };
    let none = Sample { site: String::new(), customer: String::new(), ..early.clone() };
    let odd = Sample { token: "a\0b".to_owned(), time_us: late.time_us + 1, ..late.clone() };
    let rows = [early, late, strange, nul, none, odd];
    let next = take(&place.store, &node, &batch(1, 0, 0, &rows), &Retention::default()).await;
    assert_eq!(next, 6);
    for (site, count) in [(first, 1), (second, 2)] {
        let sql = format!(
            "SELECT COUNT(*) AS n FROM decisions d JOIN sites s ON s.key = d.site_key AND s.account_id = d.account_id WHERE s.id = '{site}'"
        );
        assert_eq!(place.store.raw_number(&sql).await, count);
    }
    assert_eq!(sums(&place.store).await[..3], [3, 3, 3]);
}

pub async fn decisions_are_kept_by_number_and_age(place: Place) {
    let owner = place.owner().await;
    site(&owner, "shop").await;
    site(&owner, "other").await;
    let node = issue(&owner, &place, "n1").await;
    let hour_us = 3_600_000_000;
    let kept = Retention {
        decisions: 100,
        decisions_ms: 2 * 3_600_000,
        minutes_ms: 4 * 3_600_000,
        days_ms: 3 * 86_400_000,
        ..Retention::default()
    };
    let mut all: Vec<Sample> = (0..300).map(|number| sample("shop", number)).collect();
    all.extend((0..50).map(|number| sample("other", number)));
    for (at, hours) in [3, 5, 100].into_iter().enumerate() {
        let old = sample("shop", at as u64);
        all.push(Sample { time_us: old.time_us - hours * hour_us, ..old });
    }
    let decisions = batch(1, 0, 0, &all);
    let rows = ReadDecisions::of(&decisions).unwrap();
    let mut taken = place.store.take_decisions(node.key, &rows, &kept).await.unwrap().added;
    taken.sort_unstable_by_key(|(_, rows)| *rows);
    let counts: Vec<u64> = taken.iter().map(|(_, rows)| *rows).collect();
    assert_eq!(counts, [50, 100], "no more than are kept are written");
    // 100 h is older than days; 5 h is older than minutes; 3 h is older than rows.
    assert_eq!(sums(&place.store).await[..3], [150, 351, 352]);
    let oldest = "SELECT MIN(time_us) AS n FROM decisions d JOIN sites s ON s.key = d.site_key WHERE slug = 'shop'";
    assert_eq!(place.store.raw_number(oldest).await, all[200].time_us);

    // More come: the newest stay.
    let more: Vec<Sample> = (300..360).map(|number| sample("shop", number)).collect();
    take(&place.store, &node, &batch(1, 1, 0, &more), &kept).await;
    let shop = place.store.raw_number("SELECT key AS n FROM sites WHERE slug = 'shop'").await;
    assert_eq!(place.store.site_keys_after(0).await.unwrap().len(), 2);
    assert_eq!(place.store.prune_decisions(shop, &kept).await.unwrap(), 60);
    assert_eq!(place.store.prune_decisions(shop, &kept).await.unwrap(), 0);
    assert_eq!(place.store.raw_number(oldest).await, all[260].time_us);
    assert_eq!(place.store.prune_usage(shop, &kept).await.unwrap(), 0);
    // By age: all of it, in each table by its own.
    let gone = Retention { decisions_ms: -60_000_000, ..kept };
    assert_eq!(place.store.prune_decisions(shop, &gone).await.unwrap(), 100);
    assert_eq!(sums(&place.store).await[0], 50, "another site's stay");
    let gone = Retention { minutes_ms: -60_000_000, ..kept };
    place.store.prune_usage(shop, &gone).await.unwrap();
    assert_eq!(sums(&place.store).await[1..3], [50, 412]);
    let gone = Retention { days_ms: -3 * 86_400_000, minutes_ms: -3 * 86_400_000, ..kept };
    place.store.prune_usage(shop, &gone).await.unwrap();
    assert_eq!(sums(&place.store).await[1..3], [50, 50]);
    let keys = "SELECT COUNT(*) AS n FROM usage_keys";
    assert_eq!(place.store.raw_number(keys).await, 6, "of the site that was not pruned");
}

pub async fn use_without_room_is_counted_together(place: Place) {
    let owner = place.owner().await;
    site(&owner, "shop").await;
    let node = issue(&owner, &place, "n1").await;
    let kept = Retention { minute_rows: 10, day_rows: 20, ..Retention::default() };
    let at_us = now_us() - 1_000_000;
    let mut all = Vec::new();
    for round in 0..3_u64 {
        // The same 30 tokens in each round, of two reasons.
        let samples: Vec<Sample> = (0..30)
            .map(|number| Sample {
                token: format!("tok-{number}"),
                time_us: at_us + i64::try_from(round * 30 + number).unwrap(),
                reason: if number % 2 == 0 {
                    policy::decision::Reason::Ok
                } else {
                    policy::decision::Reason::RateLimited
                },
                ..sample("shop", 0)
            })
            .collect();
        take(&place.store, &node, &batch(1, 0, round * 30, &samples), &kept).await;
        all.extend(samples);
    }
    assert_eq!(sums(&place.store).await, expected(&all), "sums over the site are exact");
    for (table, rows) in [("usage_minutes", 10), ("usage_days", 20)] {
        let sql = format!(
            "SELECT COUNT(*) AS n FROM {table} u JOIN usage_keys k ON k.id = u.key_id WHERE k.token <> '…' AND u.requests = 3"
        );
        assert_eq!(
            place.store.raw_number(&sql).await,
            rows,
            "{table}: known ones are still counted"
        );
        let sql = format!(
            "SELECT COUNT(*) AS n FROM {table} u JOIN usage_keys k ON k.id = u.key_id WHERE k.token = '…'"
        );
        assert_eq!(place.store.raw_number(&sql).await, 2, "{table}: by reason");
    }
}
