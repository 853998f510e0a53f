//! What a subscription allows now, and what was adjusted by hand.

use std::time::Duration;

use serde_json::json;

use super::client::Client;
use super::place::Place;
use super::samples::{self, Ids};
use crate::storage::OutboxEntry;

const DEADLINE: Duration = Duration::from_secs(60);

async fn owner_with_samples(place: &Place) -> (Client, Ids, String) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    let entitlement = format!("/v1/entitlements/{}", ids["subscription_id"]);
    (owner, ids, entitlement)
}

pub async fn an_entitlement_shows_plan_period_and_adjustments(place: Place) {
    let (owner, ids, path) = owner_with_samples(&place).await;
    let adjustments = format!("/v1/subscriptions/{}/adjustments", ids["subscription_id"]);
    let shown = owner.get(&path).await.expect(200).json;
    assert_eq!((&shown["plan"], &shown["quota"]["requests"]), (&json!("pro"), &json!(1000)));
    assert_eq!((&shown["adjusted_units"], &shown["limit"]), (&json!(5), &json!(1005)));
    let (start, end) = (shown["period"]["start"].as_str().unwrap(), &shown["period"]["end"]);
    assert!(start.ends_with("-01T00:00:00Z"), "the calendar month in UTC: {start}");
    // The one of the samples ends with the period, as they do where nothing is said.
    assert_eq!(&shown["adjustments"][0]["expires_at"], end);
    assert_eq!(shown["adjustments"][0]["period_id"], shown["period"]["id"]);

    let mut follower = place.store.outbox().follow(0);
    let taken = json!({ "units": -2000, "reason": "a refund", "expires_at_period_end": false });
    let taken = owner.post_once(&adjustments, "t", taken.clone()).await.expect(201);
    assert!(taken.json["expires_at"].is_null() && taken.json["period_id"].is_null());
    let shown = owner.get(&path).await.expect(200).json;
    assert_eq!((&shown["adjusted_units"], &shown["limit"]), (&json!(-1995), &json!(0)));
    let listed = owner.get(&adjustments).await.expect(200).json;
    assert_eq!(
        (&listed["data"][0]["id"], &listed["data"][1]["units"]),
        (&taken.json["id"], &json!(5))
    );
    let one = owner.get(&format!("{adjustments}/{}", taken.id())).await.expect(200);
    assert_eq!((&one.json, one.header("etag")), (&taken.json, "\"v1\""));
    owner.get(&format!("/v1/subscriptions/sub_none/adjustments/{}", taken.id())).await.expect(404);

    // What nodes are sent is the subscription: its entry comes after the adjustment's.
    place.store.outbox().publish_once().await.unwrap();
    let mut kinds: Vec<OutboxEntry> = Vec::new();
    while !kinds.iter().any(|entry| entry.row_id == taken.id()) {
        let more = tokio::time::timeout(DEADLINE, follower.next()).await;
        kinds.extend(more.expect("the adjustment's entry comes").unwrap());
    }
    let at = kinds.iter().position(|entry| entry.row_id == taken.id()).unwrap();
    assert_eq!((&*kinds[at].kind, &*kinds[at + 1].kind), ("adjustment", "subscription"));
    assert_eq!(kinds[at + 1].row_id, ids["subscription_id"]);
}

pub async fn adjustments_have_bounds_and_reasons(place: Place) {
    let (owner, ids, path) = owner_with_samples(&place).await;
    let adjustments = format!("/v1/subscriptions/{}/adjustments", ids["subscription_id"]);
    let most = 999_999_999_999_999_i64;
    for (units, reason, field) in [
        (0, "x", "units"),
        (most + 1, "x", "units"),
        (-most - 1, "x", "units"),
        (i64::MIN, "x", "units"),
        (1, " ", "reason"),
        // With the five of the samples it is too much.
        (most, "x", "units"),
    ] {
        let body = json!({ "units": units, "reason": reason });
        let refused = owner.post(&adjustments, body).await.expect(422);
        assert_eq!(refused.fields(), [field], "{units}");
    }
    owner.post(&adjustments, json!({ "units": 1 })).await.expect(422);
    let fitting = json!({ "units": most - 5, "reason": "as much as can be" });
    owner.post(&adjustments, fitting).await.expect(201);
    assert_eq!(owner.get(&path).await.json["limit"], most + 1000);

    // Where there is no quota, there is nothing to adjust.
    let plan = format!("/v1/sites/{}/plans/{}", ids["site_id"], ids["plan_id"]);
    owner.patch(&plan, None, json!({ "quota": null })).await.expect(200);
    owner.post(&adjustments, json!({ "units": 1, "reason": "x" })).await.expect(409);
    let shown = owner.get(&path).await.expect(200).json;
    assert!(shown["quota"].is_null() && shown["limit"].is_null());

    let viewer = json!({ "label": "v", "role": "viewer" });
    let viewer = owner.post("/v1/admin_keys", viewer).await.expect(201);
    let viewer = Client::new(place.router(), viewer.json["secret"].as_str().unwrap().to_owned());
    viewer.get(&path).await.expect(200);
    viewer.post(&adjustments, json!({ "units": 1, "reason": "x" })).await.expect(403);
    owner.delete(&format!("/v1/subscriptions/{}", ids["subscription_id"])).await.expect(200);
    owner.post(&adjustments, json!({ "units": 1, "reason": "x" })).await.expect(409);
}

pub async fn terms_of_the_running_period_are_shown(place: Place) {
    let (owner, ids, path) = owner_with_samples(&place).await;
    let plan = format!("/v1/sites/{}/plans/{}", ids["site_id"], ids["plan_id"]);
    let change = async |requests: u64, per: &str, applies: &str| {
        let quota = json!({ "requests": requests, "per": per });
        let patch = json!({ "quota": quota, "applies": applies });
        owner.patch(&plan, None, patch).await.expect(200);
        owner.get(&path).await.expect(200).json["quota"]["requests"].as_u64().unwrap()
    };
    // The month that runs keeps its terms, whatever comes next and however often that changes.
    assert_eq!(change(5, "day", "next_period").await, 1000);
    assert_eq!(change(6, "month", "next_period").await, 1000);
    assert_eq!(change(7, "month", "now").await, 7);
    assert_eq!(change(8, "second", "next_period").await, 7);
    let anchored = format!("/v1/subscriptions/{}", ids["subscription_id"]);
    let anchor = json!({ "period_anchor": "2020-01-31T12:00:00Z" });
    owner.patch(&anchored, None, anchor).await.expect(200);
    let shown = owner.get(&path).await.expect(200).json;
    assert!(shown["period"]["start"].as_str().unwrap().ends_with("T12:00:00Z"), "{shown}");
}
