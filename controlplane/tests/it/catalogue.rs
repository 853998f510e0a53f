//! Plans at Stripe: made, changed, taken back, changed there by hand; and subscriptions moved between them.

use serde_json::{Value as Json, json};
use stripe_sandbox::{Fault, Outcome, Planned};

use crate::billing::catalogue::sweep_once;

use super::place::Place;
use super::shop::{Shop, price};

async fn sync(shop: &Shop, is_dry_run: bool) -> Vec<Json> {
    let draft = json!({ "mode": "test", "dry_run": is_dry_run });
    let view = shop.owner.post("/v1/billing/sync", draft).await.expect(200);
    view.json["entries"].as_array().unwrap().clone()
}

fn actions(entries: &[Json]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

pub async fn plans_follow_to_stripe(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.connect().await;
    let (site, plan) = shop.plan("pro", 1000, price(1900)).await;
    let path = format!("/v1/sites/{site}/plans/{plan}");
    shop.plan("free", 10, price(0)).await;

    assert_eq!(actions(&sync(&shop, true).await), ["create"]);
    assert!(shop.at_stripe(&account, "product").is_empty(), "looking made something");
    assert_eq!(actions(&sync(&shop, false).await), ["create"]);
    assert_eq!(actions(&sync(&shop, false).await), Vec::<&str>::new());

    for amount in [2500, 1900] {
        shop.owner.patch(&path, None, json!({ "price": { "amount": amount } })).await.expect(200);
        assert_eq!(actions(&sync(&shop, true).await), ["replace"]);
        assert_eq!(actions(&sync(&shop, false).await), ["replace"]);
        let prices = shop.at_stripe(&account, "price");
        let active: Vec<&Json> = prices.iter().filter(|one| one["active"] == true).collect();
        assert_eq!(active.len(), 1);
        assert_eq!(active[0]["unit_amount"], amount);
        assert_eq!(active[0]["lookup_key"], format!("payfence_{plan}"));
    }
    let rows = shop.owner.get(&format!("{path}/prices")).await.expect(200);
    let in_force =
        rows.json["data"].as_array().unwrap().iter().filter(|row| row["retired_at"].is_null());
    assert_eq!(in_force.count(), 1);

    shop.owner.patch(&path, None, json!({ "name": "Professional" })).await.expect(200);
    let drift = sync(&shop, true).await;
    assert_eq!(actions(&drift), ["drift"]);
    assert_eq!(drift[0]["differences"][0]["field"], "product.name");
    sync(&shop, false).await;
    let rows = shop.owner.get(&format!("{path}/prices")).await.expect(200);
    assert!(rows.json["data"][0]["drift"]["product.name"].is_string(), "{}", rows.text);

    shop.owner.patch(&path, None, json!({ "price": null })).await.expect(200);
    assert_eq!(actions(&sync(&shop, false).await), ["retire"]);
    assert_eq!(actions(&sync(&shop, false).await), Vec::<&str>::new());
    let all = shop.at_stripe(&account, "price");
    assert!(all.iter().all(|one| one["active"] == false), "{all:?}");
}

/// A subscription that was bought; its path.
pub async fn buy(shop: &Shop, site: &str, plan: &str) -> String {
    let wanted = json!({ "site_id": site, "plan_id": plan, "mode": "test" });
    let session = shop.owner.post("/v1/checkouts", wanted).await.expect(201);
    let session = session.json["session_id"].as_str().unwrap().to_owned();
    shop.sandbox.pay(&session, Outcome::Paid).unwrap();
    shop.see(&format!("/pay/weather/success?session_id={session}")).await.expect(200);
    let id = shop.checkout().await["subscription_id"].as_str().unwrap().to_owned();
    format!("/v1/subscriptions/{id}")
}

pub async fn subscriptions_move_and_end(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.connect().await;
    let (site, small) = shop.plan("small", 1000, price(1000)).await;
    let (_, large) = shop.plan("large", 9000, price(3000)).await;
    let (_, free) = shop.plan("free", 10, price(0)).await;
    let path = buy(&shop, &site, &small).await;
    let post =
        async |what: &str, body: Json| shop.owner.post(&format!("{path}/{what}"), body).await;

    let preview = post("preview", json!({ "plan_id": large })).await.expect(200);
    assert_eq!(preview.json["when"], "now");
    assert!(preview.json["amount_due"].as_i64().unwrap() > 0, "{}", preview.text);
    let moved = json!({ "plan_id": large, "at": preview.json["at"] });
    for _ in 0..2 {
        let view = post("change", moved.clone()).await.expect(200);
        assert_eq!(view.json["plan_id"], json!(large));
    }
    let at_stripe = shop.at_stripe(&account, "subscription");
    assert_eq!(at_stripe[0]["items"]["data"].as_array().unwrap().len(), 1);
    let invoices = shop.at_stripe(&account, "invoice");
    assert_eq!(invoices.len(), 2, "the move was invoiced once");

    // Less counts from the period's end.
    let preview = post("preview", json!({ "plan_id": small })).await.expect(200);
    assert_eq!(
        (&preview.json["when"], &preview.json["amount_due"]),
        (&json!("period_end"), &json!(0))
    );
    let view = post("change", json!({ "plan_id": small })).await.expect(200);
    assert_eq!(view.json["plan_id"], json!(large));
    assert_eq!(shop.at_stripe(&account, "invoice").len(), 2);
    post("change", json!({ "plan_id": free })).await.expect(409);
    post("change", json!({ "plan_id": "plan_x" })).await.expect(404);

    post("cancel", json!({})).await.expect(200);
    assert_eq!(shop.at_stripe(&account, "subscription")[0]["cancel_at_period_end"], true);
    post("resume", json!({})).await.expect(200);
    assert_eq!(shop.at_stripe(&account, "subscription")[0]["cancel_at_period_end"], false);
    let portal =
        post("portal", json!({ "return_url": "https://example.com/account" })).await.expect(200);
    assert!(portal.json["url"].as_str().unwrap().starts_with("http"));
    let view = post("cancel", json!({ "when": "now" })).await.expect(200);
    assert_eq!(view.json["status"], "canceled");
    post("cancel", json!({ "when": "now" })).await.expect(200);
    post("resume", json!({})).await.expect(409);
}

pub async fn plans_are_brought_without_a_hand(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.connect().await;
    let (site, plan) = shop.plan("pro", 1000, price(1900)).await;
    shop.sandbox.plan_fault(Planned::next(Fault::ErrorBefore, "/v1/products", 3));
    assert_eq!(sweep_once(&shop.billing).await.unwrap(), 0);
    shop.sandbox.clear_faults();
    assert_eq!(sweep_once(&shop.billing).await.unwrap(), 1);
    assert_eq!(sweep_once(&shop.billing).await.unwrap(), 0);
    assert_eq!(shop.at_stripe(&account, "price").len(), 1);
    let path = format!("/v1/sites/{site}/plans/{plan}");
    shop.owner.delete(&path).await.expect(200);
    assert_eq!(sweep_once(&shop.billing).await.unwrap(), 1);
    assert_eq!(shop.at_stripe(&account, "product")[0]["active"], false);
}

pub async fn what_is_not_set_up_is_said(place: Place) {
    let owner = place.owner().await;
    for (path, body) in [
        ("/v1/stripe/account", json!({ "email": "a@example.com" })),
        ("/v1/stripe/oauth/authorize", json!({})),
        ("/v1/billing/sync", json!({})),
    ] {
        let answer = owner.post(path, body).await.expect(409);
        assert_eq!(answer.json["type"], "urn:payfence:problem:billing_not_set_up", "{path}");
    }
    let shop_less = owner.get("/v1/stripe/account").await.expect(409);
    assert!(shop_less.text.contains("not set up"));
}
