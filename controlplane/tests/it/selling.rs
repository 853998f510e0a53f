//! From a plan to a key: with Stripe as it should be, and failing at each step.

use std::time::Duration;

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde_json::json;
use stripe_sandbox::{Fault, Outcome, Planned};

use super::money::broken_off;
use super::place::{Place, actor};
use super::shop::{Seen, Shop, price};
use crate::billing::claims::{
    Proof, REPLACED_WITHIN_MS, Redeemed, link_url, new_link, of_checkout, redeem,
};
use crate::storage::{KeyClaim, Token, column};
use crate::world::{System, World as _};

pub async fn a_plan_is_bought_and_its_key_shown_once(place: Place) {
    let shop = Shop::open(place).await;
    let account = shop.connect().await;
    let view = shop.owner.get("/v1/stripe/account?mode=test").await.expect(200);
    assert_eq!(
        (&view.json["status"], &view.json["fee_percent"]),
        (&json!("ready"), &json!("2.50"))
    );
    let (_, plan) = shop.plan("pro", 1000, price(1900)).await;

    let page = shop.see("/pay/weather").await.expect(200);
    assert!(page.text.contains("19.00 EUR") && page.text.contains("Weather &amp; &lt;Sun&gt;"));
    assert!(!page.text.contains("<script") && !page.text.contains("<Sun>"), "{}", page.text);
    for header in ["content-security-policy", "referrer-policy", "x-content-type-options"] {
        assert!(page.headers.contains_key(header), "{header}");
    }
    let sent = shop.submit("/pay/weather/checkout", &format!("plan={plan}")).await.expect(200);
    let checkout = shop.checkout().await;
    let (url, session) =
        (checkout["url"].as_str().unwrap(), checkout["session_id"].as_str().unwrap().to_owned());
    assert!(sent.text.contains(url), "{}", sent.text);
    let success = format!("/pay/weather/success?session_id={session}");
    // Nothing is had before it is paid, nor with another's id.
    assert!(shop.see(&success).await.expect(200).text.contains("being confirmed"));
    shop.submit("/claim", &format!("session_id={session}")).await.expect(404);
    shop.see("/pay/weather/success?session_id=cs_test_guessed").await.expect(404);

    shop.sandbox.pay(&session, Outcome::Paid).unwrap();
    let page = shop.see(&success).await.expect(200);
    assert!(page.text.contains("Show my key") && shop.tokens().await == 0, "{}", page.text);
    let shown = shop.submit("/claim", &format!("session_id={session}")).await.expect(200);
    assert!(shown.key().unwrap().starts_with("pf_test_"), "{}", shown.text);
    assert_eq!(shown.headers["cache-control"], "no-store");
    for _ in 0..2 {
        let again = shop.submit("/claim", &format!("session_id={session}")).await.expect(404);
        assert_eq!(again.key(), None);
        shop.see(&success).await.expect(404);
    }
    assert_eq!(shop.tokens().await, 1);
    assert_eq!(told(&shop, "token.issued").await, 1);
    let bought = shop.checkout().await;
    assert_eq!(bought["status"], "paid");
    for (kind, count) in [("product", 1), ("price", 1), ("subscription", 1)] {
        assert_eq!(shop.at_stripe(&account, kind).len(), count, "{kind}");
    }
    let subscription = &shop.at_stripe(&account, "subscription")[0];
    assert_eq!(subscription["application_fee_percent"], 2.5);
}

/// How often the owner is told of a kind.
async fn told(shop: &Shop, kind: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) AS n FROM events WHERE kind = '{kind}'");
    shop.place.store.raw_number(&sql).await
}

pub async fn two_at_once_get_one_key(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let (_, plan) = shop.plan("pro", 1000, price(1900)).await;
    shop.submit("/pay/weather/checkout", &format!("plan={plan}")).await.expect(200);
    let session = shop.checkout().await["session_id"].as_str().unwrap().to_owned();
    shop.sandbox.pay(&session, Outcome::Paid).unwrap();
    shop.see(&format!("/pay/weather/success?session_id={session}")).await.expect(200);
    let one = || redeem(&shop.billing, Proof::Session(&session), None);
    let (first, second) = tokio::join!(one(), one());
    let keys = [first.unwrap(), second.unwrap()];
    let count = keys.iter().filter(|one| matches!(one, Redeemed::Key(_))).count();
    assert_eq!((count, shop.tokens().await), (1, 1), "{keys:?}");
}

pub async fn a_claim_is_over_after_its_hour(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let (_, plan) = shop.plan("pro", 1000, price(1900)).await;
    shop.submit("/pay/weather/checkout", &format!("plan={plan}")).await.expect(200);
    let session = shop.checkout().await["session_id"].as_str().unwrap().to_owned();
    shop.sandbox.pay(&session, Outcome::Paid).unwrap();
    shop.see(&format!("/pay/weather/success?session_id={session}")).await.expect(200);
    shop.place.store.raw("UPDATE claims SET session_until_ms = 1").await;
    shop.see(&format!("/pay/weather/success?session_id={session}")).await.expect(404);
    shop.submit("/claim", &format!("session_id={session}")).await.expect(404);
    assert_eq!(shop.tokens().await, 0);
}

/// A paid checkout's session, with its claim made.
async fn paid(shop: &Shop, plan: &str) -> String {
    let (_, plan) = shop.plan(plan, 1000, price(1900)).await;
    shop.submit("/pay/weather/checkout", &format!("plan={plan}")).await.expect(200);
    let session = shop.checkout().await["session_id"].as_str().unwrap().to_owned();
    shop.sandbox.pay(&session, Outcome::Paid).unwrap();
    shop.see(&format!("/pay/weather/success?session_id={session}")).await.expect(200);
    session
}

/// The word of a page that offers a key.
fn once_of(page: &Seen) -> String {
    let (_, rest) = page.text.split_once("name=\"once\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

/// A page that offers the key of a paid session, and the form that asks for it.
async fn offered(shop: &Shop, plan: &str) -> (String, String) {
    let session = paid(shop, plan).await;
    let page = shop.see(&format!("/pay/weather/success?session_id={session}")).await.expect(200);
    let form = format!("session_id={session}&once={}", once_of(&page));
    (session, form)
}

/// So many tokens work.
async fn working(shop: &Shop, expected: i64) {
    let live = "SELECT COUNT(*) AS n FROM tokens WHERE revoked_at_ms IS NULL";
    assert_eq!(shop.place.store.raw_number(live).await, expected);
}

async fn is_live(shop: &Shop, key: &str) -> bool {
    let account = shop.owner.get("/v1/account").await.expect(200).id();
    let hash = policy::token::TokenHash::of(key.as_bytes()).0.to_vec();
    let tenant = shop.place.store.tenant(&account);
    let found = tenant.one::<Token>(|query| query.filter(column::Token::Hash.eq(hash)));
    found.await.unwrap().is_some_and(|token| token.revoked_at_ms.is_none())
}

/// Wherever the process dies, the page that asked gets a key by asking again, and there is one.
pub async fn a_key_whose_answer_was_lost_is_replaced(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let mut steps = 1;
    for round in 1.. {
        let (session, form) = offered(&shop, &format!("plan{round}")).await;
        let once = form.rsplit('=').next().unwrap();
        let asked = redeem(&shop.billing, Proof::Session(&session), Some(once));
        let is_done = broken_off(asked, steps).await.is_some();
        let shown = shop.submit("/claim", &form).await.expect(200);
        assert!(is_live(&shop, shown.key().unwrap()).await, "after {steps} steps");
        working(&shop, round).await;
        // Now it went out.
        shop.submit("/claim", &form).await.expect(404);
        assert!(is_live(&shop, shown.key().unwrap()).await, "after {steps} steps");
        working(&shop, round).await;
        if is_done {
            return;
        }
        steps += 1 + steps / 8;
        assert!(round < 60, "it never ends by itself");
    }
}

pub async fn a_lost_key_is_replaced_for_nobody_else(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let make_lost = async |plan: &str| {
        let (session, form) = offered(&shop, plan).await;
        let once = form.rsplit('=').next().unwrap();
        let asked = redeem(&shop.billing, Proof::Session(&session), Some(once)).await.unwrap();
        let Redeemed::Key(key) = asked else { panic!("{asked:?}") };
        (session, form, key)
    };
    // By whoever has the session's id, with no word, another page's or an empty one.
    let (session, form, first) = make_lost("one").await;
    let (_, other) = offered(&shop, "two").await;
    let other = other.rsplit('=').next().unwrap();
    for wrong in ["", "&once=", "&once=once_guessed", &format!("&once={other}")] {
        shop.submit("/claim", &format!("session_id={session}{wrong}")).await.expect(404);
        assert!(is_live(&shop, &first.text).await, "{wrong}");
    }
    // A browser that goes away before it has the answer asks again; twice at once leave one key.
    let body = axum::body::Body::from(form.clone());
    let request = http::Request::post("/claim")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    drop(tower::ServiceExt::oneshot(shop.router.clone(), request.unwrap()).await.unwrap());
    assert!(!is_live(&shop, &first.text).await, "another took its place");
    let again = || redeem(&shop.billing, Proof::Session(&session), form.rsplit('=').next());
    let (one, two) = tokio::join!(again(), again());
    let keys: Vec<_> = [one.unwrap(), two.unwrap()]
        .into_iter()
        .filter_map(|one| match one {
            Redeemed::Key(key) => Some(key.text),
            _ => None,
        })
        .collect();
    let mut live = 0;
    for key in &keys {
        live += usize::from(is_live(&shop, key).await);
    }
    assert_eq!((keys.len(), live), (2, 1));
    working(&shop, 1).await;
    assert_eq!(told(&shop, "token.revoked").await, 3, "the owner is told");
    assert_eq!(told(&shop, "token.issued").await, 4);

    // Too late, and where the owner has revoked it.
    let (_, late, _) = make_lost("three").await;
    let sql = format!("UPDATE claims SET redeemed_at_ms = redeemed_at_ms - {REPLACED_WITHIN_MS}");
    shop.place.store.raw(&sql).await;
    shop.submit("/claim", &late).await.expect(404);
    let (_, revoked, key) = make_lost("four").await;
    shop.owner.delete(&format!("/v1/tokens/{}", key.token.id)).await.expect(200);
    shop.submit("/claim", &revoked).await.expect(404);
}

pub async fn a_link_is_good_once_and_by_post_alone(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let session = paid(&shop, "pro").await;
    let store = &shop.place.store;
    let checkout = store.checkout_of_session(&session).await.unwrap().unwrap();
    let mut change = store.change(&checkout.account_id, actor()).await.unwrap();
    let claim = of_checkout(&change.tenant(), &checkout.id).await.unwrap().unwrap();
    let (secret, hash) = new_link(&System);
    let after = KeyClaim { link_hash: Some(hash), ..claim.clone() };
    change.update(&claim, after).await.unwrap();
    change.commit().await.unwrap();
    let link = link_url("", &secret);
    // A scanner that follows it, however often, gets nothing.
    for _ in 0..3 {
        assert!(shop.see(&link).await.expect(200).text.contains("Show my key"));
    }
    assert_eq!(shop.tokens().await, 0);
    shop.submit("/claim", "link=claim_guessed").await.expect(404);
    shop.submit("/claim", &format!("link={secret}&session_id={session}")).await.expect(404);
    let shown = shop.submit("/claim", &format!("link={secret}")).await.expect(200);
    assert!(shown.key().is_some());
    shop.submit("/claim", &format!("link={secret}")).await.expect(404);
    shop.submit("/claim", &format!("session_id={session}")).await.expect(404);
    shop.see(&link).await.expect(404);
    assert_eq!(shop.tokens().await, 1);
}

pub async fn a_key_waits_for_the_connected_nodes(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    shop.owner.post("/v1/nodes", json!({ "name": "behind" })).await.expect(201);
    let now_ms = System.now_ms();
    for (plan, applied, is_acknowledged) in [("slow", 0, false), ("quick", i64::MAX, true)] {
        let session = paid(&shop, plan).await;
        let seen = format!(
            "UPDATE nodes SET last_seen_at_ms = {now_ms} + 60000, applied_sequence = {applied}"
        );
        shop.place.store.raw(&seen).await;
        let redeemed = redeem(&shop.billing, Proof::Session(&session), None).await.unwrap();
        let Redeemed::Key(key) = redeemed else { panic!("{redeemed:?}") };
        assert_eq!(key.is_acknowledged, is_acknowledged, "applied {applied}");
    }
}

pub async fn free_plans_need_no_stripe(place: Place) {
    let shop = Shop::open(place).await;
    let (_, plan) = shop.plan("free", 100, price(0)).await;
    let (_, paid) = shop.plan("pro", 1000, price(1900)).await;
    assert!(shop.see("/pay/weather").await.expect(200).text.contains("Your e-mail address"));
    let take = async |form: String| shop.submit("/pay/weather/free", &form).await;
    take(format!("plan={plan}&email=nobody")).await.expect(422);
    take(format!("plan={paid}&email=me@example.com")).await.expect(404);
    assert_eq!(shop.tokens().await, 0);
    let shown = take(format!("plan={plan}&email=me@example.com")).await.expect(200);
    assert!(shown.key().unwrap().starts_with("pf_live_"));
    assert_eq!(shop.tokens().await, 1);
    assert_eq!(told(&shop, "token.issued").await, 1);
    assert_eq!(told(&shop, "subscription.created").await, 1);
    // Somebody who takes one after the other is told to wait.
    let mut last = 200;
    for number in 0..200 {
        last = take(format!("plan={plan}&email=me{number}@example.com")).await.status.as_u16();
        if last != 200 {
            break;
        }
    }
    assert_eq!(last, 429);
}

/// Asking again gives another key of the same units, and no answer tells whether an address has the plan.
pub async fn an_address_has_a_free_plan_once(place: Place) {
    let shop = Shop::open(place).await;
    let (_, plan) = shop.plan("free", 100, price(0)).await;
    let (_, other) = shop.plan("also-free", 200, price(0)).await;
    let (_, paid) = shop.plan("pro", 1000, price(1900)).await;
    let take = async |plan: &str, email: &str| {
        shop.submit("/pay/weather/free", &format!("plan={plan}&email={email}")).await
    };
    let subscriptions = async || {
        let list = shop.owner.get("/v1/subscriptions?limit=100").await.expect(200);
        list.json["data"].as_array().unwrap().clone()
    };
    let (mut pages, mut keys) = (Vec::new(), Vec::new());
    for email in ["me@example.com", "me@example.com", "Me@Example.COM"] {
        let page = take(&plan, email).await.expect(200);
        let key = page.key().unwrap().to_owned();
        pages.push(page.text.replace(&key, "KEY"));
        assert!(!keys.contains(&key));
        keys.push(key);
    }
    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:?}");
    assert_eq!((subscriptions().await.len(), shop.tokens().await), (1, 3));
    let tokens = shop.owner.get("/v1/tokens?limit=100").await.expect(200).json;
    let id = subscriptions().await[0]["id"].clone();
    let mut of = tokens["data"].as_array().unwrap().iter();
    assert!(of.all(|token| token["subscription_id"] == id && token["revoked_at"].is_null()));
    let customers = shop.owner.get("/v1/customers").await.expect(200).json;
    assert_eq!(customers["data"].as_array().unwrap().len(), 1);
    let seen = (told(&shop, "subscription.created").await, told(&shop, "token.issued").await);
    assert_eq!(seen, (1, 3));
    // Another address, and another plan, are others; two at once are one.
    take(&other, "me@example.com").await.expect(200);
    let (first, second) =
        tokio::join!(take(&plan, "you@example.com"), take(&plan, "you@example.com"));
    assert_ne!(first.expect(200).key().unwrap(), second.expect(200).key().unwrap());
    assert_eq!(subscriptions().await.len(), 3);
    // What its owner has made of it is had by nobody who knows the address.
    let path = format!("/v1/subscriptions/{}", id.as_str().unwrap());
    for change in [json!({ "plan_id": paid }), json!({ "plan_id": plan, "status": "canceled" })] {
        shop.owner.patch(&path, None, change).await.expect(200);
        assert_eq!(take(&plan, "me@example.com").await.expect(409).key(), None);
    }
    shop.owner.delete(&path).await.expect(200);
    assert_eq!(take(&plan, "me@example.com").await.expect(409).key(), None);
    assert_eq!((subscriptions().await.len(), shop.tokens().await), (2, 6));
}

/// All that can be wrong with an answer.
pub fn faults() -> Vec<Fault> {
    let too_many = |should_retry, retry_after_s| Fault::TooMany { should_retry, retry_after_s };
    vec![
        Fault::ErrorBefore,
        Fault::ErrorAfter,
        Fault::ResetBefore,
        Fault::ResetAfter,
        Fault::HangBefore,
        Fault::HangAfter,
        Fault::Garbage,
        Fault::Conflict,
        Fault::LockTimeout,
        too_many(None, None),
        too_many(None, Some(1)),
        too_many(Some(true), None),
        too_many(Some(false), Some(1)),
    ]
}

/// Each call fails once, in each way, and whoever began goes on by doing the same again.
pub async fn stripe_may_fail_at_each_step(place: Place) {
    // Some answers never come.
    let shop = Shop::with_timeout(place, Duration::from_millis(150)).await;
    let mut bought = 0;
    for fault in faults() {
        // From the account on only the first time: it is one for all.
        let plan_fault = |method: &str, path: &str| {
            let next = Planned::next(fault.clone(), path, 1);
            shop.sandbox.plan_fault(Planned { method: method.to_owned(), ..next });
        };
        plan_fault("POST", "/v2/core/account_links");
        if bought == 0 {
            plan_fault("POST", "/v2/core/accounts");
            plan_fault("GET", "/v2/core/accounts");
        }
        let draft = json!({ "mode": "test", "email": "owner@example.com", "country": "DE" });
        let account = done(async || {
            let view = shop.owner.post("/v1/stripe/account", draft.clone()).await;
            (view.status == 200).then(|| view.json["stripe_id"].as_str().unwrap().to_owned())
        });
        let account = account.await;
        shop.sandbox.onboard(&account).unwrap();

        let mut cost = price(1900);
        cost["overage"] = json!({ "unit_amount_decimal": "0.5", "per": 10 });
        let (site, plan) = shop.plan(&format!("pro{bought}"), 1000, cost).await;
        for (method, path) in [
            ("GET", "/v1/products"),
            ("POST", "/v1/products"),
            ("GET", "/v1/prices"),
            ("POST", "/v1/prices"),
            ("GET", "/v1/billing/meters"),
            ("POST", "/v1/billing/meters"),
            ("POST", "/v1/checkout/sessions"),
            ("GET", "/v1/checkout/sessions"),
            ("GET", "/v1/subscriptions"),
        ] {
            plan_fault(method, path);
        }
        let wanted = json!({ "site_id": site, "plan_id": plan, "mode": "test" });
        let key = format!("key-{bought}");
        let session = done(async || {
            let view = shop.owner.post_once("/v1/checkouts", &key, wanted.clone()).await;
            (view.status == 201).then(|| view.json["session_id"].as_str().unwrap().to_owned())
        });
        let session = session.await;
        shop.sandbox.pay(&session, Outcome::Paid).unwrap();
        let success = format!("/pay/weather/success?session_id={session}");
        done(async || shop.see(&success).await.text.contains("Show my key").then_some(())).await;
        let shown = shop.submit("/claim", &format!("session_id={session}")).await.expect(200);
        assert!(shown.key().is_some());
        bought += 1;

        let made = format!("after {fault:?}");
        let active = |kind: &str| {
            let all = shop.at_stripe(&account, kind);
            all.iter().filter(|one| one["active"] != json!(false)).count()
        };
        assert_eq!(active("product"), bought, "{made}");
        assert_eq!(active("price"), 2 * bought, "{made}");
        assert_eq!(active("billing.meter"), bought, "{made}");
        assert_eq!(active("subscription"), bought, "{made}");
        assert_eq!(shop.tokens().await, bought, "{made}");
        shop.sandbox.clear_faults();
    }
}

/// What comes of doing something until it is done, a bounded number of times.
async fn done<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..20 {
        if let Some(outcome) = attempt().await {
            return outcome;
        }
    }
    panic!("it was not done in twenty attempts");
}
