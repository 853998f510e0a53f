//! Keys, versions, accounts, names, idempotency.

use crate::world::{START, World, id};
use serde_json::Value;
use stripe_sandbox::{Fault, Planned};

async fn check(
    world: &World,
    ask: (&str, &str, &str),
    header: (&str, &str),
    status: u16,
    code: &str,
) {
    let (method, path, form) = ask;
    let headers = if header.0.is_empty() { vec![] } else { vec![header] };
    let answered = world.send(method, path, form, &headers).await;
    let error = &answered.body["error"];
    let found = (answered.status, error["code"].as_str().unwrap_or(""));
    assert_eq!(found, (status, code), "{ask:?} {header:?}: {}", answered.body);
    assert_eq!(error["type"] == "invalid_request_error", status != 200, "{ask:?} {header:?}");
    assert!(answered.headers.contains_key("request-id"), "{ask:?} {header:?}");
}

#[tokio::test]
async fn headers_that_are_not_in_order_are_refused() {
    let world = World::new().await;
    let product = ("POST", "/v1/products", "name=a");
    let (just, long) = ("k".repeat(255), "k".repeat(256));
    for (ask, header, status, code) in [
        (product, ("", ""), 200, ""),
        (product, ("authorization", ""), 401, ""),
        (product, ("authorization", "Bearer sk_live_x"), 401, ""),
        (product, ("stripe-version", "2020-08-27"), 400, ""),
        (product, ("stripe-version", ""), 200, ""),
        (("GET", "/v2/core/accounts", ""), ("stripe-version", ""), 400, ""),
        (product, ("stripe-account", "acct_x"), 403, "account_invalid"),
        (product, ("idempotency-key", just.as_str()), 200, ""),
        (product, ("idempotency-key", long.as_str()), 400, ""),
    ] {
        check(&world, ask, header, status, code).await;
    }
}

#[tokio::test]
async fn parameters_that_are_not_in_order_are_refused() {
    let world = World::new().await;
    let products = "/v1/products";
    let price = "currency=usd&unit_amount=1&product=x";
    let card = "mode=subscription&payment_method_types[0]=card";
    for (method, path, form, status, code) in [
        ("POST", products, "name=a&nmae=b", 400, "parameter_unknown"),
        ("POST", products, "", 400, "parameter_missing"),
        ("POST", products, "name=", 400, "parameter_invalid_empty"),
        ("POST", "/v1/prices", price, 400, "resource_missing"),
        ("POST", "/v1/checkout/sessions", card, 400, "parameter_unknown"),
        ("GET", "/v1/products/prod_x", "", 404, "resource_missing"),
        ("GET", products, "limit=101", 400, ""),
        ("GET", products, "limit=x", 400, "parameter_invalid_integer"),
        ("GET", products, "starting_after=prod_x", 400, "resource_missing"),
        ("GET", "/v1/nothing", "", 404, ""),
    ] {
        check(&world, (method, path, form), ("", ""), status, code).await;
    }
}

#[tokio::test]
async fn a_key_gives_the_same_answer_again_and_another_question_is_refused() {
    let world = World::new().await;
    let key = [("idempotency-key", "key-1")];
    let first = world.send("POST", "/v1/products", "name=a", &key).await;
    let again = world.send("POST", "/v1/products", "name=a", &key).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(
        again.headers.get("idempotent-replayed").and_then(|value| value.to_str().ok()),
        Some("true")
    );
    let other = world.send("POST", "/v1/products", "name=b", &key).await;
    assert_eq!(
        (other.status, other.body["error"]["type"].as_str()),
        (400, Some("idempotency_error"))
    );
    for _ in 0..2 {
        let read = world.send("GET", "/v1/products", "", &key).await;
        assert_eq!((read.status, read.headers.contains_key("idempotent-replayed")), (200, false));
    }
    world.pass(24 * 3600);
    let late = world.send("POST", "/v1/products", "name=b", &key).await;
    assert_eq!(late.status, 200, "after a day the key is free: {}", late.body);
}

#[tokio::test]
async fn a_refusal_of_parameters_is_not_kept_and_a_500_is() {
    let world = World::new().await;
    let key = [("idempotency-key", "key-1")];
    assert_eq!(world.send("POST", "/v1/products", "nmae=a", &key).await.status, 400);
    world.sandbox.plan_fault(Planned::next(Fault::ErrorAfter, "/v1/products", 1));
    for round in 0..2 {
        let answered = world.send("POST", "/v1/products", "name=a", &key).await;
        assert_eq!(
            (answered.status, answered.body["error"]["type"].as_str()),
            (500, Some("api_error")),
            "{round}"
        );
    }
    assert_eq!(world.sandbox.objects("", "product").len(), 1, "it had acted, once");
}

#[tokio::test]
async fn lists_go_newest_first_page_by_page_both_ways() {
    let world = World::new().await;
    for number in 0..5 {
        world.post("/v1/products", &format!("id=p{number}&name=n&metadata[n]={number}")).await;
        world.pass(10);
    }
    let created = format!("created[gte]={}&created[lt]={}", START + 10, START + 40);
    for (query, expected, more) in [
        ("limit=2", vec!["p4", "p3"], true),
        ("limit=2&starting_after=p3", vec!["p2", "p1"], true),
        ("limit=2&starting_after=p1", vec!["p0"], false),
        ("limit=2&ending_before=p1", vec!["p3", "p2"], true),
        ("limit=3&ending_before=p1", vec!["p4", "p3", "p2"], false),
        (created.as_str(), vec!["p3", "p2", "p1"], false),
        ("ids[0]=p2", vec!["p2"], false),
        ("active=false", vec![], false),
    ] {
        let page = world.get("/v1/products", query).await;
        let found: Vec<String> = page["data"].as_array().expect("rows").iter().map(id).collect();
        assert_eq!(
            (found, &page["has_more"]),
            (expected.iter().map(ToString::to_string).collect(), &Value::Bool(more)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn what_is_to_be_expanded_is_there_as_an_object() {
    let world = World::new().await;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    let subscription = world.subscribed(&price, "").await;
    let path = format!("/v1/subscriptions/{subscription}");
    let found = world.get(&path, "expand[]=latest_invoice.payments&expand[]=customer").await;
    assert_eq!(
        found["latest_invoice"]["payments"]["data"][0]["object"], "invoice_payment",
        "{found}"
    );
    assert_eq!(found["customer"]["object"], "customer");
    let list = world.get("/v1/prices", "expand[]=data.product").await;
    assert_eq!(list["data"][0]["product"]["object"], "product");
    let deep = world.send("GET", &path, "expand[]=a.b.c.d.e", &[]).await;
    assert_eq!(deep.status, 400);
    assert!(!found.to_string().contains("\"_"), "notes of the sandbox's own stay inside: {found}");
}

#[tokio::test]
async fn a_lookup_key_is_one_prices_and_moves_when_it_is_told_to() {
    let world = World::new().await;
    let first = world.price("unit_amount=1900&recurring[interval]=month&lookup_key=gold").await;
    let form = "currency=usd&product_data[name]=x&unit_amount=2900&recurring[interval]=month&lookup_key=gold";
    let refused = world.send("POST", "/v1/prices", form, &[]).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    let second = world.post("/v1/prices", &format!("{form}&transfer_lookup_key=true")).await;
    assert_eq!(second["lookup_key"], "gold");
    let old = world.get(&format!("/v1/prices/{first}"), "").await;
    assert_eq!(old["lookup_key"], Value::Null);
    let found = world.get("/v1/prices", "lookup_keys[0]=gold").await;
    assert_eq!(found["data"][0]["id"], second["id"]);
    assert_eq!(world.told().iter().filter(|kind| *kind == "price.updated").count(), 1);
}
