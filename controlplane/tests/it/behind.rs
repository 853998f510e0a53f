//! Nodes that are further behind than the changes that a control plane keeps in memory.
//!
//! In: control planes that keep nothing, nodes that have just fetched a base. Out: all that was changed since, on each of them.
//! Always holds: how much is kept is a bound of the case's own, so that a few changes are too many.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::{TempDir, tempdir};

use super::client::Client;
use super::place::Place;
use super::samples::{self, Ids};
use super::sync::another_token;
use super::sync_node::{Issued, Node, Serving, issue, until};
use crate::sync::bounds::Bounds;
use crate::sync::changes::Encoded;
use crate::sync::feed::Feed;
use crate::world::{System, World as _};

/// Nothing is kept, and no base is due.
const FORGETFUL: Bounds = Bounds {
    kept_bytes: 0,
    kept: 0,
    piece_bytes: 0,
    lanes: 1,
    lane_bytes: 0,
    catch_up: 0,
    due_weight: usize::MAX,
    base_pause: Duration::ZERO,
};

/// More than any case's bound.
const CHANGES: usize = 10;

/// A control plane that keeps nothing, a node that has its base, and one that is still to come.
struct Forgetting {
    owner: Client,
    ids: Ids,
    serving: Serving,
    early: Node,
    late: Issued,
    folders: [TempDir; 2],
}

impl Forgetting {
    async fn begin(place: &Place) -> Self {
        let owner = place.owner().await;
        let ids = samples::make(&owner).await;
        let first = another_token(&owner, &ids).await;
        let (early, late) = (issue(&owner, place, "n1").await, issue(&owner, place, "n2").await);
        let serving = Serving::within(place, FORGETFUL).await;
        let folders = [tempdir().unwrap(), tempdir().unwrap()];
        let early = Node::start(&[&serving.url], &early.token, 1, folders[0].path());
        early.wait("the base", |node| node.token(&first) == Some(false)).await;
        Self { owner, ids, serving, early, late, folders }
    }
}

/// The defect that this file began with: what follows the base is no longer in memory, and the base is the one the node has.
pub async fn a_node_follows_from_a_base_that_changes_have_left_behind(place: Place) {
    let Forgetting { owner, ids, serving, early, late, folders } = Forgetting::begin(&place).await;
    let body = json!({ "subscription_id": ids["subscription_id"] });
    let revoked = owner.post("/v1/tokens", body).await.expect(201);
    let text = revoked.json["secret"].as_str().unwrap().to_owned();
    for _ in 0..CHANGES {
        another_token(&owner, &ids).await;
    }
    owner.delete(&format!("/v1/tokens/{}", revoked.id())).await.expect(200);
    early.wait("a revocation", |node| node.token(&text) == Some(true)).await;
    let late = Node::start(&[&serving.url], &late.token, 1, folders[1].path());
    late.wait("the same", |node| node.token(&text) == Some(true)).await;
    let (early_is, late_is) = (early.status(), late.status());
    assert_eq!(late_is.base, early_is.base, "it was told by changes over the base there was");
    assert_eq!((late_is.bases, late_is.rejected, late_is.gaps), (1, 0, 0), "{late_is:#?}");
    // What comes now is told as ever.
    let last = another_token(&owner, &ids).await;
    late.wait("what comes later", |node| node.token(&last) == Some(false)).await;
    early.stop().await;
    late.stop().await;
    serving.stop().await;
}

/// The entries after the base are pruned, too: what is there is of no use, and another is made.
pub async fn a_node_whose_changes_are_forgotten_takes_a_newer_base(place: Place) {
    let Forgetting { owner, ids, serving, early, late, folders } = Forgetting::begin(&place).await;
    let mut last = String::new();
    for _ in 0..CHANGES {
        last = another_token(&owner, &ids).await;
    }
    early.wait("all changes", |node| node.token(&last) == Some(false)).await;
    let later_ms = System.now_ms() + 8 * 86_400_000;
    assert!(place.store.prune_outbox(later_ms, 1).await.unwrap() > 0);
    let late = Node::start(&[&serving.url], &late.token, 1, folders[1].path());
    late.wait("the same", |node| node.token(&last) == Some(false)).await;
    // It is counted once it is in force.
    late.wait("a second base", |node| node.status().bases == 2).await;
    let (early_is, late_is) = (early.status(), late.status());
    assert!(late_is.base > early_is.base, "{late_is:#?}");
    assert_eq!((early_is.bases, late_is.rejected), (1, 0), "nobody else has to fetch it");
    early.stop().await;
    late.stop().await;
    serving.stop().await;
}

pub async fn a_due_base_reaches_a_connected_node(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let first = another_token(&owner, &ids).await;
    let issued = issue(&owner, &place, "n1").await;
    // Each change is a piece of its own.
    let bounds = Bounds {
        due_weight: CHANGES,
        base_pause: Duration::ZERO,
        piece_bytes: 1,
        ..Bounds::default()
    };
    let serving = Serving::within(&place, bounds).await;
    let folder = tempdir().unwrap();
    let node = Node::start(&[&serving.url], &issued.token, 1, folder.path());
    node.wait("the base", |node| node.token(&first) == Some(false)).await;
    let before = node.status();
    let mut last = first;
    for _ in 0..CHANGES {
        last = another_token(&owner, &ids).await;
    }
    node.wait("another base", |node| node.status().base > before.base).await;
    node.wait("what is changed since", |node| node.token(&last) == Some(false)).await;
    assert_eq!(node.status().rejected, 0);
    node.stop().await;
    serving.stop().await;
}

/// One that a node could not do without is not offered to the others; what it has counts as changed for them all the same.
pub async fn a_base_for_one_node_puts_off_no_other(place: Place) {
    const WEIGHT: usize = 2;
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let (store, keyring) = (place.store.clone(), place.keyring.clone());
    let bounds = Bounds { due_weight: 4 * WEIGHT, base_pause: Duration::ZERO, ..Bounds::default() };
    let feed = Arc::new(Feed::new(store.clone(), keyring, std::env::temp_dir(), bounds));
    let tasks = [
        tokio::spawn(store.outbox().clone().publish()),
        tokio::spawn(Arc::clone(&feed).follow()),
        tokio::spawn(Arc::clone(&feed).keep_base()),
    ];
    let of_base = || feed.base().map(|offered| offered.base.offer.sequence);
    assert!(until(async || of_base().is_some()).await, "there is no base");
    let first = of_base().unwrap();
    let change = async || {
        let before = feed.head();
        let given = json!({ "units": 1, "reason": "a change" });
        let path = format!("/v1/subscriptions/{}/adjustments", ids["subscription_id"]);
        owner.post(&path, given).await.expect(201);
        assert!(until(async || feed.head() > before).await, "it is not followed");
    };
    for _ in 0..4 {
        change().await;
    }
    let wanted = feed.head();
    feed.want_base(wanted);
    assert!(until(async || of_base() >= Some(wanted)).await, "it is not made");
    assert!(!feed.base().unwrap().is_due_over(first), "nobody else needs it");
    change().await;
    let is_due = async || feed.base().is_some_and(|offered| offered.is_due_over(first));
    assert!(until(is_due).await, "whoever has the base {first} is never offered another");
    // It stays due when one that another node needs takes its place.
    let due = of_base().unwrap();
    feed.want_base(due + 1);
    change().await;
    assert!(until(async || of_base() > Some(due)).await, "it is not made");
    let offered = feed.base().unwrap();
    assert!(offered.is_due_over(first) && !offered.is_due_over(due));
    // One that begins after the changes has not weighed them: their entries count.
    let folder = std::env::temp_dir();
    let again = Arc::new(Feed::new(store.clone(), place.keyring.clone(), folder, bounds));
    let more =
        [tokio::spawn(Arc::clone(&again).follow()), tokio::spawn(Arc::clone(&again).keep_base())];
    assert!(until(async || again.base().is_some()).await, "there is no base");
    let offered = again.base().unwrap();
    let sequence = offered.base.offer.sequence;
    let is_due = [8, 9].map(|entries| offered.is_due_over(sequence - entries));
    assert_eq!(is_due, [false, true]);
    for task in tasks.into_iter().chain(more) {
        task.abort();
    }
}

/// Whatever base is made, changes are past it by more than is kept; a node that comes now is told them all the same.
pub async fn a_node_joins_while_changes_outrun_every_base(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let first = another_token(&owner, &ids).await;
    for due_weight in [usize::MAX, 50] {
        let issued = issue(&owner, &place, &format!("due after {due_weight}")).await;
        let serving = Serving::within(&place, Bounds { due_weight, ..FORGETFUL }).await;
        let writing = tokio::spawn(write(place.clone()));
        let folder = tempdir().unwrap();
        let node = Node::start(&[&serving.url], &issued.token, 1, folder.path());
        node.wait("a base", |node| node.token(&first) == Some(false)).await;
        for _ in 0..3 {
            let token = another_token(&owner, &ids).await;
            node.wait("a change", |node| node.token(&token) == Some(false)).await;
        }
        assert!(!writing.is_finished(), "nothing was changed meanwhile");
        writing.abort();
        assert_eq!(node.status().rejected, 0, "{:#?}", node.status());
        // Once it is quiet, the node knows all there is, and its row says so.
        let path = format!("/v1/nodes/{}", issued.id);
        let head = async || place.store.policy_reader().await.unwrap().sequence().await.unwrap();
        let knows = async || {
            let shown = owner.get(&path).await.expect(200).json;
            shown["applied_sequence"] == head().await
        };
        assert!(until(knows).await, "it stays behind {}: {:#?}", head().await, node.status());
        node.stop().await;
        serving.stop().await;
    }
}

/// Changes the subscription some two thousand times a second, for ever.
async fn write(place: Place) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        let columns = "account_id, kind, row_id, row_key, operation, created_at_ms";
        let again = format!(
            "INSERT INTO outbox ({columns}) SELECT {columns} FROM outbox \
             WHERE kind = 'subscription' AND sequence IS NOT NULL ORDER BY sequence LIMIT 10"
        );
        place.store.raw(&again).await;
        place.store.outbox().publish_once().await.unwrap();
    }
}

/// The node that waits for what it missed knows that the control plane is there, and what it is behind by is shown.
pub async fn a_node_that_waits_for_its_page_hears_heartbeats(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let first = another_token(&owner, &ids).await;
    let issued = issue(&owner, &place, "n1").await;
    let folder = tempdir().unwrap();
    let serving = Serving::start(&place).await;
    let node = Node::start(&[&serving.url], &issued.token, 1, folder.path());
    node.wait("the base", |node| node.token(&first) == Some(false)).await;
    node.stop().await;
    serving.stop().await;
    another_token(&owner, &ids).await;
    // Nobody gets a page, and no base is nearer.
    let serving =
        Serving::within(&place, Bounds { lanes: 0, catch_up: u64::MAX, ..FORGETFUL }).await;
    let node = Node::start(&[&serving.url], &issued.token, 2, folder.path());
    node.wait("a stream", |node| node.status().connected.is_some()).await;
    // More heartbeats than may be missing, each with news.
    for _ in 0..5 {
        another_token(&owner, &ids).await;
        place.store.outbox().publish_once().await.unwrap();
        let head = place.store.policy_reader().await.unwrap().sequence().await.unwrap();
        let head = head.unsigned_abs();
        node.wait("a heartbeat", |node| node.status().control_sequence >= head).await;
    }
    let status = node.status();
    assert_eq!((status.connects, status.bases), (1, 0), "{status:#?}");
    assert!(status.sequence < status.control_sequence, "{status:#?}");
    let path = format!("/v1/nodes/{}", issued.id);
    let shows = async || {
        let lag = owner.get(&path).await.expect(200).json["lag"].as_i64().unwrap();
        let text = crate::metrics::text(&place.store).await.unwrap();
        let lines = [
            "payfence_nodes_reporting 1\n".to_owned(),
            format!("payfence_nodes_lag_changes {lag}\n"),
        ];
        lag > 0 && lines.iter().all(|line| text.contains(line))
    };
    assert!(until(shows).await, "{}", crate::metrics::text(&place.store).await.unwrap());
    node.stop().await;
    serving.stop().await;
}

/// Those that fetched one base need the same pages, at the same time; what is remembered of them is bounded.
pub async fn a_page_is_made_once_for_many_nodes(place: Place) {
    let owner = place.owner().await;
    samples::make(&owner).await;
    let store = place.store.clone();
    store.outbox().publish_once().await.unwrap();
    for (lane_bytes, is_once) in [(1 << 20, true), (0, false)] {
        let bounds = Bounds { lane_bytes, lanes: 2, ..FORGETFUL };
        let (keyring, folder) = (place.keyring.clone(), std::env::temp_dir());
        let feed = Arc::new(Feed::new(store.clone(), keyring, folder, bounds));
        let asking: Vec<_> = (0..5)
            .map(|_| {
                let feed = Arc::clone(&feed);
                tokio::spawn(async move { feed.page_after(1).await.unwrap() })
            })
            .collect();
        let mut places = Vec::new();
        for asked in asking {
            let page = asked.await.unwrap();
            assert_eq!(page.first().map(|change| change.head.from), Some(1));
            // Kept until the end, so that no two can be at one place.
            places.push(page);
        }
        let first = places[0][0].bytes.as_ptr();
        let is_same = |page: &Vec<Encoded>| page[0].bytes.as_ptr() == first;
        assert_eq!(places.iter().skip(1).all(is_same), is_once);
        assert_eq!(places.iter().skip(1).any(is_same), is_once);
        assert!(feed.page_after(1_000_000).await.unwrap().is_empty(), "there are no such rows");
    }
}
