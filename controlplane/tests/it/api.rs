//! What endpoints share, shown by sites.

use serde_json::{Value as Json, json};

use crate::api::ApiSettings;
use crate::api::rate::RateLimit;
use crate::secrets::Keyring;
use crate::storage::{Site, WebhookEndpoint, column};
use crate::world::System;
use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::client::Client;
use super::place::Place;

fn site(slug: &str) -> Json {
    json!({ "slug": slug, "origin": "https://api.example.com" })
}

pub async fn keys_are_checked(place: Place) {
    let owner = place.owner().await;
    owner.get("/v1/sites").await.expect(200);
    let typo = owner.key.replace("pfa_", "pfa_x");
    let unknown = crate::init::new_admin_key(&crate::world::System).0;
    for key in [String::new(), typo, unknown, "pf_live_x".to_owned()] {
        let answer = Client::new(place.router(), key).get("/v1/sites").await.expect(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json["request_id"], answer.header("payfence-request-id"));
    }
    let rate_limit = RateLimit { per_second: 1, burst: 2 };
    let few = ApiSettings { rate_limit, ..ApiSettings::default() };
    let few = Client::new(place.router_with(few), owner.key.clone());
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let answer = few.get("/v1/sites").await;
        if answer.status == 429 {
            assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        }
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}");
}

pub async fn bodies_are_bounded_and_read_strictly(place: Place) {
    let owner = place.owner().await;
    let send = async |body: Vec<u8>, kind: &str| {
        owner.send(http::Method::POST, "/v1/sites", &[("content-type", kind)], body).await
    };
    let json = "application/json";
    send(vec![b' '; (1 << 20) + 1], json).await.expect(413);
    send(b"{}".to_vec(), "text/plain").await.expect(415);
    send("[".repeat(100).into_bytes(), json).await.expect(400);
    send(b"{\"slug\":".to_vec(), json).await.expect(400);
    let unknown = owner.post("/v1/sites", json!({ "slug": "a", "origin": "x", "orign": 1 })).await;
    assert_eq!(unknown.expect(422).fields(), ["orign"]);
    let wrong = owner.post("/v1/sites", json!({ "slug": "A b", "origin": "ftp://x" })).await;
    let wrong = wrong.expect(422);
    assert_eq!(wrong.fields(), ["origin", "slug"]);
    owner.get("/v1/nothing").await.expect(404);
    owner.send(http::Method::PUT, "/v1/sites", &[], Vec::new()).await.expect(405);
    assert_eq!(owner.get("/v1/sites?limit=0").await.expect(422).fields(), ["limit"]);
    owner.get("/v1/sites?limit=x").await.expect(400);
    owner.get("/v1/sites?lmit=1").await.expect(400);
    for query in ["audit?actor_id=%00", "tokens?site_id=a%00", "audit?starting_after=%00"] {
        owner.get(&format!("/v1/{query}")).await.expect(400);
    }
    owner.get("/v1/members/%00").await.expect(404);
    owner.get("/v1/sites/%ff").await.expect(404);
    owner.get("/openapi.json").await.expect(200);
    assert!(owner.get("/docs").await.expect(200).text.contains("Make a site"));
    owner.get("/healthz").await.expect(200);
}

pub async fn sites_are_made_read_changed_and_archived(place: Place) {
    let owner = place.owner().await;
    let body = json!({ "slug": "weather", "origin": "https://api.example.com/v2", "hosts": ["api.weather.example"],
        "connect_timeout_ms": 2000 });
    let made = owner.post("/v1/sites", body.clone()).await.expect(201);
    let path = format!("/v1/sites/{}", made.id());
    assert_eq!((made.header("location"), made.header("etag")), (&*path, "\"v1\""));
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&made.json[name], value);
    }
    let read = owner.get(&path).await.expect(200);
    assert_eq!((&read.json, read.header("etag")), (&made.json, "\"v1\""));
    let change = json!({ "name": "Weather", "connect_timeout_ms": null });
    let changed = owner.patch(&path, None, change).await.expect(200);
    assert_eq!(changed.json["name"], "Weather");
    assert!(changed.json["connect_timeout_ms"].is_null());
    assert_eq!(changed.json["origin"], "https://api.example.com/v2");
    let refused = owner.patch(&path, None, json!({ "slug": "other" })).await.expect(422);
    assert_eq!(refused.fields(), ["slug"]);
    let gone = owner.delete(&path).await.expect(200);
    assert!(gone.json["archived_at"].is_string());
    owner.patch(&path, None, json!({ "name": "x" })).await.expect(409);
    assert_eq!(owner.get("/v1/sites").await.json["data"], json!([]));
    assert_eq!(owner.get("/v1/sites?archived=true").await.json["data"][0]["id"], made.id());
    // Slug and host are free again; the key is not given again.
    let again = owner.post("/v1/sites", body).await.expect(201);
    let tenant =
        place.store.tenant(gone_account(&place).await.as_str()).all::<Site>(9, |q| q).await;
    let keys: Vec<i64> = tenant.unwrap().iter().map(|site| site.key).collect();
    assert!(keys.len() == 2 && keys[0] < keys[1], "{keys:?}");
    assert_ne!(again.id(), made.id());
}

async fn gone_account(place: &Place) -> String {
    let window = crate::storage::Window { limit: 1, starting_after: None };
    place.store.accounts(window).await.unwrap().unwrap().rows[0].id.clone()
}

pub async fn secrets_are_sealed_and_never_shown(place: Place) {
    let owner = place.owner().await;
    let mut body = site("sealed");
    body["origin_headers"] = json!({ "X-Gateway-Secret": "s3cret-value", "X-Other": "b" });
    let made = owner.post("/v1/sites", body).await.expect(201);
    assert_eq!(made.json["origin_header_names"], json!(["X-Gateway-Secret", "X-Other"]));
    let path = format!("/v1/sites/{}", made.id());
    let patch = json!({ "origin_headers": { "X-Other": null } });
    let changed = owner.patch(&path, None, patch).await.expect(200);
    assert_eq!(changed.json["origin_header_names"], json!(["X-Gateway-Secret"]));
    for answer in [&made, &changed, &owner.get(&path).await, &owner.get("/v1/sites").await] {
        assert!(!answer.text.contains("s3cret"), "{answer:?}");
    }
    let account = gone_account(&place).await;
    let tenant = place.store.tenant(&account);
    let row = tenant.get::<Site>(&made.id()).await.unwrap().unwrap();
    assert!(!row.settings.contains("s3cret"));
    let sealed = row.sealed_headers.clone().unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("s3cret"));
    let plain = place.keyring.open(&row.id, &sealed).unwrap();
    assert_eq!(plain, br#"{"X-Gateway-Secret":"s3cret-value"}"#);
    let audit = tenant.all::<crate::storage::AuditEntry>(100, |query| query).await.unwrap();
    assert!(audit.iter().all(|entry| !format!("{entry:?}").contains("s3cret")));
    let bad = json!({ "origin_headers": { "Host": "hidden-value" } });
    let refused = owner.patch(&path, None, bad).await.expect(422);
    assert!(!refused.text.contains("hidden-value"), "{refused:?}");
}

pub async fn keys_of_secrets_rotate(place: Place) {
    let owner = place.owner().await;
    let mut body = site("rotated");
    body["origin_headers"] = json!({ "X-Secret": "kept" });
    let id = owner.post("/v1/sites", body).await.expect(201).id();
    let account = gone_account(&place).await;
    let sealed = async || {
        let tenant = place.store.tenant(&account);
        tenant.get::<Site>(&id).await.unwrap().unwrap().sealed_headers.unwrap()
    };
    let endpoint = json!({ "url": "https://hooks.example.com/rotated" });
    let endpoint = owner.post("/v1/webhook-endpoints", endpoint).await.expect(201);
    let sealed_secrets = async || {
        let tenant = place.store.tenant(&account);
        tenant.get::<WebhookEndpoint>(&endpoint.id()).await.unwrap().unwrap().sealed_secrets
    };
    let old = place.text.clone();
    let new = Keyring::generate(&System).replacen('1', "2", 1);
    assert_eq!(place.store.rekey(&place.keyring).await.unwrap(), 0);
    let both = Keyring::parse(&format!("{new}{old}")).unwrap();
    assert_eq!(place.store.rekey(&both).await.unwrap(), 2);
    assert_eq!(place.store.rekey(&both).await.unwrap(), 0);
    let new = Keyring::parse(&new).unwrap();
    assert_eq!(new.open(&id, &sealed().await).unwrap(), br#"{"X-Secret":"kept"}"#);
    let secret = new.open(&endpoint.id(), &sealed_secrets().await).unwrap();
    assert_eq!(secret, endpoint.json["secret"].as_str().unwrap().as_bytes());
    assert!(place.store.rekey(&place.keyring).await.is_err(), "a key that is missing is said");
    // Whatever else is sealed is to be sealed anew, too: say it in `storage/rekey.rs`, and try it above.
    let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/storage/schema");
    let mut sealed_columns = Vec::new();
    for step in std::fs::read_dir(schema).unwrap() {
        let sql = std::fs::read_to_string(step.unwrap().path()).unwrap();
        let words = sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        sealed_columns.extend(words.filter(|word| word.starts_with("sealed_")).map(str::to_owned));
    }
    sealed_columns.sort_unstable();
    assert_eq!(sealed_columns, ["sealed_headers", "sealed_secrets"]);
}

pub async fn what_is_taken_is_said_by_field(place: Place) {
    let (owner, stranger) = (place.owner().await, place.stranger().await);
    let mut body = site("taken");
    body["hosts"] = json!(["a.example"]);
    owner.post("/v1/sites", body.clone()).await.expect(201);
    let refused = stranger.post("/v1/sites", body.clone()).await.expect(409);
    assert_eq!(refused.fields(), ["slug"]);
    body["slug"] = "free".into();
    let refused = stranger.post("/v1/sites", body.clone()).await.expect(409);
    assert_eq!(refused.fields(), ["hosts"]);
    // Nothing of the refused one stayed.
    body["hosts"] = json!(["b.example"]);
    stranger.post("/v1/sites", body).await.expect(201);
}

pub async fn private_origins_are_refused(place: Place) {
    let owner = place.owner().await;
    let private = json!({ "slug": "inner", "origin": "http://169.254.169.254/latest" });
    let refused = owner.post("/v1/sites", private.clone()).await.expect(422);
    assert_eq!(refused.fields(), ["origin"]);
    let made = owner.post("/v1/sites", site("outer")).await.expect(201);
    let patch = json!({ "origin": "http://localhost:9000" });
    owner.patch(&format!("/v1/sites/{}", made.id()), None, patch).await.expect(422);
    let settings = ApiSettings { allow_private_origins: true, ..ApiSettings::default() };
    let allowed = Client::new(place.router_with(settings), owner.key.clone());
    allowed.post("/v1/sites", private).await.expect(201);
}

pub async fn versions_guard_updates(place: Place) {
    let owner = place.owner().await;
    let made = owner.post("/v1/sites", site("guarded")).await.expect(201);
    let path = format!("/v1/sites/{}", made.id());
    let patch = |name: &str| json!({ "name": name });
    owner.patch(&path, Some("\"v1\""), patch("one")).await.expect(200);
    owner.patch(&path, Some("\"v1\""), patch("two")).await.expect(412);
    owner.patch(&path, Some("*"), patch("three")).await.expect(200);
    // Of many that saw the same version one comes through.
    let tries: Vec<_> = (0..8)
        .map(|number| {
            let (owner, path) = (owner.clone(), path.clone());
            tokio::spawn(async move {
                let patch = json!({ "name": format!("n{number}") });
                owner.patch(&path, Some("\"v3\""), patch).await.status.as_u16()
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for one in tries {
        statuses.push(one.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
    let stale = [("if-match", "\"v1\"")];
    owner.send(http::Method::DELETE, &path, &stale, Vec::new()).await.expect(412);
}

pub async fn one_idempotency_key_makes_one_thing(place: Place) {
    let (owner, stranger) = (place.owner().await, place.stranger().await);
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let owner = owner.clone();
            tokio::spawn(async move { owner.post_once("/v1/sites", "k1", site("once")).await })
        })
        .collect();
    let mut answers = Vec::new();
    for one in tries {
        answers.push(one.await.unwrap().expect(201));
    }
    let first: Vec<_> =
        answers.iter().filter(|answer| answer.header("idempotent-replayed").is_empty()).collect();
    assert_eq!(first.len(), 1, "{answers:?}");
    for answer in &answers {
        assert_eq!(
            (&answer.json, answer.header("etag"), answer.header("location")),
            (&first[0].json, "\"v1\"", first[0].header("location"))
        );
    }
    let tenant = gone_account(&place).await;
    let tenant = place.store.tenant(&tenant);
    let of_ours = tenant.count::<Site>(|q| q.filter(column::Site::Slug.eq("once"))).await.unwrap();
    let first_account = owner.get("/v1/sites").await.json["data"].as_array().unwrap().len();
    assert_eq!((of_ours, first_account), (0, 1));
    let other = owner.post_once("/v1/sites", "k1", site("other")).await.expect(422);
    assert!(other.text.contains("idempotency_key_reused"));
    // A key is an account's own, and one that came to nothing is free.
    stranger.post_once("/v1/sites", "k1", site("theirs")).await.expect(201);
    owner
        .post_once("/v1/sites", "k2", json!({ "slug": "bad slug", "origin": "x" }))
        .await
        .expect(422);
    owner.post_once("/v1/sites", "k2", site("good")).await.expect(201);
    owner.post_once("/v1/sites", &"k".repeat(256), site("long")).await.expect(400);
}

pub async fn lists_are_paged(place: Place) {
    let owner = place.owner().await;
    let mut made = Vec::new();
    for number in 0..5 {
        made.insert(0, owner.post("/v1/sites", site(&format!("s{number}"))).await.expect(201).id());
    }
    let first = owner.get("/v1/sites?limit=3").await.expect(200);
    let ids = |json: &Json| -> Vec<String> {
        let data = json["data"].as_array().unwrap().iter();
        data.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((ids(&first.json), &first.json["has_more"]), (made[..3].to_vec(), &json!(true)));
    let rest =
        owner.get(&format!("/v1/sites?limit=3&starting_after={}", made[2])).await.expect(200);
    assert_eq!((ids(&rest.json), &rest.json["has_more"]), (made[3..].to_vec(), &json!(false)));
    let unknown = owner.get("/v1/sites?starting_after=site_x").await.expect(422);
    assert_eq!(unknown.fields(), ["starting_after"]);
}
