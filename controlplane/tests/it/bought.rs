//! Subscriptions that were bought: not taken away while Stripe charges for them, and not said to be otherwise than Stripe says.

use serde_json::{Value as Json, json};

use super::catalogue::buy;
use super::place::Place;
use super::shop::{Shop, price};
use crate::reconcile::{NoDecisions, Pair, Reconciler, Scope};

/// How many subscriptions there are of a kind.
async fn listed(shop: &Shop, bought: &str) -> usize {
    let list = shop.owner.get(&format!("/v1/subscriptions?limit=100{bought}")).await.expect(200);
    list.json["data"].as_array().unwrap().len()
}

pub async fn it_stays_while_stripe_charges_for_it(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.connect().await;
    let (site, plan) = shop.plan("pro", 1000, price(1900)).await;
    let path = buy(&shop, &site, &plan).await;
    let by_hand = json!({ "site_id": site, "plan_id": plan,
        "customer_id": shop.owner.get(&path).await.json["customer_id"] });
    let by_hand = shop.owner.post("/v1/subscriptions", by_hand).await.expect(201).id();
    let kinds = ["", "&bought=true", "&bought=false"];
    for (kind, count) in kinds.into_iter().zip([2, 1, 1]) {
        assert_eq!(listed(&shop, kind).await, count, "{kind}");
    }
    let post =
        async |what: &str, body: Json| shop.owner.post(&format!("{path}/{what}"), body).await;
    let charged = async || {
        let refused = shop.owner.delete(&path).await.expect(409);
        assert!(refused.text.contains("/cancel"), "{}", refused.text);
        assert_eq!(shop.owner.get(&path).await.expect(200).json["archived_at"], Json::Null);
    };
    charged().await;
    post("cancel", json!({})).await.expect(200);
    charged().await;
    post("cancel", json!({ "when": "now" })).await.expect(200);
    assert_eq!(shop.at_stripe(&account, "subscription")[0]["status"], "canceled");
    shop.owner.delete(&path).await.expect(200);
    shop.owner.delete(&format!("/v1/subscriptions/{by_hand}")).await.expect(200);
    for (kind, count) in kinds.into_iter().zip([0, 0, 0]) {
        assert_eq!(listed(&shop, kind).await, count, "{kind}");
    }

    // Nobody here can cancel what an account sold that is connected no more.
    let path = buy(&shop, &site, &plan).await;
    shop.owner.delete("/v1/stripe/account?mode=test").await.expect(200);
    shop.owner.delete(&path).await.expect(200);
}

pub async fn stripe_alone_says_what_it_is(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let (site, plan) = shop.plan("pro", 1000, price(1900)).await;
    let (_, other) = shop.plan("large", 9000, price(3900)).await;
    let path = buy(&shop, &site, &plan).await;
    let is = shop.owner.get(&path).await.expect(200).json;
    for (field, value, how) in [
        ("plan_id", json!(other), "/change"),
        ("status", json!("trialing"), "/cancel"),
        ("past_due_since", json!("2026-01-01T00:00:00Z"), "/cancel"),
        ("period_anchor", json!("2026-01-01T00:00:00Z"), "/cancel"),
        ("period_anchor", Json::Null, "/cancel"),
    ] {
        let refused = shop.owner.patch(&path, None, json!({ field: value })).await.expect(422);
        let error = &refused.json["errors"][0];
        assert_eq!(error["field"], field, "{}", refused.text);
        assert!(error["message"].as_str().unwrap().contains(how), "{}", refused.text);
        assert_eq!(shop.owner.get(&path).await.expect(200).json, is);
    }
    // What is said as it is changes nothing.
    let same = json!({ "plan_id": plan, "status": "active" });
    shop.owner.patch(&path, None, same).await.expect(200);
    // It stays Stripe's when it is over: whoever is to be served by hand is given another one.
    shop.owner.post(&format!("{path}/cancel"), json!({ "when": "now" })).await.expect(200);
    shop.owner.patch(&path, None, json!({ "status": "active" })).await.expect(422);
}

pub async fn what_is_archived_and_charged_is_found(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let (site, plan) = shop.plan("pro", 1000, price(1900)).await;
    let path = buy(&shop, &site, &plan).await;
    let found = async || {
        let (store, stripe) = (shop.place.store.clone(), shop.billing.stripe.clone());
        let reconciler = Reconciler::new(store, Some(stripe), Box::new(NoDecisions));
        let found = reconciler.run(&Scope::default()).await.unwrap().differences;
        let found = found.into_iter().filter(|each| each.pair == Pair::EntitlementStripe);
        found.map(|each| (each.first, each.second, each.cause)).collect::<Vec<_>>()
    };
    assert_eq!(found().await, []);
    // As by a restored backup, or a row that was archived before it was refused.
    shop.place.store.raw("UPDATE subscriptions SET archived_at_ms = 1").await;
    let is = found().await;
    assert_eq!((is.len(), &*is[0].0, &*is[0].1), (1, "archived", "active"));
    assert!(is[0].2.contains("goes on charging"), "{is:?}");
    shop.place.store.raw("UPDATE subscriptions SET archived_at_ms = NULL").await;
    shop.owner.post(&format!("{path}/cancel"), json!({ "when": "now" })).await.expect(200);
    shop.owner.delete(&path).await.expect(200);
    assert_eq!(found().await, []);
}
