//! One of everything, so that the walks over all routes have ids to use.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::client::Client;

/// Ids by the names that paths, queries and bodies have for them.
pub type Ids = BTreeMap<&'static str, String>;

/// Makes one of everything for a caller.
pub async fn make(client: &Client) -> Ids {
    let mut ids = Ids::new();
    let site = json!({ "slug": "walked", "origin": "https://api.example.com" });
    let site = client.post("/v1/sites", site).await.expect(201).id();
    let within = format!("/v1/sites/{site}");
    let resource = json!({ "pattern": "/api/*" });
    let resource = client.post(&format!("{within}/resources"), resource).await.expect(201).id();
    let plan = json!({ "reference": "pro", "quota": { "requests": 1000, "per": "month" } });
    let plan = client.post(&format!("{within}/plans"), plan).await.expect(201).id();
    let customer = client.post("/v1/customers", json!({})).await.expect(201).id();
    let subscription = json!({ "site_id": site, "plan_id": plan, "customer_id": customer });
    let subscription = client.post("/v1/subscriptions", subscription).await.expect(201).id();
    let adjustments = format!("/v1/subscriptions/{subscription}/adjustments");
    let adjustment = json!({ "units": 5, "reason": "walked" });
    let adjustment = client.post(&adjustments, adjustment).await.expect(201).id();
    let endpoint = json!({ "url": "https://hooks.example.com/walked" });
    let endpoint = client.post("/v1/webhook-endpoints", endpoint).await.expect(201).id();
    let token = json!({ "subscription_id": subscription });
    let token = client.post("/v1/tokens", token).await.expect(201).id();
    let key = json!({ "label": "walked", "role": "viewer" });
    let key = client.post("/v1/admin_keys", key).await.expect(201).id();
    let node = client.post("/v1/nodes", json!({ "name": "walked" })).await.expect(201).id();
    let tokens = format!("/v1/nodes/{node}/tokens");
    let node_token = client.post(&tokens, json!({})).await.expect(201).id();
    let member = json!({ "email": "walked@example.com", "role": "viewer" });
    let member = client.post("/v1/members", member).await.expect(201).id();
    let deliveries = client.get(&format!("/v1/webhook-endpoints/{endpoint}/deliveries")).await;
    let delivery = deliveries.json["data"][0]["id"].as_str().expect("a delivery").to_owned();
    ids.extend([
        ("webhook_endpoint_id", endpoint),
        ("delivery_id", delivery),
        ("member_id", member),
        ("adjustment_id", adjustment),
        ("node_id", node),
        ("node_token_id", node_token),
        ("site_id", site),
        ("resource_id", resource),
        ("plan_id", plan),
        ("customer_id", customer),
        ("subscription_id", subscription),
        ("token_id", token),
        ("admin_key_id", key),
    ]);
    ids
}

/// A body for a schema: required fields alone, by their examples and types, ids by their names.
pub fn body(schema: &Json, document: &Json, ids: &Ids) -> Json {
    let schema = resolve(schema, document);
    let mut body = json!({});
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
    for name in required {
        body[name] = value(name, &schema["properties"][name], document, ids);
    }
    body
}

fn value(name: &str, schema: &Json, document: &Json, ids: &Ids) -> Json {
    if let Some(id) = ids.get(name) {
        return id.as_str().into();
    }
    let schema = resolve(schema, document);
    if !schema["example"].is_null() {
        return schema["example"].clone();
    }
    if let Some(word) = schema["enum"].get(0) {
        return word.clone();
    }
    match schema["type"].as_str() {
        Some("integer" | "number") => 1.into(),
        Some("boolean") => true.into(),
        Some("array") => json!([]),
        Some("object") => body(&schema, document, ids),
        _ => "text".into(),
    }
}

pub fn resolve(schema: &Json, document: &Json) -> Json {
    match schema["$ref"].as_str() {
        Some(to) => document.pointer(to.trim_start_matches('#')).cloned().unwrap_or_default(),
        None => schema.clone(),
    }
}
