//! Accounts, their members, and whose key may what.

use serde_json::{Value as Json, json};

use super::client::Client;
use super::place::Place;

async fn member(owner: &Client, email: &str, role: &str) -> String {
    let body = json!({ "email": email, "role": role });
    owner.post("/v1/members", body).await.expect(201).id()
}

async fn key_of(client: &Client, place: &Place, body: Json) -> Client {
    let made = client.post("/v1/admin_keys", body).await.expect(201);
    Client::new(place.router(), made.json["secret"].as_str().unwrap().to_owned())
}

pub async fn an_account_is_read_and_renamed(place: Place) {
    let owner = place.owner().await;
    let read = owner.get("/v1/account").await.expect(200);
    assert_eq!((&read.json["name"], read.header("etag")), (&json!("First"), "\"v1\""));
    let named = owner.patch("/v1/account", Some("\"v1\""), json!({ "name": "Second" })).await;
    assert_eq!(named.expect(200).json["name"], "Second");
    owner.patch("/v1/account", Some("\"v1\""), json!({ "name": "Third" })).await.expect(412);
    for (patch, field) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": null }), "name"),
        (json!({ "id": "acct_x" }), "id"),
    ] {
        let refused = owner.patch("/v1/account", None, patch).await.expect(422);
        assert_eq!(refused.fields(), [field]);
    }
    let admin = key_of(&owner, &place, json!({ "label": "a", "role": "admin" })).await;
    assert_eq!(admin.get("/v1/account").await.expect(200).json["name"], "Second");
    admin.patch("/v1/account", None, json!({ "name": "Mine" })).await.expect(403);
}

pub async fn the_operator_makes_accounts(place: Place) {
    let (owner, stranger) = (place.owner().await, place.stranger().await);
    let body = json!({ "name": "Third", "email": "Kim@Third.example" });
    let made = owner.post_once("/v1/accounts", "a1", body.clone()).await.expect(201);
    let again = owner.post_once("/v1/accounts", "a1", body.clone()).await.expect(201);
    assert_eq!((again.id(), &again.json["secret"]), (made.id(), &Json::Null));
    let theirs = Client::new(place.router(), made.json["secret"].as_str().unwrap().to_owned());
    assert_eq!(theirs.get("/v1/account").await.expect(200).id(), made.id());
    let members = theirs.get("/v1/members").await.expect(200);
    assert_eq!(members.json["data"][0]["email"], "kim@third.example");
    assert_eq!(members.json["data"][0]["role"], "owner");
    let all = owner.get("/v1/accounts").await.expect(200);
    assert_eq!(all.json["data"].as_array().unwrap().len(), 3);
    assert_eq!(all.json["data"][0]["id"], made.id());
    for client in [&stranger, &theirs] {
        client.get("/v1/accounts").await.expect(403);
        client.post("/v1/accounts", body.clone()).await.expect(403);
    }
    let scopes = json!(["account:write"]);
    let narrow = json!({ "label": "n", "role": "owner", "scopes": scopes });
    key_of(&owner, &place, narrow).await.get("/v1/accounts").await.expect(403);
    // The operator's key can be replaced, by another of its kind alone.
    let another = json!({ "label": "o", "role": "owner", "is_operator": true });
    let replacing = key_of(&owner, &place, another.clone()).await;
    replacing.get("/v1/accounts").await.expect(200);
    stranger.post("/v1/admin_keys", another).await.expect(403);
    for body in [
        json!({ "label": "o", "role": "admin", "is_operator": true }),
        json!({ "label": "o", "role": "owner", "scopes": ["account:read"], "is_operator": true }),
    ] {
        let refused = owner.post("/v1/admin_keys", body).await.expect(422);
        assert_eq!(refused.fields(), ["is_operator"]);
    }
    let wrong = owner.post("/v1/accounts", json!({ "name": " ", "email": "kim" })).await;
    assert_eq!(wrong.expect(422).fields(), ["name", "email"]);
}

pub async fn members_are_made_changed_and_removed(place: Place) {
    let owner = place.owner().await;
    let body = json!({ "email": "Kim@Example.com", "name": "Kim", "role": "viewer" });
    let made = owner.post("/v1/members", body).await.expect(201);
    assert_eq!(made.json["email"], "kim@example.com");
    let path = format!("/v1/members/{}", made.id());
    let twice = owner.post("/v1/members", json!({ "email": "KIM@example.com", "role": "admin" }));
    assert_eq!(twice.await.expect(409).fields(), ["email"]);
    for email in ["", "kim", "@x", "kim@", "a@b@c", "a b@c", "kim@exämple.com"] {
        let refused = owner.post("/v1/members", json!({ "email": email, "role": "viewer" })).await;
        assert_eq!(refused.expect(422).fields(), ["email"], "{email}");
    }
    let changed = owner.patch(&path, None, json!({ "role": "billing", "name": null })).await;
    let changed = changed.expect(200);
    assert_eq!((&changed.json["role"], &changed.json["name"]), (&json!("billing"), &Json::Null));
    assert_eq!(
        owner.patch(&path, None, json!({ "role": "king" })).await.expect(422).fields(),
        ["role"]
    );
    let roles = |answer: super::client::Answer| answer.json["data"].as_array().unwrap().len();
    assert_eq!(roles(owner.get("/v1/members").await), 2);
    assert_eq!(roles(owner.get("/v1/members?role=billing").await), 1);
    let gone = owner.delete(&path).await.expect(200);
    assert!(gone.json["removed_at"].is_string());
    owner.patch(&path, None, json!({ "name": "x" })).await.expect(404);
    owner.delete(&path).await.expect(404);
    assert_eq!(roles(owner.get("/v1/members").await), 1);
    assert_eq!(roles(owner.get("/v1/members?removed=true").await), 2);
    // The address is free again.
    assert_ne!(member(&owner, "kim@example.com", "viewer").await, made.id());
}

pub async fn an_owner_always_stays(place: Place) {
    let owner = place.owner().await;
    let first = owner.get("/v1/members").await.json["data"][0]["id"].as_str().unwrap().to_owned();
    let first = format!("/v1/members/{first}");
    owner.delete(&first).await.expect(409);
    owner.patch(&first, None, json!({ "role": "admin" })).await.expect(409);
    owner.patch(&first, None, json!({ "name": "Still" })).await.expect(200);
    let second = format!("/v1/members/{}", member(&owner, "two@example.com", "owner").await);
    // Of two that leave each other as the last one, one comes through.
    let tries: Vec<_> = [first.clone(), second.clone()]
        .into_iter()
        .map(|path| {
            let owner = owner.clone();
            tokio::spawn(async move { owner.delete(&path).await.status.as_u16() })
        })
        .collect();
    let mut statuses = Vec::new();
    for one in tries {
        statuses.push(one.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let left = owner.get("/v1/members?role=owner").await;
    assert_eq!(left.json["data"].as_array().unwrap().len(), 1);
}

pub async fn a_key_never_may_more_than_its_member(place: Place) {
    let owner = place.owner().await;
    let kim = member(&owner, "kim@example.com", "admin").await;
    let path = format!("/v1/members/{kim}");
    let site = |slug: &str| json!({ "slug": slug, "origin": "https://api.example.com" });
    let refused = json!({ "label": "k", "role": "owner", "member_id": kim });
    let refused = owner.post("/v1/admin_keys", refused).await.expect(422);
    assert_eq!(refused.fields(), ["role"]);
    let unknown = json!({ "label": "k", "role": "viewer", "member_id": "mem_none" });
    owner.post("/v1/admin_keys", unknown).await.expect(404);
    let key = json!({ "label": "k", "role": "admin", "member_id": kim });
    let key = key_of(&owner, &place, key).await;
    key.post("/v1/sites", site("one")).await.expect(201);
    // What it makes is the member's too, and nobody else's.
    let child = key.post("/v1/admin_keys", json!({ "label": "c", "role": "admin" })).await;
    let child = child.expect(201);
    assert_eq!(child.json["member_id"], kim);
    let child = Client::new(place.router(), child.json["secret"].as_str().unwrap().to_owned());
    let other = member(&owner, "lee@example.com", "admin").await;
    let foreign = json!({ "label": "f", "role": "viewer", "member_id": other });
    assert_eq!(key.post("/v1/admin_keys", foreign).await.expect(422).fields(), ["member_id"]);
    let listed = owner.get(&format!("/v1/admin_keys?member_id={kim}")).await;
    assert_eq!(listed.json["data"].as_array().unwrap().len(), 2);
    // A role counts at once, downwards and upwards, but never past the key's own.
    owner.patch(&path, None, json!({ "role": "viewer" })).await.expect(200);
    for client in [&key, &child] {
        client.get("/v1/sites").await.expect(200);
        client.post("/v1/sites", site("two")).await.expect(403);
    }
    owner.patch(&path, None, json!({ "role": "owner" })).await.expect(200);
    key.post("/v1/sites", site("three")).await.expect(201);
    key.post("/v1/members", json!({ "email": "x@example.com", "role": "viewer" }))
        .await
        .expect(403);
    // Removed, all are refused, and stay so when the person comes back.
    owner.delete(&path).await.expect(200);
    member(&owner, "kim@example.com", "admin").await;
    for client in [&key, &child] {
        client.get("/v1/sites").await.expect(401);
    }
    let late = json!({ "label": "l", "role": "viewer", "member_id": kim });
    owner.post("/v1/admin_keys", late).await.expect(404);
}
