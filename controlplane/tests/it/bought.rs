//! Subscriptions that were bought: not taken away while Stripe charges for them, and not said to be otherwise than Stripe says.

use serde_json::{Value as Json, json};

use stripe_sandbox::Outcome;

use super::catalogue::buy;
use super::place::Place;
use super::shop::{Shop, price};
use crate::billing::settle::Owner;
use crate::billing::stripe::Mode;
use crate::reconcile::{NoDecisions, Pair, Reconciler, Scope};
use crate::storage::StripeSubscription;
use crate::sync::changes::of_entries;
use crate::sync::model::Sites;

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

/// What nodes are told of the newest subscription: the plan by its name there; none where they do not know it.
async fn told(shop: &Shop) -> Option<String> {
    let Place { store, keyring, .. } = &shop.place;
    let reader = store.policy_reader().await.unwrap();
    let sites = Sites::new(reader.sites().await.unwrap(), keyring, store.world().now_ms());
    let rows = reader.subscriptions_after(0, 100).await.unwrap();
    let (site, subscription) = sites.subscription(rows.last()?)?;
    let site = &sites.sites[site as usize];
    Some(site.plans[subscription.plan as usize].id.clone())
}

/// How often nodes were told of the sites anew.
async fn told_of_plans(shop: &Shop) -> i64 {
    shop.place.store.raw_number("SELECT COUNT(*) AS n FROM outbox WHERE kind = 'plan'").await
}

/// A checkout that is open while its plan is archived, and one that is paid first.
pub async fn what_was_open_when_its_plan_was_archived_is_served(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let (site, plan) = shop.plan("pro", 1000, price(1900)).await;
    let path = |plan: &str| format!("/v1/sites/{site}/plans/{plan}");
    let wanted = json!({ "site_id": site, "plan_id": plan, "mode": "test" });
    let session = shop.owner.post("/v1/checkouts", wanted.clone()).await.expect(201);
    let session = session.json["session_id"].as_str().unwrap().to_owned();
    let pattern = json!({ "pattern": "/kept" });
    shop.owner.post(&format!("/v1/sites/{site}/resources"), pattern).await.expect(201);
    let gone = json!({ "pattern": "/gone" });
    let gone = shop.owner.post(&format!("/v1/sites/{site}/resources"), gone).await.expect(201).id();
    let named = json!({ "resources": ["/kept", "/gone"] });
    shop.owner.patch(&path(&plan), None, named).await.expect(200);
    shop.owner.delete(&path(&plan)).await.expect(200);
    shop.owner.post("/v1/checkouts", wanted).await.expect(409);
    // Its name is another's meanwhile, and one of its resources is gone.
    let (_, heir) = shop.plan("pro", 10, price(2900)).await;
    shop.owner.delete(&format!("/v1/sites/{site}/resources/{gone}")).await.expect(200);
    shop.sandbox.pay(&session, Outcome::Paid).unwrap();
    let before = told_of_plans(&shop).await;
    shop.see(&format!("/pay/weather/success?session_id={session}")).await.expect(200);
    let key = shop.submit("/claim", &format!("session_id={session}")).await.expect(200);
    assert!(key.key().is_some());
    assert_eq!(told_of_plans(&shop).await, before + 1, "nodes get the plan before what is on it");
    assert_eq!(told(&shop).await, Some(plan.clone()));
    let id = shop.checkout().await["subscription_id"].as_str().unwrap().to_owned();
    let shown = shop.owner.get(&format!("/v1/entitlements/{id}")).await.expect(200);
    assert_eq!((&shown.json["limit"], &shown.json["status"]), (&json!(1000), &json!("active")));
    assert!(!shop.see("/pay/weather").await.expect(200).text.contains(&plan), "it is not sold");
    // The whole of it is a change that nodes can apply.
    let entries = shop.place.store.outbox().read_after(0).await.unwrap();
    let changes = of_entries(&shop.place.store, &shop.place.keyring, 0, &entries).await.unwrap();
    assert!(changes.iter().map(|change| change.weight).sum::<usize>() > 0);
    // Whoever pays first keeps the plan from being archived.
    buy(&shop, &site, &heir).await;
    let refused = shop.owner.delete(&path(&heir)).await.expect(409);
    assert!(refused.text.contains("1 subscriptions are on this plan"), "{}", refused.text);
    assert_eq!(told(&shop).await.as_deref(), Some("pro"));
    // When nobody is on it any more, nodes forget it.
    let subscription = format!("/v1/subscriptions/{id}");
    let end = json!({ "when": "now" });
    shop.owner.post(&format!("{subscription}/cancel"), end).await.expect(200);
    shop.owner.delete(&subscription).await.expect(200);
    let rows = shop.place.store.policy_reader().await.unwrap().sites().await.unwrap();
    assert!(rows.plans.iter().all(|row| row.id != plan));
}

/// Nothing is served of an archived site, so one stays while somebody may pay for it.
pub async fn a_site_stays_while_somebody_may_pay(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let (site, plan) = shop.plan("pro", 1000, price(1900)).await;
    let wanted = json!({ "site_id": site, "plan_id": plan, "mode": "test" });
    shop.owner.post("/v1/checkouts", wanted.clone()).await.expect(201);
    let path = format!("/v1/sites/{site}");
    let refused = shop.owner.delete(&path).await.expect(409);
    assert!(refused.text.contains("1 checkouts of the site may still be paid"), "{}", refused.text);
    shop.owner.delete(&format!("{path}/plans/{plan}")).await.expect(200);
    shop.owner.delete(&path).await.expect(409);
    // Its money takes longer than any session can be paid.
    let long_ago = "created_at_ms = 1, expires_at_ms = 1";
    shop.place.store.raw(&format!("UPDATE checkouts SET status = 'waiting', {long_ago}")).await;
    shop.owner.delete(&path).await.expect(409);
    // That its session is over was never told.
    shop.place.store.raw("UPDATE checkouts SET status = 'open'").await;
    shop.owner.delete(&path).await.expect(200);
    shop.owner.post("/v1/checkouts", wanted).await.expect(409);
}

/// A move to a plan that is archived before it is written down, and one that is written down first.
pub async fn what_was_moved_while_its_plan_was_archived_is_served(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.connect().await;
    let (site, plan) = shop.plan("pro", 1000, price(1900)).await;
    let path = buy(&shop, &site, &plan).await;
    let id = path.rsplit('/').next().unwrap().to_owned();
    let (_, large) = shop.plan("large", 9000, price(3900)).await;
    shop.owner.post("/v1/billing/sync", json!({ "mode": "test" })).await.expect(200);
    let prices = format!("/v1/sites/{site}/plans/{large}/prices");
    let prices = shop.owner.get(&prices).await.expect(200).json;
    let price = prices["data"][0]["price_id"].as_str().unwrap().to_owned();
    let account_id = shop.owner.get("/v1/account").await.expect(200).id();
    let known = async || {
        let tenant = shop.place.store.tenant(&account_id);
        tenant.one::<StripeSubscription>(|query| query).await.unwrap().unwrap()
    };
    let paid = known().await;
    let form = format!(
        "items[0][id]={}&items[0][price]={price}&proration_behavior=none",
        paid.item_id.unwrap()
    );
    // As by a move of ours that is at Stripe already, or by the owner in the dashboard.
    shop.call(&account, &format!("subscriptions/{}", paid.stripe_id), &form).await;
    shop.owner.delete(&format!("/v1/sites/{site}/plans/{large}")).await.expect(200);
    let owner =
        Owner { account_id: account_id.clone(), mode: Mode::Test, stripe_account: account.clone() };
    let settler = &shop.billing.settler;
    let lease = settler.take(&owner, &paid.stripe_id).await.unwrap();
    let before = told_of_plans(&shop).await;
    settler.look_under(&owner, &paid.stripe_id, &lease).await.unwrap();
    assert_eq!(told_of_plans(&shop).await, before + 1);
    assert_eq!(told(&shop).await.as_deref(), Some("large"));
    let shown = shop.owner.get(&format!("/v1/entitlements/{id}")).await.expect(200);
    assert_eq!(shown.json["limit"], 9000);
    // Looked at again, nothing is told again; and it can be moved from.
    let lease = settler.take(&owner, &paid.stripe_id).await.unwrap();
    settler.look_under(&owner, &paid.stripe_id, &lease).await.unwrap();
    assert_eq!(told_of_plans(&shop).await, before + 1);
    let back = json!({ "plan_id": plan });
    shop.owner.post(&format!("{path}/change"), back).await.expect(200);
    assert_eq!(known().await.pending_plan_id.as_deref(), Some(plan.as_str()));
    // Written down first, it keeps its plan.
    let refused = shop.owner.delete(&format!("/v1/sites/{site}/plans/{plan}")).await.expect(409);
    assert!(refused.text.contains("wait to be moved"), "{}", refused.text);
}
