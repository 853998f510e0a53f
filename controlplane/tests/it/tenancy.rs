//! No route reaches another account's rows: all of them are tried, as the OpenAPI document lists them.

use http::Method;
use serde_json::Value as Json;

use super::client::{Answer, Client};
use super::place::{Place, actor};
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
