//! What nobody may reach who sells, buys or connects beside somebody else; and what is left when an account is replaced.
//!
//! In: two accounts that sell, each through a connected account of its own; one that connects another. Out: refusals, and what
//! goes on.
//! Always holds: a session, a customer, a plan of one is nothing to the other, whichever way it is named.

use http::StatusCode;
use serde_json::{Value as Json, json};
use stripe_sandbox::Outcome;

use super::client::Client;
use super::front::Front;
use super::place::Place;
use super::stripe_inbox::event;
use crate::billing::claims::{Proof, find};
use crate::storage::{Checkout, PlanPrice, StripeCustomer};

/// A second account that sells beside the front's.
struct Beside {
    owner: Client,
    site: String,
    plan: String,
    stripe_account: String,
}

async fn beside(front: &Front, place: &Place) -> Beside {
    let owner = front.client(place.stranger().await.key);
    let draft = json!({ "mode": "test", "email": "other@example.com", "country": "DE" });
    let connected = owner.post("/v1/stripe/account", draft).await.expect(200);
    let stripe_account = connected.json["stripe_id"].as_str().unwrap().to_owned();
    front.shop.sandbox.onboard(&stripe_account).unwrap();
    let site = json!({ "slug": "beside", "origin": "https://api.example.org" });
    let site = owner.post("/v1/sites", site).await.expect(201).id();
    let price = json!({ "amount": 900, "currency": "usd", "interval": "month" });
    let plan = json!({ "reference": "other", "price": price });
    let plan = owner.post(&format!("/v1/sites/{site}/plans"), plan).await.expect(201).id();
    Beside { owner, site, plan, stripe_account }
}

pub async fn one_who_sells_reaches_nothing_of_another(place: Place) {
    let front = Front::open(&place).await;
    let beside = beside(&front, &place).await;
    let sold = front.buy("choice=pay").await;
    let (session, _) = front.begin().await;
    let subscription = front.shop.subscription().await;
    let customers = front.owner.get("/v1/customers?limit=1").await.expect(200);
    let customer = customers.json["data"][0]["id"].clone();
    let before = front.shop.outcome().await;

    // Through the API, by whatever id.
    let other = &beside.owner;
    let wanted = |site: &str, plan: &str, more: Json| {
        let mut wanted = json!({ "site_id": site, "plan_id": plan, "mode": "test" });
        for (name, value) in more.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        wanted
    };
    for body in [
        wanted(&front.shop.site, &front.shop.small, json!({})),
        wanted(&beside.site, &front.shop.small, json!({})),
        wanted(&beside.site, &beside.plan, json!({ "customer_id": customer })),
    ] {
        other.post("/v1/checkouts", body).await.expect(404);
    }
    for (what, body) in [
        ("portal", json!({})),
        ("cancel", json!({ "when": "now" })),
        ("resume", json!({})),
        ("change", json!({ "plan_id": beside.plan })),
        ("preview", json!({ "plan_id": beside.plan })),
    ] {
        let path = format!("/v1/subscriptions/{}/{what}", subscription.id);
        let refused = other.post(&path, body).await;
        assert!(matches!(refused.status.as_u16(), 404 | 405), "{what}: {}", refused.text);
    }
    // Through the pages of the other site.
    let form = format!("plan={}", front.shop.small);
    front.submit("/pay/beside/checkout", &form).await.expect(404);
    front.submit("/pay/beside/free", &format!("{form}&email=a@example.com")).await.expect(404);
    front.submit("/pay/shop/checkout", &format!("plan={}", beside.plan)).await.expect(404);
    front.shop.sandbox.pay(&session, Outcome::Paid).unwrap();
    front.see(&format!("/pay/beside/success?session_id={session}")).await.expect(404);
    let claim = find(&place.store, Proof::Session(&session)).await.unwrap();
    assert_eq!(claim, None, "another site's page settles nothing");

    // By webhooks of the other's connected account, which its owner can bring about at will.
    for (number, (kind, object)) in [
        ("customer.subscription.updated", sold.subscription.as_str()),
        ("customer.subscription.deleted", sold.subscription.as_str()),
        ("checkout.session.completed", session.as_str()),
        ("checkout.session.async_payment_failed", session.as_str()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut told = event(&format!("evt_other_{number}"), kind, object);
        told["account"] = beside.stripe_account.as_str().into();
        front.shop.tell(&told).await;
    }
    front.shop.settle().await;
    assert_eq!(front.shop.outcome().await, before, "nothing followed");
    assert_eq!(front.verdict(&sold.key).await, "ok");
    assert_eq!(place.store.inbox_state().await.unwrap().dead, 0);
    // The session is its buyer's all the same.
    front.claim(&session).await;
}

/// A session that the other's owner made by hand, dressed up as one of ours.
pub async fn a_session_made_by_hand_gives_nothing_here(place: Place) {
    let front = Front::open(&place).await;
    let beside = beside(&front, &place).await;
    let checkout = front.shop.checkout().await;
    let wanted = json!({ "site_id": beside.site, "plan_id": beside.plan, "mode": "test" });
    let theirs = beside.owner.post("/v1/checkouts", wanted).await.expect(201);
    let session = theirs.json["session_id"].as_str().unwrap();
    let price = front.shop.sandbox.objects(&beside.stripe_account, "price")[0]["id"].clone();
    let form = format!(
        "mode=subscription&line_items[0][price]={}&line_items[0][quantity]=1&success_url=https://x.example&\
         client_reference_id={id}&metadata[checkout_id]={id}&subscription_data[metadata][checkout_id]={id}",
        price.as_str().unwrap(),
        id = checkout.id,
    );
    let made = front.dashboard_of(&beside.stripe_account, "/v1/checkout/sessions", &form).await;
    let made = made["id"].as_str().unwrap().to_owned();
    front.shop.sandbox.pay(&made, Outcome::Paid).unwrap();
    for mut told in front.shop.sandbox.objects(&beside.stripe_account, "event") {
        told["account"] = beside.stripe_account.as_str().into();
        front.shop.tell(&told).await;
    }
    front.shop.settle().await;
    assert_eq!(front.shop.subscriptions().await, []);
    assert_eq!(front.shop.claims().await, 0);
    front.see(&format!("/pay/shop/success?session_id={made}")).await.expect(404);
    front.submit("/claim", &format!("session_id={made}")).await.expect(404);
    front.see(&format!("/pay/beside/success?session_id={session}")).await.expect(200);
}

pub async fn another_connected_account_takes_the_place_of_a_lost_one(place: Place) {
    let front = Front::open(&place).await;
    let mut wanted =
        json!({ "site_id": front.shop.site, "plan_id": front.shop.small, "mode": "test" });
    let sold = front.buy("choice=pay").await;
    let customers = front.owner.get("/v1/customers?limit=1").await.expect(200);
    wanted["customer_id"] = customers.json["data"][0]["id"].clone();
    let old = front.shop.subscription().await;

    let lost = front.shop.stripe_account.clone();
    front.shop.sandbox.deauthorize(&lost).unwrap();
    let mut told = event("evt_lost", "account.application.deauthorized", "ca_1");
    told["account"] = lost.as_str().into();
    front.shop.tell(&told).await;
    front.shop.settle().await;
    let form = format!("plan={}", front.shop.small);
    let page = front.submit("/pay/shop/checkout", &form).await;
    assert_eq!(page.status, StatusCode::CONFLICT, "nothing is sold: {}", page.text);
    assert!(page.text.contains("cannot be bought at the moment"), "{}", page.text);
    front.owner.post("/v1/checkouts", wanted.clone()).await.expect(409);
    assert_eq!(front.verdict(&sold.key).await, "ok", "what was paid goes on");

    let draft = json!({ "mode": "test", "email": "new@example.com", "country": "DE" });
    let connected = front.owner.post("/v1/stripe/account", draft).await.expect(200);
    let new = connected.json["stripe_id"].as_str().unwrap().to_owned();
    assert_ne!(new, lost);
    front.shop.sandbox.onboard(&new).unwrap();
    // What is sold now is the new one's, to new buyers and to known ones.
    for body in
        [json!({ "site_id": front.shop.site, "plan_id": front.shop.small, "mode": "test" }), wanted]
    {
        let made = front.owner.post("/v1/checkouts", body).await.expect(201);
        let session = made.json["session_id"].as_str().unwrap().to_owned();
        front.shop.sandbox.pay(&session, Outcome::Paid).unwrap();
        let key = front.claim(&session).await;
        assert_eq!(front.verdict(&key).await, "ok");
    }
    let tenant = place.store.tenant(&front.shop.account);
    let prices = tenant.all::<PlanPrice>(10, |query| query).await.unwrap();
    let in_force: Vec<&str> = prices
        .iter()
        .filter(|row| row.retired_at_ms.is_none())
        .map(|row| row.stripe_account.as_str())
        .collect();
    assert_eq!(in_force, [new.as_str()]);
    let known = tenant.all::<StripeCustomer>(10, |query| query).await.unwrap();
    assert_eq!(known.len(), 3, "one who buys from both is one of each: {known:?}");

    // The old one cannot be changed here any more, and ends with what was paid for it.
    let path = format!("/v1/subscriptions/{}", old.id);
    for (what, body) in [("cancel", json!({ "when": "now" })), ("portal", json!({}))] {
        front.owner.post(&format!("{path}/{what}"), body).await.expect(409);
    }
    front.shop.sweep().await;
    assert_eq!(front.verdict(&sold.key).await, "ok");
    let over = "UPDATE stripe_subscriptions SET period_end_ms = 1 WHERE subscription_id = ";
    place.store.raw(&format!("{over}'{}'", old.id)).await;
    front.shop.hint().await;
    assert_eq!(front.verdict(&sold.key).await, "subscription_inactive");
    let rows = front.shop.subscriptions().await;
    let active = rows.iter().filter(|row| row.status == "active").count();
    assert_eq!((rows.len(), active), (3, 2));
}

/// A checkout that was made again with the same key is the same one; with anything else in it, it is refused.
pub async fn one_key_is_one_checkout(place: Place) {
    let front = Front::open(&place).await;
    let wanted = json!({ "site_id": front.shop.site, "plan_id": front.shop.small, "mode": "test" });
    let first = front.owner.post_once("/v1/checkouts", "once", wanted.clone()).await.expect(201);
    let again = front.owner.post_once("/v1/checkouts", "once", wanted.clone()).await.expect(201);
    assert_eq!(first.json, again.json);
    let mut other = wanted;
    other["plan_id"] = front.shop.large.as_str().into();
    let refused = front.owner.post_once("/v1/checkouts", "once", other).await;
    assert!(matches!(refused.status.as_u16(), 409 | 422), "{}", refused.text);
    let tenant = place.store.tenant(&front.shop.account);
    assert_eq!(tenant.all::<Checkout>(10, |query| query).await.unwrap().len(), 1);
}
