//! Nodes at a control plane: policy down, leases both ways, over real sockets.

use policy::budget::message::{LeaseRequest, Totals};
use policy::budget::{Calendar, CarriedUse, EntitlementId, Overage, Period, Terms, Unit};
use serde_json::json;
use tempfile::tempdir;

use super::client::Client;
use super::place::Place;
use super::samples::{self, Ids};
use super::sync_node::{Issued, Node, Serving, issue, until};
use crate::storage::Start;
use crate::world::{System, World as _};

/// A second token of the subscription; its text.
pub async fn another_token(owner: &Client, ids: &Ids) -> String {
    let body = json!({ "subscription_id": ids["subscription_id"] });
    let answer = owner.post("/v1/tokens", body).await.expect(201);
    answer.json["secret"].as_str().unwrap().to_owned()
}

pub async fn a_new_node_fetches_a_base_and_follows_changes(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let first = another_token(&owner, &ids).await;
    let issued = issue(&owner, &place, "n1").await;
    let serving = Serving::start(&place).await;
    let folder = tempdir().unwrap();
    let node = Node::start(&[&serving.url], &issued.token, 1, folder.path());
    node.wait("the base", |node| node.token(&first) == Some(false)).await;
    assert_eq!(node.limit(&first), Some(1005));
    // A token issued, a plan changed, a token revoked, a subscription archived.
    let second = another_token(&owner, &ids).await;
    node.wait("a new token", |node| node.token(&second) == Some(false)).await;
    let plan = format!("/v1/sites/{}/plans/{}", ids["site_id"], ids["plan_id"]);
    let quota = json!({ "quota": { "requests": 2000, "per": "month" } });
    owner.patch(&plan, None, quota).await.expect(200);
    node.wait("a changed plan", |node| node.limit(&second) == Some(2005)).await;
    // Units given by hand.
    let given = json!({ "units": 50, "reason": "an outage" });
    let adjustments = format!("/v1/subscriptions/{}/adjustments", ids["subscription_id"]);
    owner.post(&adjustments, given).await.expect(201);
    // The samples have five.
    node.wait("an adjustment", |node| node.limit(&second) == Some(2055)).await;
    // One with the next period: this one goes on as it is.
    let next = json!({ "quota": { "requests": 3000, "per": "month" }, "applies": "next_period" });
    owner.patch(&plan, None, next).await.expect(200);
    let next_month_s = System.now_ms() / 1_000 + 32 * 86_400;
    let is_next = |node: &Node| node.limit_at(&second, next_month_s) == Some(3000);
    node.wait("a plan of the next period", is_next).await;
    assert_eq!(node.limit(&second), Some(2055));
    let made = owner.post("/v1/tokens", json!({ "subscription_id": ids["subscription_id"] })).await;
    let third = made.json["secret"].as_str().unwrap().to_owned();
    owner.delete(&format!("/v1/tokens/{}", made.id())).await.expect(200);
    node.wait("a revoked token", |node| node.token(&third) == Some(true)).await;
    let status = node.status();
    assert_eq!((status.bases, status.rejected, status.gaps), (1, 0, 0), "{status:#?}");
    owner.delete(&format!("/v1/subscriptions/{}", ids["subscription_id"])).await.expect(200);
    node.wait("nothing of it", |node| node.token(&second).is_none()).await;
    // The control plane knows what the node has.
    let head = place.store.outbox().read_after(0).await.unwrap().last().unwrap().sequence;
    node.wait("all of it", |node| node.status().sequence == head.unsigned_abs()).await;
    let path = format!("/v1/nodes/{}", issued.id);
    let knows = async || {
        let shown = owner.get(&path).await.expect(200).json;
        shown["applied_sequence"] == head && shown["lag"] == 0 && shown["last_seen_at"].is_string()
    };
    assert!(until(knows).await, "the node's row does not show {head}");
    node.stop().await;
    serving.stop().await;
}

pub async fn a_node_that_was_away_catches_up(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let issued = issue(&owner, &place, "n1").await;
    let folder = tempdir().unwrap();
    let serving = Serving::start(&place).await;
    let token = another_token(&owner, &ids).await;
    let node = Node::start(&[&serving.url], &issued.token, 1, folder.path());
    node.wait("the base", |node| node.token(&token) == Some(false)).await;
    node.stop().await;
    serving.stop().await;
    // Nobody publishes: the changes are numbered once a control plane is there again.
    let missed = another_token(&owner, &ids).await;
    let serving = Serving::start(&place).await;
    let node = Node::start(&["http://127.0.0.1:9", &serving.url], &issued.token, 2, folder.path());
    node.wait("what is on disk", |node| node.token(&token) == Some(false)).await;
    node.wait("what it missed", |node| node.token(&missed) == Some(false)).await;
    // It booted from disk and was told by changes alone.
    let status = node.status();
    assert_eq!((status.bases, status.rejected), (0, 0), "{status:#?}");
    node.stop().await;
    serving.stop().await;
}

/// A token that is narrowed to a pattern which is archived while the base is compiled, and made again later.
pub async fn a_pattern_that_comes_back_is_the_tokens_again(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let narrowed = json!({ "subscription_id": ids["subscription_id"], "resources": ["/api/*"] });
    let made = owner.post("/v1/tokens", narrowed).await.expect(201);
    let token = made.json["secret"].as_str().unwrap().to_owned();
    let resources = format!("/v1/sites/{}/resources", ids["site_id"]);
    owner.delete(&format!("{resources}/{}", ids["resource_id"])).await.expect(200);
    let issued = issue(&owner, &place, "n1").await;
    let serving = Serving::start(&place).await;
    let folder = tempdir().unwrap();
    let node = Node::start(&[&serving.url], &issued.token, 1, folder.path());
    node.wait("the base", |node| node.token(&token) == Some(false)).await;
    owner.post(&resources, json!({ "pattern": "/api/*" })).await.expect(201);
    owner.post(&resources, json!({ "pattern": "/other" })).await.expect(201);
    node.wait("the pattern", |node| node.token_includes(&token, "/api/*")).await;
    node.wait("another one", |node| node.has_pattern("/other")).await;
    assert!(!node.token_includes(&token, "/other"));
    assert_eq!(node.status().bases, 1, "it was told by changes");
    node.stop().await;
    serving.stop().await;
}

/// The entries it would be told by are pruned meanwhile.
pub async fn a_node_that_was_away_too_long_takes_a_base(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let issued = issue(&owner, &place, "n1").await;
    let folder = tempdir().unwrap();
    let serving = Serving::start(&place).await;
    let token = another_token(&owner, &ids).await;
    let node = Node::start(&[&serving.url], &issued.token, 1, folder.path());
    node.wait("the base", |node| node.token(&token) == Some(false)).await;
    node.stop().await;
    let missed = another_token(&owner, &ids).await;
    serving.stop().await;
    place.store.outbox().publish_once().await.unwrap();
    let later_ms = System.now_ms() + 8 * 86_400_000;
    assert_eq!(place.store.prune_outbox(System.now_ms(), 1).await.unwrap(), 0, "they are new");
    assert!(place.store.prune_outbox(later_ms, 1).await.unwrap() > 0);
    assert_eq!(place.store.outbox().read_after(0).await.unwrap().len(), 1, "the last one stays");
    let serving = Serving::start(&place).await;
    let node = Node::start(&[&serving.url], &issued.token, 2, folder.path());
    node.wait("what it missed", |node| node.token(&missed) == Some(false)).await;
    // It is counted once it is in force.
    node.wait("one base", |node| node.status().bases == 1).await;
    assert_eq!(node.status().rejected, 0);
    node.stop().await;
    serving.stop().await;
}

pub async fn a_node_is_cut_off(place: Place) {
    let owner = place.owner().await;
    samples::make(&owner).await;
    let Issued { id, token_id, token, .. } = issue(&owner, &place, "n1").await;
    let other = issue(&owner, &place, "n2").await;
    let serving = Serving::start(&place).await;
    let (folder, other_folder) = (tempdir().unwrap(), tempdir().unwrap());
    let node = Node::start(&[&serving.url], &token, 1, folder.path());
    let other_node = Node::start(&[&serving.url], &other.token, 1, other_folder.path());
    node.wait("a stream", |node| node.status().connected.is_some()).await;
    other_node.wait("a stream", |node| node.status().connected.is_some()).await;
    owner.delete(&format!("/v1/nodes/{id}/tokens/{token_id}")).await.expect(200);
    let revoked_at = tokio::time::Instant::now();
    node.wait("the refusal", |node| node.status().alarm.is_some()).await;
    assert!(revoked_at.elapsed() < std::time::Duration::from_secs(1), "{:?}", revoked_at.elapsed());
    assert!(other_node.status().alarm.is_none());
    // One that was never issued.
    let unknown = link::wire::NodeToken::make(getrandom::fill).unwrap();
    let unknown_folder = tempdir().unwrap();
    let unknown = Node::start(&[&serving.url], &unknown, 1, unknown_folder.path());
    unknown.wait("the refusal", |node| node.status().alarm.is_some()).await;
    for node in [node, other_node, unknown] {
        node.stop().await;
    }
    serving.stop().await;
}

pub async fn starts_take_over_from_each_other(place: Place) {
    let owner = place.owner().await;
    let issued = issue(&owner, &place, "n1").await;
    let store = &place.store;
    let key = issued.key;
    assert_eq!(store.node_start(key, 7).await.unwrap(), Start::Current(1));
    assert_eq!(store.node_start(key, 7).await.unwrap(), Start::Current(1));
    // Many at once: each gets a number of its own, and one of them is the newest.
    let tasks: Vec<_> = (100..110)
        .map(|epoch| {
            let store = store.clone();
            tokio::spawn(async move { store.node_start(key, epoch).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut current = Vec::new();
    for epoch in [7].into_iter().chain(100..110) {
        if let Start::Current(start) = store.node_start(key, epoch).await.unwrap() {
            current.push(start);
        }
    }
    assert_eq!(current, [11]);
}

pub async fn a_restored_database_begins_a_new_history(place: Place) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let token = another_token(&owner, &ids).await;
    let issued = issue(&owner, &place, "n1").await;
    let folder = tempdir().unwrap();
    let serving = Serving::start(&place).await;
    let node = Node::start(&[&serving.url], &issued.token, 1, folder.path());
    node.wait("the base", |node| node.token(&token) == Some(false)).await;
    let lost = another_token(&owner, &ids).await;
    node.wait("a token", |node| node.token(&lost) == Some(false)).await;
    let before = node.status().sequence;
    node.stop().await;
    serving.stop().await;
    let history = place.store.history().await.unwrap();
    // Brought back from a backup of before that token: its row, and its numbers, never were.
    place.forget_after_token(&lost, before - 2).await;
    let serving = Serving::start(&place).await;
    let node = Node::start(&[&serving.url], &issued.token, 2, folder.path());
    node.wait("the older policy", |node| node.token(&lost).is_none()).await;
    assert_eq!(node.token(&token), Some(false));
    assert_ne!(place.store.history().await.unwrap(), history);
    let fresh = another_token(&owner, &ids).await;
    node.wait("a change after it", |node| node.token(&fresh) == Some(false)).await;
    // Numbers went on after what the node knew, so that terms of an entitlement never look older than they are.
    assert!(node.status().sequence > before);
    node.stop().await;
    serving.stop().await;
}

fn terms(limit: u64) -> Terms {
    Terms {
        version: 1,
        limit: Some(limit),
        overage: Overage::Deny,
        calendar: Calendar { unit: Unit::Month, anchor_s: None },
        rate: None,
        concurrency: None,
    }
}

fn request(limit: u64, stamp_us: u64) -> LeaseRequest {
    let terms = terms(limit);
    let now_s = System.now_ms() / 1000;
    LeaseRequest {
        id: EntitlementId(7 << 100 | 3),
        period: Period::first(&terms.calendar, now_s),
        terms,
        totals: Totals::default(),
        returned: 0,
        granted: 0,
        need: 1,
        demand: 1_000_000,
        closed: false,
        carried: CarriedUse { units: 0, whole: true, journal: 1 },
        stamp_us,
        share: None,
    }
}

/// Ten nodes ask at the same time, through two stores, until nothing is free.
pub async fn leases_never_exceed_the_limit(place: Place) {
    const LIMIT: u64 = 10_000;
    let stores = [place.store.clone(), place.another_store()];
    let tasks: Vec<_> = (1..=10_u64)
        .map(|node| {
            let store = stores[usize::from(node % 2 == 0)].clone();
            tokio::spawn(async move {
                let mut granted = 0;
                for round in 1..=60 {
                    let asked = LeaseRequest { granted, ..request(LIMIT, round) };
                    let taken = store.take_requests(node, 1, &[asked]).await.unwrap();
                    let own = taken.posted.iter().filter(|posted| posted.node == node);
                    granted = own.map(|posted| posted.reply.granted).fold(granted, u64::max);
                }
                granted
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    assert!(sum <= LIMIT, "{sum} units were leased of {LIMIT}");
    let id = request(LIMIT, 1).id.0;
    let account = place.store.ledger_account(id).await.unwrap().unwrap();
    let committed: u64 = account.books.iter().map(|books| books.committed()).sum();
    assert_eq!(committed, sum, "the ledger and the nodes agree");
    // The last unit can be had.
    let mut left = LIMIT - sum;
    let mut granted = 0;
    let mut stamp = 100;
    while left > 0 {
        stamp += 1;
        let asked = LeaseRequest { granted, ..request(LIMIT, stamp) };
        let taken = place.store.take_requests(99, 1, &[asked]).await.unwrap();
        let now = taken.posted.iter().find(|posted| posted.node == 99).unwrap().reply.granted;
        assert!(now > granted, "{left} units are free and none is leased");
        left -= now - granted;
        granted = now;
    }
}

/// Two control planes; a node at each; the second wants what the first has leased.
pub async fn replies_reach_nodes_of_other_control_planes(place: Place) {
    let owner = place.owner().await;
    samples::make(&owner).await;
    let servings = [Serving::start(&place).await, Serving::start(&place).await];
    // SQLite has one control plane at a time, to which both nodes go.
    let urls = [&servings[0].url, &servings[usize::from(place.store.is_shared())].url];
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let mut nodes = Vec::new();
    for (number, (url, folder)) in urls.iter().zip(&folders).enumerate() {
        let issued = issue(&owner, &place, &format!("n{number}")).await;
        nodes.push(Node::start(&[url], &issued.token, 1, folder.path()));
    }
    for node in &nodes {
        node.wait("a stream", |node| node.status().connected.is_some()).await;
    }
    let ask = |granted, stamp_us, need| LeaseRequest {
        granted,
        need,
        demand: 100,
        ..request(10, stamp_us)
    };
    // The first node takes all ten units.
    let mut granted = 0;
    let mut stamp = 0;
    while granted < 10 {
        stamp += 1;
        nodes[0].replies.lock().clear();
        nodes[0].ledger.send(ask(granted, stamp, 10)).await.unwrap();
        nodes[0].wait("a reply", |node| !node.replies.lock().is_empty()).await;
        granted = nodes[0].replies.lock().iter().map(|reply| reply.granted).max().unwrap();
    }
    // The second wants one: the first is asked for it over its stream.
    nodes[0].replies.lock().clear();
    nodes[1].ledger.send(ask(0, 1, 1)).await.unwrap();
    nodes[0].wait("a recall", |node| node.replies.lock().iter().any(|reply| reply.recall)).await;
    // It gives back what it has not used, and the second is told.
    let back = LeaseRequest { returned: 10, need: 0, demand: 0, ..ask(10, stamp + 1, 0) };
    nodes[0].ledger.send(back).await.unwrap();
    nodes[1].wait("a unit", |node| node.replies.lock().iter().any(|r| r.granted > 0)).await;
    for node in nodes {
        node.stop().await;
    }
    for serving in servings {
        serving.stop().await;
    }
}

pub async fn dead_nodes_are_settled(place: Place) {
    let owner = place.owner().await;
    samples::make(&owner).await;
    let serving = Serving::start(&place).await;
    let dead = issue(&owner, &place, "dead").await;
    let number = dead.key.unsigned_abs();
    let asked = request(100, 1);
    let taken = place.store.take_requests(number, 1, &[asked]).await.unwrap();
    let leased = taken.posted[0].reply.granted;
    assert!(leased > 0);
    let path = format!("/v1/nodes/{}/declare_dead", dead.id);
    owner.post(&path, json!({ "reason": "burnt" })).await.expect(200);
    let is_settled = async || place.store.unburied().await.unwrap().is_empty();
    assert!(until(is_settled).await, "nobody settles the dead node");
    let account = place.store.ledger_account(asked.id.0).await.unwrap().unwrap();
    assert_eq!(account.books[0].used(), leased, "what it held counts as used");
    // It does not come in again.
    let folder = tempdir().unwrap();
    let node = Node::start(&[&serving.url], &dead.token, 2, folder.path());
    node.wait("the refusal", |node| node.status().alarm.is_some()).await;
    node.stop().await;
    serving.stop().await;
}
