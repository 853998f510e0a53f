//! What holds for every operation that the OpenAPI document lists: nothing here names an endpoint but what it takes to send its request.
//!
//! In: the document, a control plane that sells, one of everything. Out: keys of requests, versions, pages, fields that are refused.
//! Always holds: an operation that is added is walked, or the walk fails and says what it needs.

use http::Method;
use serde_json::{Value as Json, json};

use super::client::{Answer, Client};
use super::place::{Place, actor};
use super::samples::{self, Ids};
use super::shop::{Shop, price};
use crate::api;

/// An operation with a request that it takes.
pub struct Operation {
    pub id: String,
    pub method: Method,
    pub template: String,
    pub path: String,
    pub body: Json,
    pub described: Json,
}

/// A control plane with one of everything, and one who owns another account.
pub struct Walk {
    pub shop: Shop,
    pub ids: Ids,
    pub other: Client,
    document: Json,
}

impl Walk {
    pub async fn of(place: Place) -> Self {
        let shop = Shop::open(place.clone()).await;
        let mut ids = samples::make(&shop.owner).await;
        shop.connect().await;
        let (site, plan) = (ids["site_id"].clone(), ids["plan_id"].clone());
        let plans = format!("/v1/sites/{site}/plans");
        let sold = json!({ "price": price(1900), "quota": { "requests": 5, "per": "month" } });
        shop.owner.patch(&format!("{plans}/{plan}"), None, sold).await.expect(200);
        let larger = json!({ "reference": "larger", "price": price(9900),
            "quota": { "requests": 9, "per": "month" } });
        ids.insert("larger_plan", shop.owner.post(&plans, larger).await.expect(201).id());
        let bought = buy(&shop, &site, &plan).await;
        ids.insert("bought", bought);
        ids.insert("checkout_id", shop.checkout().await["id"].as_str().unwrap().to_owned());
        let account = shop.owner.get("/v1/account").await.expect(200).id();
        ids.insert("stripe_event_id", super::stripe_inbox::told(&place, &shop.owner).await);
        let dead = json!({ "name": "dead" });
        ids.insert("dead_node", shop.owner.post("/v1/nodes", dead).await.expect(201).id());
        ids.insert("account_id", account);
        let other = crate::ids::new_id("acct", &crate::world::System);
        let mut change = place.store.change(&other, actor()).await.unwrap();
        let key = crate::init::make_account(&mut change, "Other", "other@example.com", false);
        let (_, key) = key.await.unwrap();
        change.commit().await.unwrap();
        let other = shop.owner.with_key(key);
        Self { shop, ids, other, document: api::document() }
    }

    /// Every operation, in an order in which each can be carried out.
    pub fn operations(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (template, methods) in self.document["paths"].as_object().unwrap() {
            for (method, described) in methods.as_object().unwrap() {
                operations.push(self.operation(template, method, described));
            }
        }
        // What ends something comes last; taking that back, after it; what has to be the first, first.
        operations.sort_by_key(|one| match &*one.id {
            "authorize_stripe_account" => 0,
            "cancel_subscription" => 2,
            "resume_subscription" => 3,
            _ => 1,
        });
        operations
    }

    fn operation(&self, template: &str, method: &str, described: &Json) -> Operation {
        let id = described["operationId"].as_str().unwrap().to_owned();
        let mut ids = self.ids.clone();
        match &*id {
            "declare_node_dead" => drop(ids.insert("node_id", ids["dead_node"].clone())),
            "change_plan"
            | "preview_plan"
            | "cancel_subscription"
            | "resume_subscription"
            | "open_portal" => {
                ids.insert("subscription_id", ids["bought"].clone());
                ids.insert("plan_id", ids["larger_plan"].clone());
            }
            _ => {}
        }
        let mut path = template.to_owned();
        for parameter in described["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] != "path" {
                continue;
            }
            let name = parameter["name"].as_str().unwrap();
            let value = ids.get(name).unwrap_or_else(|| {
                panic!("{template} has {{{name}}}: say in samples.rs how to make one")
            });
            path = path.replace(&format!("{{{name}}}"), value);
        }
        // Live where nothing is said, and here there are keys for tests alone.
        if template == "/v1/stripe/account" && method != "post" {
            path.push_str("?mode=test");
        }
        let schema = &described["requestBody"]["content"]["application/json"]["schema"];
        let mut body = match schema.is_null() {
            true => Json::Null,
            false => samples::body(schema, &self.document, &ids),
        };
        // What examples cannot know.
        let own = match &*id {
            "create_site" => json!({ "slug": "second", "origin": "https://second.example.com" }),
            "create_resource" => json!({ "pattern": "/second/*" }),
            "create_member" => json!({ "email": "second@example.com", "role": "viewer" }),
            "create_plan" => json!({ "reference": "second" }),
            "import_token" => json!({ "sha256": "ab".repeat(32) }),
            "create_webhook_endpoint" => json!({ "url": "https://hooks.example.com/second" }),
            "create_checkout"
            | "sync_billing"
            | "connect_stripe_account"
            | "authorize_stripe_account"
            | "set_stripe_fee" => json!({ "mode": "test" }),
            _ => json!({}),
        };
        for (field, value) in own.as_object().into_iter().flatten() {
            body[field] = value.clone();
        }
        let (template, described) = (template.to_owned(), described.clone());
        let method = method.to_uppercase().parse().unwrap();
        Operation { id, method, template, path, body, described }
    }

    /// Whose it is to send it: an account is connected to Stripe once.
    fn client(&self, operation: &Operation) -> &Client {
        match &*operation.id {
            "connect_stripe_account" | "authorize_stripe_account" => &self.other,
            _ => &self.shop.owner,
        }
    }

    /// How much was ever changed.
    async fn changes(&self) -> i64 {
        self.shop.place.store.raw_number("SELECT count(*) AS n FROM audit_log").await
    }

    /// That a request which succeeded is in the audit log, if it is to be.
    async fn expect_written(&self, operation: &Operation, answer: &Answer) {
        let (key, name) = (&self.client(operation).key, &operation.id);
        let hash = policy::token::TokenHash::of(key.as_bytes()).0;
        let store = &self.shop.place.store;
        let key = store.admin_key_by_hash(&hash).await.unwrap().unwrap().id;
        let request = answer.header("payfence-request-id");
        let sql = format!(
            "SELECT count(*) AS n FROM audit_log WHERE request_id = '{request}' AND actor_kind = 'admin_key' AND actor_id = '{key}' \
             AND action LIKE kind || '.%' AND row_id <> '' AND after IS NOT NULL"
        );
        let written = store.raw_number(&sql).await;
        let is_unwritten = UNWRITTEN.iter().any(|(unwritten, _)| unwritten == name);
        assert_eq!(written == 0, is_unwritten, "{name} wrote {written} entries");
    }

    /// The properties of the request's body.
    fn properties(&self, operation: &Operation) -> Vec<String> {
        let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
        let schema = samples::resolve(schema, &self.document);
        let names = schema["properties"].as_object().into_iter().flatten();
        names.map(|(name, _)| name.clone()).collect()
    }
}

/// A subscription that was bought; its id.
async fn buy(shop: &Shop, site: &str, plan: &str) -> String {
    let wanted = json!({ "site_id": site, "plan_id": plan, "mode": "test" });
    let session = shop.owner.post("/v1/checkouts", wanted).await.expect(201);
    let session = session.json["session_id"].as_str().unwrap().to_owned();
    shop.sandbox.pay(&session, stripe_sandbox::Outcome::Paid).unwrap();
    shop.see(&format!("/pay/walked/success?session_id={session}")).await.expect(200);
    shop.checkout().await["subscription_id"].as_str().unwrap().to_owned()
}

async fn send(
    client: &Client,
    operation: &Operation,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let (method, path) = (operation.method.clone(), &operation.path);
    client.send(method, path, headers, body.as_bytes().to_vec()).await
}

/// Links of Stripe's that let somebody in: the same request makes the next one, and none is kept.
const LINKS: &[&str] = &["authorize_stripe_account", "connect_stripe_account", "open_portal"];

/// The same POST with the same key is done once and answered alike, less its secret; another one is refused.
pub async fn every_post_is_done_once_for_its_key(place: Place) {
    let walk = Walk::of(place).await;
    let mut posts = 0;
    for operation in walk.operations() {
        if operation.method != Method::POST {
            continue;
        }
        posts += 1;
        let (name, client) = (&operation.id, walk.client(&operation));
        let key = [("idempotency-key", name.as_str())];
        let text = operation.body.to_string();
        let first = send(client, &operation, &key, &text).await;
        assert!(first.status.is_success(), "{name} {}: {}", operation.path, first.text);
        let before = walk.changes().await;
        let again = send(client, &operation, &key, &text).await;
        assert_eq!(again.status, first.status, "{name}: {}", again.text);
        if !LINKS.contains(&name.as_str()) {
            assert_eq!(walk.changes().await, before, "{name} was done twice");
            assert_eq!(again.header("idempotent-replayed"), "true", "{name}: {}", again.text);
            let mut given = first.json.clone();
            given.as_object_mut().unwrap().remove("secret");
            assert_eq!(again.json, given, "{name}");
            for header in ["etag", "location"] {
                assert_eq!(again.header(header), first.header(header), "{name} {header}");
            }
        }
        // One byte more is another request.
        let reused = send(client, &operation, &key, &format!("{text} ")).await;
        let kind = &reused.json["type"];
        assert_eq!(kind, "urn:payfence:problem:idempotency_key_reused", "{name}: {}", reused.text);
        assert_eq!(walk.changes().await, before, "{name} was done for another's key");
    }
    assert!(posts >= 30, "{posts} POSTs");
}

/// Who changes or ends what somebody else has changed since is told so.
pub async fn every_update_and_removal_is_guarded_by_a_version(place: Place) {
    let walk = Walk::of(place).await;
    let owner = &walk.shop.owner;
    let stale = [("if-match", "\"v9999\"")];
    let all = walk.operations();
    let changes = |method: &Method| matches!(*method, Method::PATCH | Method::DELETE);
    let patches = all.iter().filter(|one| one.method == Method::PATCH);
    // What others refer to goes last.
    let removals = all.iter().rev().filter(|one| one.method == Method::DELETE);
    let mut count = 0;
    for operation in patches.chain(removals) {
        count += 1;
        let name = &operation.id;
        let is_patch = operation.method == Method::PATCH;
        let body = if is_patch { "{}" } else { "" };
        let shown = owner.get(&operation.path).await.expect(200);
        assert!(shown.header("etag").starts_with("\"v"), "{name}: no ETag");
        let before = walk.changes().await;
        let refused = send(owner, operation, &stale, body).await;
        assert_eq!(refused.status, 412, "{name}: {}", refused.text);
        assert_eq!(walk.changes().await, before, "{name} changed something");
        // A node's lag moves by itself.
        let still = owner.get(&operation.path).await;
        assert_eq!(still.header("etag"), shown.header("etag"), "{name}");
        let fresh = [("if-match", shown.header("etag"))];
        let done = send(owner, operation, &fresh, body).await;
        // What is in use stays, whoever asks.
        let is_in_use = !is_patch && done.status == 409;
        assert!(done.status == 200 || is_in_use, "{name}: {}", done.text);
        if is_patch {
            assert!(done.header("etag").starts_with("\"v"), "{name}: no ETag");
        }
    }
    assert_eq!(count, all.iter().filter(|one| changes(&one.method)).count());
}

/// Lists are walked through one by one, and say what is wrong with where to begin.
pub async fn every_list_is_paged(place: Place) {
    let walk = Walk::of(place).await;
    let owner = &walk.shop.owner;
    let mut lists = 0;
    for operation in walk.operations().iter().filter(|one| one.method == Method::GET) {
        let name = &operation.id;
        let path = &operation.path;
        let mark = if path.contains('?') { '&' } else { '?' };
        let odd = owner.get(&format!("{path}{mark}nonsense=1")).await;
        let takes_any = operation.described["parameters"].to_string().contains("\"query\"");
        assert!(!takes_any || odd.status == 400, "{name} takes a parameter that it does not know");
        let answer = owner.get(path).await.expect(200);
        let is_list = answer.json["data"].is_array();
        assert_eq!(is_list, name.starts_with("list_") || name == "get_usage", "{name}");
        // Sums are no list of things: what is too much is refused.
        if !is_list || name == "get_usage" {
            continue;
        }
        lists += 1;
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("starting_after=cus_nobody", "starting_after"),
            ("starting_after=%27", "starting_after"),
        ] {
            let refused = owner.get(&format!("{path}?{query}")).await.expect(422);
            assert_eq!(refused.fields(), [field], "{name} {query}: {}", refused.text);
        }
        owner.get(&format!("{path}?limit=many")).await.expect(400);
        // Reading makes no entry, so the list stands still.
        let whole = owner.get(&format!("{path}?limit=100")).await.expect(200);
        let whole: Vec<Json> = whole.json["data"].as_array().unwrap().clone();
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = owner.get(&format!("{path}?limit=1{after}")).await.expect(200);
            let data = page.json["data"].as_array().unwrap();
            assert!(data.len() <= 1, "{name}: {}", page.text);
            seen.extend(data.iter().map(|one| one["id"].clone()));
            let (true, Some(last)) = (page.json["has_more"] == true, data.last()) else { break };
            after = format!("&starting_after={}", last["id"].as_str().unwrap());
        }
        let ids: Vec<Json> = whole.iter().map(|one| one["id"].clone()).collect();
        assert_eq!(seen, ids, "{name}");
    }
    assert!(lists > 15, "{lists} lists");
}

/// What an operation does not know or cannot read is named, and nothing is done.
pub async fn every_body_is_read_strictly(place: Place) {
    let walk = Walk::of(place).await;
    let mut fields = 0;
    for operation in walk.operations() {
        if operation.body.is_null() {
            continue;
        }
        let (name, client) = (&operation.id, walk.client(&operation));
        let before = walk.changes().await;
        let is_patch = operation.method == Method::PATCH;
        let base = if is_patch { json!({}) } else { operation.body.clone() };
        let with = |field: &str, value: Json| {
            let mut body = base.clone();
            body[field] = value;
            body.to_string()
        };
        let refused = send(client, &operation, &[], &with("nonsense", json!(1))).await.expect(422);
        assert_eq!(refused.fields(), ["nonsense"], "{name}: {}", refused.text);
        for field in walk.properties(&operation) {
            fields += 1;
            let refused = send(client, &operation, &[], &with(&field, json!([[[]]]))).await;
            assert_eq!(refused.status, 422, "{name}.{field}: {}", refused.text);
            let named = refused.fields();
            let is_named = named.first().is_some_and(|one| one.starts_with(field.as_str()));
            assert!(is_named, "{name}.{field}: {}", refused.text);
            let message = refused.json["errors"][0]["message"].as_str().unwrap();
            assert!(message.contains("expected"), "{name}.{field}: {message}");
        }
        let two = format!("{base} {{}}");
        for (body, status) in [("[]", 422), ("{", 400), (&*two, 400), ("null", 422)] {
            let refused = send(client, &operation, &[], body).await;
            assert_eq!(refused.status, status, "{name} {body}: {}", refused.text);
        }
        let deep = format!("{{\"nonsense\":{}", "[".repeat(100));
        send(client, &operation, &[], &deep).await.expect(400);
        let long = " ".repeat(crate::api::extract::BODY_BYTES_MAX + 1);
        send(client, &operation, &[], &long).await.expect(413);
        let kind = [("content-type", "text/plain")];
        send(client, &operation, &kind, "{}").await.expect(415);
        assert_eq!(walk.changes().await, before, "{name}: something was done all the same");
    }
    assert!(fields > 80, "{fields} fields");
}

/// Texts for people may have as many characters as is described, whatever characters they are, and not one more.
pub async fn every_text_has_the_length_that_is_described(place: Place) {
    let walk = Walk::of(place).await;
    let mut texts = 0;
    for operation in walk.operations() {
        let name = &operation.id;
        let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
        let schema = samples::resolve(schema, &walk.document);
        for (field, described) in schema["properties"].as_object().into_iter().flatten() {
            // A patch may have null as well.
            let described = match described["anyOf"].get(1) {
                Some(text) => text,
                None => described,
            };
            let is_text = described["pattern"].as_str().is_some_and(|it| it.starts_with("^[^"));
            let (true, Some(length_max)) = (is_text, described["maxLength"].as_u64()) else {
                continue;
            };
            texts += 1;
            let client = walk.client(&operation);
            let is_patch = operation.method == Method::PATCH;
            let mut body = if is_patch { json!({}) } else { operation.body.clone() };
            for (length, is_refused) in [(length_max, false), (length_max + 1, true)] {
                body[field] = "ü".repeat(usize::try_from(length).unwrap()).into();
                let answer = send(client, &operation, &[], &body.to_string()).await;
                let named = answer.fields().contains(&field.as_str());
                assert_eq!(named, is_refused, "{name}.{field} of {length}: {}", answer.text);
            }
            body[field] = " ".into();
            let blank = send(client, &operation, &[], &body.to_string()).await;
            assert_eq!(blank.fields(), [field.as_str()], "{name}.{field}: {}", blank.text);
        }
    }
    assert!(texts > 10, "{texts} texts");
}

/// What succeeds without an entry in the audit log, and why.
const UNWRITTEN: &[(&str, &str)] = &[
    ("authorize_stripe_account", "a link; the account is written down when its owner comes back"),
    ("open_portal", "a link; what is done there is Stripe's to tell"),
    ("preview_plan", "a question; nothing is changed here or there"),
];

/// Whatever changes something says who did it, to what, by which request.
pub async fn every_change_is_in_the_audit_log(place: Place) {
    let walk = Walk::of(place).await;
    let store = &walk.shop.place.store;
    // One that can be sent again.
    store.raw("UPDATE webhook_deliveries SET status = 'failed', next_at_ms = NULL").await;
    let all = walk.operations();
    let of = |method: Method| all.iter().filter(move |one| one.method == method);
    for operation in of(Method::POST).chain(of(Method::PATCH)).chain(of(Method::PUT)) {
        let is_post = operation.method == Method::POST;
        let body = if is_post { operation.body.to_string() } else { "{}".to_owned() };
        let answer = send(walk.client(operation), operation, &[], &body).await;
        assert!(answer.status.is_success(), "{}: {}", operation.id, answer.text);
        walk.expect_written(operation, &answer).await;
    }
    // What is in use stays, so that what uses it goes first, here and below; what was bought stays until Stripe charges no more, and a site
    // while a checkout of it may be paid.
    store.raw("UPDATE stripe_subscriptions SET stripe_status = 'canceled'").await;
    store.raw("UPDATE checkouts SET status = 'expired' WHERE status <> 'paid'").await;
    let owner = &walk.shop.owner;
    let listed = owner.get("/v1/subscriptions?limit=100").await.expect(200);
    for one in listed.json["data"].as_array().unwrap() {
        if one["id"] != walk.ids["subscription_id"] {
            let path = format!("/v1/subscriptions/{}", one["id"].as_str().unwrap());
            owner.delete(&path).await.expect(200);
        }
    }
    for operation in of(Method::DELETE).rev() {
        let answer = send(owner, operation, &[], "").await;
        assert!(answer.status.is_success(), "{}: {}", operation.id, answer.text);
        walk.expect_written(operation, &answer).await;
    }
}
