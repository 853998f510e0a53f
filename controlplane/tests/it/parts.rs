//! Endpoints of what is in a site, of customers, subscriptions, tokens and admin keys.

use policy::token::{self, TokenHash};
use serde_json::{Value as Json, json};

use super::client::Client;
use super::place::Place;
use super::samples::{self, Ids};
use crate::storage::{PlanRevision, Token};

async fn owner_with_samples(place: &Place) -> (Client, Ids) {
    let owner = place.owner().await;
    let ids = samples::make(&owner).await;
    (owner, ids)
}

pub async fn resources_never_contradict_each_other(place: Place) {
    let (owner, ids) = owner_with_samples(&place).await;
    let path = format!("/v1/sites/{}/resources", ids["site_id"]);
    let check = async |body: Json, status: u16, fields: &[&str]| {
        let answer = owner.post(&path, body).await.expect(status);
        assert_eq!(answer.fields(), fields, "{}", answer.text);
        answer
    };
    check(json!({ "pattern": "/open", "access": "free", "methods": ["GET"] }), 201, &[]).await;
    let twice = check(json!({ "pattern": "/{x}/*" }), 201, &[]).await;
    let refused = check(json!({ "pattern": "/*/*" }), 422, &["pattern"]).await;
    assert!(refused.text.contains(&twice.id()), "the other one is named: {}", refused.text);
    check(json!({ "pattern": "api" }), 422, &["pattern"]).await;
    check(json!({ "pattern": "/a", "cost": 0 }), 422, &["cost"]).await;
    check(json!({ "pattern": "/a", "access": "maybe" }), 422, &["access"]).await;
    let one = format!("{path}/{}", twice.id());
    owner.patch(&one, None, json!({ "pattern": "/open" , "methods": ["GET"]})).await.expect(422);
    let changed = owner.patch(&one, None, json!({ "cost": 7 })).await.expect(200);
    assert_eq!(changed.json["cost"], 7);
    // A pattern that a plan names stays.
    let plan = json!({ "reference": "narrow", "resources": ["/{x}/*"] });
    let plans = format!("/v1/sites/{}/plans", ids["site_id"]);
    let plan = owner.post(&plans, plan).await.expect(201).id();
    owner.delete(&one).await.expect(409);
    owner.patch(&one, None, json!({ "pattern": "/y/*" })).await.expect(409);
    owner.delete(&format!("{plans}/{plan}")).await.expect(200);
    owner.delete(&one).await.expect(200);
    owner.get(&format!("/v1/sites/site_none/resources/{}", twice.id())).await.expect(404);
}

pub async fn plans_change_now_or_with_the_next_period(place: Place) {
    let (owner, ids) = owner_with_samples(&place).await;
    let plans = format!("/v1/sites/{}/plans", ids["site_id"]);
    let path = format!("{plans}/{}", ids["plan_id"]);
    let quota = |requests: u64| json!({ "requests": requests, "per": "month" });
    let check = async |patch: Json, status: u16, fields: &[&str]| {
        let answer = owner.patch(&path, None, patch).await.expect(status);
        assert_eq!(answer.fields(), fields, "{}", answer.text);
        answer
    };
    let later = json!({ "quota": quota(5), "applies": "next_period" });
    assert_eq!(check(later, 200, &[]).await.json["quota"]["requests"], 5);
    let account = place.store.accounts(crate::storage::Window { limit: 1, starting_after: None });
    let account = account.await.unwrap().unwrap().rows[0].id.clone();
    let kept = place.store.tenant(&account).all::<PlanRevision>(9, |query| query).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].settings.contains("1000"), "{kept:?}");
    check(json!({ "quota": quota(6), "applies": "now" }), 200, &[]).await;
    check(json!({ "applies": "someday" }), 422, &["applies"]).await;
    check(json!({ "reference": "other" }), 422, &["reference"]).await;
    check(json!({ "quota": { "per": "fortnight" } }), 422, &["quota.per"]).await;
    check(json!({ "quota": { "requests": 1_000_000_000_000_000_u64 } }), 422, &["quota.requests"])
        .await;
    check(json!({ "overage_cap": 5 }), 422, &["overage_cap"]).await;
    check(json!({ "resources": ["/nowhere"] }), 422, &["resources"]).await;
    let unlimited = check(json!({ "quota": null, "name": "Free for all" }), 200, &[]).await;
    assert!(unlimited.json["quota"].is_null());
    let taken = owner.post(&plans, json!({ "reference": "pro" })).await.expect(409);
    assert_eq!(taken.fields(), ["reference"]);
}

pub async fn what_is_in_use_stays(place: Place) {
    let (owner, ids) = owner_with_samples(&place).await;
    let site = format!("/v1/sites/{}", ids["site_id"]);
    let plan = format!("{site}/plans/{}", ids["plan_id"]);
    let customer = format!("/v1/customers/{}", ids["customer_id"]);
    for path in [&site, &plan, &customer] {
        owner.delete(path).await.expect(409);
    }
    let subscription = format!("/v1/subscriptions/{}", ids["subscription_id"]);
    owner.delete(&subscription).await.expect(200);
    owner.patch(&subscription, None, json!({ "status": "paused" })).await.expect(409);
    let body = json!({ "subscription_id": ids["subscription_id"] });
    owner.post("/v1/tokens", body).await.expect(409);
    for path in [&plan, &customer, &site] {
        owner.delete(path).await.expect(200);
    }
    let body = json!({ "site_id": ids["site_id"], "plan_id": ids["plan_id"], "customer_id": ids["customer_id"] });
    owner.post("/v1/subscriptions", body).await.expect(409);
    owner.post(&format!("{site}/plans"), json!({})).await.expect(409);
}

pub async fn subscriptions_keep_what_use_is_counted_under(place: Place) {
    let (owner, ids) = owner_with_samples(&place).await;
    let path = format!("/v1/subscriptions/{}", ids["subscription_id"]);
    let check = async |patch: Json, status: u16, fields: &[&str]| {
        let answer = owner.patch(&path, None, patch).await.expect(status);
        assert_eq!(answer.fields(), fields, "{}", answer.text);
        answer
    };
    let anchor = "2026-10-31T12:00:00Z";
    let past_due = json!({ "status": "past_due", "past_due_since": "2026-11-02T00:00:00+01:00", "period_anchor": anchor });
    let changed = check(past_due, 200, &[]).await;
    assert_eq!(changed.json["past_due_since"], "2026-11-01T23:00:00Z");
    assert_eq!(changed.json["period_anchor"], anchor);
    check(json!({ "status": "asleep" }), 422, &["status"]).await;
    check(json!({ "period_anchor": "yesterday" }), 422, &["period_anchor"]).await;
    check(json!({ "site_id": "site_x" }), 422, &["site_id"]).await;
    check(json!({ "customer_id": "cus_x" }), 422, &["customer_id"]).await;
    check(json!({ "reference": "x" }), 422, &["reference"]).await;
    check(json!({ "plan_id": "plan_x" }), 404, &[]).await;
    // A plan of another site is none of this one's.
    let other = json!({ "slug": "other", "origin": "https://other.example.com" });
    let other = owner.post("/v1/sites", other).await.expect(201).id();
    let theirs = owner.post(&format!("/v1/sites/{other}/plans"), json!({})).await.expect(201).id();
    check(json!({ "plan_id": theirs }), 404, &[]).await;
    let mut body = json!({ "site_id": ids["site_id"], "plan_id": ids["plan_id"], "customer_id": ids["customer_id"],
        "reference": "sub_acme" });
    let made = owner.post("/v1/subscriptions", body.clone()).await.expect(201);
    assert_eq!(
        (&made.json["status"], &made.json["reference"]),
        (&json!("active"), &json!("sub_acme"))
    );
    owner.delete(&format!("/v1/subscriptions/{}", made.id())).await.expect(200);
    // Not even then is the reference free: use is counted under it.
    assert_eq!(
        owner.post("/v1/subscriptions", body.clone()).await.expect(409).fields(),
        ["reference"]
    );
    body["reference"] = " x".into();
    assert_eq!(owner.post("/v1/subscriptions", body).await.expect(422).fields(), ["reference"]);
    let listed = |query: String| {
        let owner = owner.clone();
        async move { owner.get(&query).await.expect(200).json["data"].as_array().unwrap().len() }
    };
    let of = |name: &str| format!("/v1/subscriptions?{name}={}", ids[name]);
    assert_eq!(listed(of("customer_id")).await, 1);
    assert_eq!(listed(of("plan_id") + "&archived=true").await, 2);
    assert_eq!(listed(format!("/v1/subscriptions?site_id={other}")).await, 0);
}

pub async fn a_token_is_shown_once(place: Place) {
    let (owner, ids) = owner_with_samples(&place).await;
    let body =
        json!({ "subscription_id": ids["subscription_id"], "label": "laptop", "mode": "test" });
    let first = owner.post_once("/v1/tokens", "once", body.clone()).await.expect(201);
    let text = first.json["secret"].as_str().unwrap().to_owned();
    assert_eq!(token::check(text.as_bytes()), Ok(token::Mode::Test));
    assert_eq!(first.json["last_four"], text[text.len() - 4..]);
    assert_eq!(first.json["prefix"], "pf_test_");
    let again = owner.post_once("/v1/tokens", "once", body).await.expect(201);
    assert_eq!((again.id(), &again.json["secret"]), (first.id(), &Json::Null));
    let window = crate::storage::Window { limit: 1, starting_after: None };
    let account = place.store.accounts(window).await.unwrap().unwrap().rows[0].id.clone();
    let tenant = place.store.tenant(&account);
    let row = tenant.get::<Token>(&first.id()).await.unwrap().unwrap();
    assert_eq!(row.hash, TokenHash::of(text.as_bytes()).0);
    let shown = owner.get(&format!("/v1/tokens/{}", first.id())).await.expect(200);
    let list = owner.get("/v1/tokens").await.expect(200);
    let audit = tenant.all::<crate::storage::AuditEntry>(200, |query| query).await.unwrap();
    let everything = format!("{row:?}{}{}{}{audit:?}", again.text, shown.text, list.text);
    let secret_part = &text[8..40];
    assert!(!everything.contains(secret_part), "the token stands somewhere");
}

pub async fn tokens_are_imported_rotated_restricted_and_revoked(place: Place) {
    let (owner, ids) = owner_with_samples(&place).await;
    let (path, subscription) = (format!("/v1/tokens/{}", ids["token_id"]), &ids["subscription_id"]);
    let version = |answer: &super::client::Answer| answer.json["version"].as_i64().unwrap();
    let subscription_path = format!("/v1/subscriptions/{subscription}");
    let before = version(&owner.get(&subscription_path).await);
    let check = async |patch: Json, status: u16, fields: &[&str]| {
        let answer = owner.patch(&path, None, patch).await.expect(status);
        assert_eq!(answer.fields(), fields, "{}", answer.text);
        answer
    };
    let narrow = json!({ "allow_from": ["203.0.113.0/24"], "resources": ["/api/*"], "expires_at": "2031-01-01T00:00:00Z" });
    let narrowed = check(narrow.clone(), 200, &[]).await;
    for name in ["allow_from", "resources", "expires_at"] {
        assert_eq!(narrowed.json[name], narrow[name]);
    }
    // The subscription is what nodes are sent.
    assert_eq!(version(&owner.get(&subscription_path).await), before + 1);
    check(json!({ "allow_from": [] }), 422, &["allow_from"]).await;
    check(json!({ "allow_from": ["nowhere"] }), 422, &["allow_from"]).await;
    check(json!({ "resources": ["/nowhere"] }), 422, &["resources"]).await;
    check(json!({ "secret": "pf_live_x" }), 422, &["secret"]).await;

    let rotated =
        owner.post(&format!("{path}/rotate"), json!({ "overlap_seconds": 60 })).await.expect(201);
    assert!(token::check(rotated.json["secret"].as_str().unwrap().as_bytes()).is_ok());
    assert_eq!(rotated.json["allow_from"], narrow["allow_from"]);
    let old = owner.get(&path).await.expect(200);
    assert_eq!(old.json["rotated_to"], rotated.id());
    assert!(old.json["expires_at"].as_str().unwrap() < "2031", "{}", old.text);
    owner.post(&format!("{path}/rotate"), json!({})).await.expect(409);
    let new = format!("/v1/tokens/{}", rotated.id());
    let wrong = owner.post(&format!("{new}/rotate"), json!({ "overlap_seconds": -1 })).await;
    assert_eq!(wrong.expect(422).fields(), ["overlap_seconds"]);

    let gone = owner.delete(&new).await.expect(200);
    assert!(gone.json["revoked_at"].is_string());
    assert_eq!(owner.delete(&new).await.expect(200).json, gone.json);
    owner.patch(&new, None, json!({ "label": "x" })).await.expect(409);

    let hash = "9F86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let import = json!({ "subscription_id": subscription, "sha256": hash, "last_four": "1234" });
    let imported = owner.post("/v1/tokens/import", import.clone()).await.expect(201);
    assert_eq!(imported.json["last_four"], "1234");
    // Who may bring tokens along by their hashes is shown them, and nobody else is.
    let path = format!("/v1/tokens/{}", imported.id());
    assert_eq!(imported.json["sha256"], hash.to_ascii_lowercase());
    for (body, is_shown) in [
        (json!({ "label": "a", "role": "admin" }), true),
        (json!({ "label": "b", "role": "billing" }), false),
        (json!({ "label": "v", "role": "viewer" }), false),
        (json!({ "label": "w", "role": "admin", "scopes": ["tokens:write"] }), true),
        (json!({ "label": "r", "role": "admin", "scopes": ["tokens:read"] }), false),
    ] {
        let made = owner.post("/v1/admin_keys", body.clone()).await.expect(201);
        let key = made.json["secret"].as_str().unwrap().to_owned();
        let key = super::client::Client::new(place.router(), key);
        let shown = key.get(&path).await.expect(200);
        let listed = key.get("/v1/tokens").await.expect(200);
        for text in [shown.text, listed.text] {
            assert_eq!(text.contains("sha256"), is_shown, "{body}: {text}");
        }
    }
    assert_eq!(owner.post("/v1/tokens/import", import).await.expect(409).fields(), ["sha256"]);
    let bad = json!({ "subscription_id": subscription, "sha256": "xyz" });
    assert_eq!(owner.post("/v1/tokens/import", bad).await.expect(422).fields(), ["sha256"]);
    let count = owner.get("/v1/tokens").await.json["data"].as_array().unwrap().len();
    let all = owner.get("/v1/tokens?revoked=true").await.json["data"].as_array().unwrap().len();
    assert_eq!((count, all), (2, 3));
}

pub async fn admin_keys_give_no_more_than_they_have(place: Place) {
    let owner = place.owner().await;
    let make = async |client: &Client, body: Json, status: u16| {
        let answer = client.post("/v1/admin_keys", body).await.expect(status);
        let key = answer.json["secret"].as_str().unwrap_or_default().to_owned();
        (answer, Client::new(place.router(), key))
    };
    let (_, viewer) = make(&owner, json!({ "label": "v", "role": "viewer" }), 201).await;
    viewer.get("/v1/sites").await.expect(200);
    let site = json!({ "slug": "a", "origin": "https://a.example.com" });
    viewer.post("/v1/sites", site.clone()).await.expect(403);
    make(&viewer, json!({ "label": "v", "role": "viewer" }), 403).await;
    let (_, admin) = make(&owner, json!({ "label": "a", "role": "admin" }), 201).await;
    let (refused, _) = make(&admin, json!({ "label": "o", "role": "owner" }), 422).await;
    assert_eq!(refused.fields(), ["role"]);
    let scopes = json!(["sites:write", "admin_keys:write"]);
    let (_, scoped) =
        make(&owner, json!({ "label": "s", "role": "admin", "scopes": scopes }), 201).await;
    scoped.post("/v1/sites", site).await.expect(201);
    scoped.get("/v1/customers").await.expect(403);
    // What it makes is as narrow, and may be narrower alone.
    let (child, narrow) = make(&scoped, json!({ "label": "c", "role": "admin" }), 201).await;
    assert_eq!(child.json["scopes"], scopes);
    narrow.get("/v1/customers").await.expect(403);
    let wide =
        json!({ "label": "w", "role": "viewer", "scopes": ["customers:read", "sites:sing"] });
    let (refused, _) = make(&scoped, wide, 422).await;
    assert_eq!(refused.fields(), ["scopes[0]", "scopes[1]"]);
    let expired = json!({ "label": "e", "role": "viewer", "expires_at": "2020-01-01T00:00:00Z" });
    let (refused, _) = make(&owner, expired, 422).await;
    assert_eq!(refused.fields(), ["expires_at"]);
    // Revoked, it is refused from the next request on.
    let path = format!("/v1/admin_keys/{}", child.id());
    owner.delete(&path).await.expect(200);
    narrow.get("/v1/sites").await.expect(401);
    let first =
        owner.get("/v1/admin_keys?limit=100").await.json["data"].as_array().unwrap().clone();
    let first = first.iter().find(|key| key["role"] == "owner").unwrap()["id"].as_str().unwrap();
    admin.delete(&format!("/v1/admin_keys/{first}")).await.expect(403);
}
