//! Reading the audit log, and what nodes are told apart by.

use serde_json::{Value as Json, json};

use super::place::Place;
use super::samples;
use crate::world::{System, World as _};

fn ids(json: &Json, field: &str) -> Vec<String> {
    let data = json["data"].as_array().unwrap().iter();
    data.map(|one| one[field].as_str().unwrap().to_owned()).collect()
}

pub async fn the_audit_log_is_read_by_what_is_looked_for(place: Place) {
    let (owner, stranger) = (place.owner().await, place.stranger().await);
    let made = samples::make(&owner).await;
    let customer = &made["customer_id"];
    let patch = json!({ "name": "Acme" });
    let path = format!("/v1/customers/{customer}");
    let changed = owner.patch(&path, None, patch).await.expect(200);
    let of = async |query: &str| owner.get(&format!("/v1/audit?{query}")).await.expect(200).json;

    let log = of(&format!("resource_kind=customer&resource_id={customer}")).await;
    assert_eq!(ids(&log, "action"), ["customer.update", "customer.insert"]);
    let newest = &log["data"][0];
    assert_eq!(newest["request_id"], changed.header("payfence-request-id"));
    assert_eq!(
        (&newest["before"]["settings"], &newest["before"]["version"]),
        (&json!({}), &json!(1))
    );
    assert_eq!(newest["after"]["settings"]["name"], "Acme");
    assert!(log["data"][1]["before"].is_null());
    let actor = newest["actor_id"].as_str().unwrap();
    assert_eq!(newest["actor_kind"], "admin_key");

    let all = ids(&of("limit=100").await, "id");
    assert!(all.len() > 8, "{all:?}");
    let by_key = ids(&of(&format!("limit=100&actor_id={actor}")).await, "id");
    let by_command = ids(&of("limit=100&actor_id=init").await, "id");
    assert_eq!(by_key.len() + by_command.len(), all.len());
    assert_eq!(by_command, all[all.len() - by_command.len()..]);
    // Page by page it is the same.
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|id| format!("&starting_after={id}")).unwrap_or_default();
        let page = of(&format!("limit=4{after}")).await;
        paged.extend(ids(&page, "id"));
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(paged, all);

    let at = newest["created_at"].as_str().unwrap();
    let since = ids(&of(&format!("limit=100&since={at}")).await, "id");
    let until = ids(&of(&format!("limit=100&until={at}")).await, "id");
    assert_eq!([since.clone(), until].concat(), all);
    assert!(since.contains(&newest["id"].as_str().unwrap().to_owned()));
    for (query, field) in
        [("since=today", "since"), ("until=2026-11-01", "until"), ("limit=101", "limit")]
    {
        let refused = owner.get(&format!("/v1/audit?{query}")).await.expect(422);
        assert_eq!(refused.fields(), [field]);
    }
    let theirs = stranger.get(&format!("/v1/audit?resource_id={customer}")).await.expect(200);
    assert_eq!(theirs.json["data"], json!([]));
}

pub async fn a_dead_node_is_shown_with_its_reason(place: Place) {
    let owner = place.owner().await;
    let made = samples::make(&owner).await;
    let node = format!("/v1/nodes/{}", made["node_id"]);
    let token = format!("{node}/tokens/{}", made["node_token_id"]);
    let shown = owner.get(&token).await.expect(200);
    assert_eq!((&shown.json["prefix"], &shown.json["secret"]), (&json!("pfn_"), &Json::Null));
    owner.get(&format!("/v1/nodes/node_none/tokens/{}", made["node_token_id"])).await.expect(404);
    assert!(owner.get(&node).await.expect(200).json["declared_dead_reason"].is_null());
    // Archived first, what it leased is still waited for until somebody says that it is gone.
    owner.delete(&node).await.expect(200);
    let dead = json!({ "reason": "disk lost" });
    let dead = owner.post(&format!("{node}/declare_dead"), dead).await.expect(200);
    assert!(dead.json["declared_dead_at"].is_string());
    assert_eq!(dead.json["declared_dead_reason"], "disk lost");
    assert_eq!(owner.get(&node).await.json["declared_dead_reason"], "disk lost");
}

pub async fn the_audit_log_is_kept_as_long_as_was_said(place: Place) {
    const DAY_MS: i64 = 86_400_000;
    let (owner, stranger) = (place.owner().await, place.stranger().await);
    samples::make(&owner).await;
    let count = async |client: &super::client::Client| {
        let log = client.get("/v1/audit?limit=100").await.expect(200);
        log.json["data"].as_array().unwrap().len() as u64
    };
    let (mine, theirs) = (count(&owner).await, count(&stranger).await);
    // All but the newest entry are 400 days and a bit older, as is one of the other account.
    let newest = "(SELECT MAX(key) FROM audit_log)";
    let age = 400 * DAY_MS + 60_000;
    place
        .store
        .raw(&format!(
            "UPDATE audit_log SET created_at_ms = created_at_ms - {age} WHERE key <> {newest}"
        ))
        .await;
    let now_ms = System.now_ms();
    for (days, at_ms) in [(0, now_ms + 9_999 * DAY_MS), (402, now_ms), (401, now_ms)] {
        assert_eq!(place.store.prune_audit(at_ms, days, 1_000).await.unwrap(), 0, "{days}");
    }
    // Step by step, and across accounts.
    let old = mine + theirs - 1;
    let mut gone = 0;
    loop {
        let step = place.store.prune_audit(now_ms, 400, 3).await.unwrap();
        assert!(step <= 3);
        gone += step;
        if step == 0 {
            break;
        }
    }
    assert_eq!(gone, old);
    assert_eq!(count(&owner).await + count(&stranger).await, 1);
    // What is written from then on is there, and what is pruned by the way that the server takes is the same.
    let before = count(&owner).await;
    owner.post("/v1/customers", json!({ "reference": "later" })).await.expect(201);
    let pruned = place.store.prune(400).await.unwrap();
    assert_eq!((pruned.audit, pruned.has_more()), (0, false));
    assert_eq!(count(&owner).await, before + 1);
}
