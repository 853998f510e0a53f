//! No route reaches another account's rows: all of them are tried, as the OpenAPI document lists them.

use http::Method;
use policy::budget::{Calendar, Period, Unit};
use policy::ids::entitlement_id;
use serde_json::{Value as Json, json};

use super::client::{Answer, Client};
use super::place::{Place, actor};
use super::quota::{request, terms};
use super::samples::{self, Ids};
use crate::api;
use crate::storage::Checkout;

/// A request of the walk.
struct Step {
    method: Method,
    path: String,
    body: Vec<u8>,
    /// Whether it names a row of the other account.
    names_theirs: bool,
}

/// Every operation of the document, with the ids of another account wherever ids are asked for.
fn steps(document: &Json, ids: &Ids) -> Vec<Step> {
    let mut steps = Vec::new();
    for (template, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let whole = step(template, method, operation, document, ids);
            steps.extend(more_ids(&whole, operation, document, ids));
            steps.push(whole);
        }
    }
    steps
}

/// The same request once more for each id that its body may have and need not. `object_id` and the like name no rows.
fn more_ids(step: &Step, operation: &Json, document: &Json, ids: &Ids) -> Vec<Step> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let schema = samples::resolve(schema, document);
    let mut more = Vec::new();
    for (name, _) in schema["properties"].as_object().into_iter().flatten() {
        if !name.ends_with("_id") {
            continue;
        }
        let id = ids.get(name.as_str()).unwrap_or_else(|| {
            panic!("{} takes {name}: say in samples.rs how to make one", step.path)
        });
        let mut body: Json = serde_json::from_slice(&step.body).unwrap_or_default();
        body[name] = id.as_str().into();
        let (method, path) = (step.method.clone(), step.path.clone());
        more.push(Step { method, path, body: body.to_string().into_bytes(), names_theirs: true });
    }
    more
}

fn step(template: &str, method: &str, operation: &Json, document: &Json, ids: &Ids) -> Step {
    let (mut path, mut query) = (template.to_owned(), Vec::new());
    let mut names_theirs = false;
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        match parameter["in"].as_str().unwrap() {
            "path" => {
                let id = ids.get(name).unwrap_or_else(|| {
                    panic!("{template} has {{{name}}}: say in samples.rs how to make one")
                });
                path = path.replace(&format!("{{{name}}}"), id);
                names_theirs = true;
            }
            "query" => query.extend(ids.get(name).map(|id| format!("{name}={id}"))),
            _ => {}
        }
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let body = if schema.is_null() { Json::Null } else { samples::body(schema, document, ids) };
    let text = body.to_string();
    names_theirs |= ids.values().any(|id| text.contains(id));
    let body = if body.is_null() { Vec::new() } else { text.into_bytes() };
    Step { method: method.to_uppercase().parse().unwrap(), path, body, names_theirs }
}

async fn walk(client: &Client, steps: &[Step]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for step in steps {
        let answer = client.send(step.method.clone(), &step.path, &[], step.body.clone()).await;
        answers.push(answer);
    }
    answers
}

/// All that a caller sees, for comparison.
async fn seen(client: &Client, ids: &Ids) -> Vec<String> {
    let document = api::document();
    let all = steps(&document, ids);
    // The operator's list of all accounts has the other account's own row, which it may change.
    let is_own = |step: &Step| step.method == Method::GET && step.path != "/v1/accounts";
    let reads: Vec<Step> = all.into_iter().filter(is_own).collect();
    // A refusal has the request's own id in it.
    let told = |answer: Answer| match answer.status.is_success() {
        true => answer.text,
        false => answer.status.to_string(),
    };
    walk(client, &reads).await.into_iter().map(told).collect()
}

/// What only Stripe can bring about, written as it would be.
async fn rows_of_billing(place: &Place, owner: &Client, ids: &Ids) -> Ids {
    let account = owner.get("/v1/account").await.expect(200).id();
    let mut change = place.store.change(&account, actor()).await.unwrap();
    let checkout = Checkout {
        site_id: ids["site_id"].clone(),
        plan_id: ids["plan_id"].clone(),
        mode: "test".to_owned(),
        status: "new".to_owned(),
        settings: r#"{"price_id":"price_1","success_url":"","cancel_url":""}"#.to_owned(),
        ..Checkout::default()
    };
    let checkout = change.insert(checkout).await.unwrap();
    change.commit().await.unwrap();
    Ids::from([("account_id", account), ("checkout_id", checkout.id)])
}

pub async fn no_route_reaches_another_account(place: Place) {
    let (owner, stranger) = (place.owner().await, place.stranger().await);
    let mut ids = samples::make(&owner).await;
    ids.extend(rows_of_billing(&place, &owner, &ids).await);
    ids.insert("stripe_event_id", super::stripe_inbox::told(&place, &owner).await);
    let document = api::document();
    let steps = steps(&document, &ids);
    assert!(steps.len() >= 80, "the document lists {} operations", steps.len());
    let before = seen(&owner, &ids).await;

    let answers = walk(&stranger, &steps).await;
    for (step, answer) in steps.iter().zip(&answers) {
        let told = format!("{} {}: {} {}", step.method, step.path, answer.status, answer.text);
        if step.names_theirs {
            // What names no row that the caller has is refused, or said to be a wrong value of its field.
            assert!(matches!(answer.status.as_u16(), 403 | 404 | 422), "{told}");
        }
        assert!(!answer.status.is_server_error(), "{told}");
        for id in ids.values() {
            assert!(!answer.text.contains(id.as_str()), "{told}");
        }
    }
    let nobody = Client::new(place.router(), String::new());
    for (step, answer) in steps.iter().zip(walk(&nobody, &steps).await) {
        assert_eq!(answer.status.as_u16(), 401, "{} {}", step.method, step.path);
    }
    assert_eq!(seen(&owner, &ids).await, before, "the stranger changed something");
}

/// A site with this slug and one customer, whose subscription has the reference `sub_acme`: both ids.
pub async fn shop(client: &Client, slug: &str) -> (String, String) {
    let site = json!({ "slug": slug, "origin": "https://api.example.com", "hosts": [format!("{slug}.example")] });
    let site = client.post("/v1/sites", site).await.expect(201).id();
    let plan = json!({ "reference": "pro", "quota": { "requests": 1000, "per": "month" } });
    let plan = client.post(&format!("/v1/sites/{site}/plans"), plan).await.expect(201).id();
    let customer = client.post("/v1/customers", json!({})).await.expect(201).id();
    let subscription = json!({ "site_id": site, "plan_id": plan, "customer_id": customer, "reference": "sub_acme" });
    let subscription = client.post("/v1/subscriptions", subscription).await.expect(201).id();
    (site, subscription)
}

/// Takes a shop away again.
pub async fn close(client: &Client, shop: &(String, String)) {
    client.delete(&format!("/v1/subscriptions/{}", shop.1)).await.expect(200);
    client.delete(&format!("/v1/sites/{}", shop.0)).await.expect(200);
}

/// Has a node report that so much was used under a slug, in all.
pub async fn use_units(place: &Place, slug: &str, used: u64) {
    let calendar = Calendar { unit: Unit::Month, anchor_s: None };
    let now_s = place.store.ledger_now_ms().await.unwrap().div_euclid(1_000);
    let (id, period) = (entitlement_id(slug, "sub_acme"), Period::first(&calendar, now_s));
    let request = request(id, period, terms(1, Some(1_000), calendar), used, used);
    place.store.take_requests(1, 1, &[request]).await.unwrap();
}

async fn used(client: &Client, shop: &(String, String)) -> Json {
    client.get(&format!("/v1/entitlements/{}", shop.1)).await.expect(200).json["used"].clone()
}

pub async fn a_slug_stays_with_the_account_that_had_it(place: Place) {
    let (owner, stranger) = (place.owner().await, place.stranger().await);
    let account = owner.get("/v1/account").await.expect(200).id();
    let first = shop(&owner, "shop").await;
    use_units(&place, "shop", 700).await;
    assert_eq!(used(&owner, &first).await, 700);
    let body = json!({ "slug": "shop", "origin": "https://api.example.org" });
    let while_live = stranger.post("/v1/sites", body.clone()).await.expect(409);
    close(&owner, &first).await;

    let refused = stranger.post("/v1/sites", body.clone()).await.expect(409);
    assert_eq!(refused.fields(), ["slug"]);
    for id in [&account, &first.0, &first.1] {
        assert!(!refused.text.contains(id.as_str()), "{}", refused.text);
    }
    let detail = |answer: &Answer| answer.json["detail"].clone();
    assert_eq!(detail(&refused), detail(&while_live), "nor whether it is in use still");
    // A host carries nothing over, so it may go to anybody.
    let mut other = json!({ "slug": "other", "origin": "https://api.example.org" });
    other["hosts"] = json!(["shop.example"]);
    let other = stranger.post("/v1/sites", other).await.expect(201).id();
    stranger.delete(&format!("/v1/sites/{other}")).await.expect(200);
    // Its own account has it again, with what was used.
    let again = shop(&owner, "shop").await;
    assert_eq!(used(&owner, &again).await, 700);
    let twice = owner.post("/v1/sites", body).await.expect(409);
    assert_eq!(twice.fields(), ["slug"]);
}

pub async fn a_slug_that_many_want_is_one_accounts(place: Place) {
    let (owner, stranger) = (place.owner().await, place.stranger().await);
    let body = json!({ "slug": "wanted", "origin": "https://api.example.com" });
    let tries: Vec<_> = (0..16)
        .map(|at| {
            let client = if at % 2 == 0 { owner.clone() } else { stranger.clone() };
            let body = body.clone();
            tokio::spawn(async move {
                // Each frees it at once, so that there is no live site in anybody's way.
                let made = client.post("/v1/sites", body).await;
                match made.status.as_u16() {
                    201 => {
                        client.delete(&format!("/v1/sites/{}", made.id())).await.expect(200);
                        Some(at % 2)
                    }
                    _ => {
                        made.expect(409);
                        None
                    }
                }
            })
        })
        .collect();
    let mut winners = Vec::new();
    for one in tries {
        winners.extend(one.await.unwrap());
    }
    winners.dedup();
    assert_eq!(winners.len(), 1, "both accounts had it");
}
