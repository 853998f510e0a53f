//! What has an end, at its end: admin keys, node tokens, tokens that were rotated.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value as Json, json};
use tempfile::tempdir;

use super::place::Place;
use super::samples;
use super::story::Stopped;
use super::sync_node::{Node, Serving, issue_until, until};
use super::webhooks::Moved;
use crate::api::time::shown;
use crate::world::World as _;

/// When the tests with a clock that stands still begin, Unix milliseconds.
const BEGAN_MS: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;

fn stopped(place: &Place) -> (Arc<Stopped>, Place) {
    let clock = Arc::new(Stopped(AtomicI64::new(BEGAN_MS)));
    (clock.clone(), place.in_time_of(clock))
}

pub async fn an_admin_key_ends_when_it_was_said(place: Place) {
    let (clock, place) = stopped(&place);
    let owner = place.owner().await;
    let end_ms = BEGAN_MS + 60_000;
    let body = json!({ "label": "short", "role": "admin", "expires_at": shown(end_ms) });
    let made = owner.post("/v1/admin_keys", body).await.expect(201);
    let key = owner.with_key(made.json["secret"].as_str().unwrap().to_owned());
    for (now_ms, status) in [(BEGAN_MS, 200), (end_ms - 1, 200), (end_ms, 401), (end_ms + 1, 401)] {
        clock.0.store(now_ms, Ordering::Relaxed);
        let answer = key.get("/v1/sites").await.expect(status);
        assert_eq!(answer.text.contains("the admin key has expired"), status == 401);
        let site = json!({ "slug": format!("at-{now_ms}"), "origin": "https://a.example.com" });
        key.post("/v1/sites", site).await.expect(if status == 200 { 201 } else { 401 });
        owner.get("/v1/sites").await.expect(200);
    }
}

pub async fn a_node_is_cut_off_when_its_token_ends(place: Place) {
    let clock = Arc::new(Moved::default());
    let place = place.in_time_of(clock.clone());
    let owner = place.owner().await;
    samples::make(&owner).await;
    let hour_ms = 3_600_000;
    let issued = [
        issue_until(&owner, &place, "n1", Some(clock.now_ms() + hour_ms)).await,
        issue_until(&owner, &place, "n2", Some(clock.now_ms() + 3 * hour_ms)).await,
        issue_until(&owner, &place, "n3", None).await,
    ];
    let serving = Serving::start_in(&place, clock.clone()).await;
    let folders = [tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap()];
    let mut nodes = Vec::new();
    for (issued, folder) in issued.iter().zip(&folders) {
        let node = Node::start(&[&serving.url], &issued.token, 1, folder.path());
        node.wait("a stream", |node| node.status().connected.is_some()).await;
        nodes.push(node);
    }
    clock.0.fetch_add(2 * hour_ms, Ordering::Relaxed);
    nodes[0].wait("the refusal", |node| node.status().alarm.is_some()).await;
    assert!(until(async || nodes[0].status().connected.is_none()).await, "it is cut off");
    for node in &nodes[1..] {
        // A busy machine may lose a stream, which comes again; one that is refused does not.
        node.wait("a stream still", |node| node.status().connected.is_some()).await;
        assert!(node.status().alarm.is_none(), "{:?}", node.status());
    }
    // Nor does it come in again.
    let folder = tempdir().unwrap();
    nodes.push(Node::start(&[&serving.url], &issued[0].token, 2, folder.path()));
    nodes[3].wait("the refusal", |node| node.status().alarm.is_some()).await;
    assert!(nodes[3].status().connected.is_none());
    for node in nodes {
        node.stop().await;
    }
    serving.stop().await;
}

/// A token's own end, what the rotation says of the overlap, and when the old one ends, all from now, milliseconds.
type Rotation = (Option<i64>, Option<i64>, i64);

pub async fn a_rotated_token_ends_no_later_than_it_would_have(place: Place) {
    let (_clock, place) = stopped(&place);
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let cases: [Rotation; 8] = [
        (None, None, DAY_MS),
        (None, Some(60), 60_000),
        (None, Some(0), 0),
        (None, Some(31_622_400), 31_622_400_000),
        (Some(3_600_000), None, 3_600_000),
        (Some(3_600_000), Some(60), 60_000),
        (Some(30_000), Some(60), 30_000),
        (Some(2 * DAY_MS), None, DAY_MS),
    ];
    for (own_ms, overlap_s, expected_ms) in cases {
        let told = format!("{own_ms:?} {overlap_s:?}");
        let end = |ms: i64| shown(BEGAN_MS + ms);
        let body =
            json!({ "subscription_id": ids["subscription_id"], "expires_at": own_ms.map(end) });
        let old = owner.post("/v1/tokens", body).await.expect(201).id();
        let rotation = overlap_s.map_or(json!({}), |s| json!({ "overlap_seconds": s }));
        let new = owner.post(&format!("/v1/tokens/{old}/rotate"), rotation).await.expect(201);
        assert_eq!(new.json["expires_at"], Json::Null, "{told}");
        let old = owner.get(&format!("/v1/tokens/{old}")).await.expect(200).json;
        assert_eq!(old["expires_at"], end(expected_ms), "{told}");
        assert_eq!((&old["revoked_at"], &old["rotated_to"]), (&Json::Null, &json!(new.id())));
    }
}
