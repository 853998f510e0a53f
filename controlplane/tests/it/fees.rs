//! What the platform takes: of an account, of one of its sites, of what is bought later.
//!
//! In: an operator's requests. Out: what Stripe is sent, and what it takes of a payment.
//! Always holds: the fee is read from Stripe's subscriptions and charges.

use serde_json::{Value as Json, json};
use stripe_sandbox::Outcome;

use super::place::Place;
use super::shop::{Shop, price};

/// What is set, of the account or the site.
async fn set(shop: &Shop, site: Option<&str>, hundredths: Json) {
    let path = format!("/v1/accounts/{}/stripe_fee", account(shop).await);
    let draft = json!({ "mode": "test", "site_id": site, "hundredths": hundredths });
    shop.owner.post(&path, draft).await.expect(200);
}

async fn account(shop: &Shop) -> String {
    shop.owner.get("/v1/account").await.expect(200).id()
}

/// Somebody buys.
async fn buy(shop: &Shop, site: &str, plan: &str) {
    let wanted = json!({ "site_id": site, "plan_id": plan, "mode": "test" });
    let session = shop.owner.post("/v1/checkouts", wanted).await.expect(201);
    shop.sandbox.pay(session.json["session_id"].as_str().unwrap(), Outcome::Paid).unwrap();
}

/// What Stripe was told of the subscription that was bought last, and takes of its payment.
fn taken(shop: &Shop) -> (Json, Json) {
    let account = shop.account();
    let newest = |kind: &str| shop.at_stripe(&account, kind).pop().unwrap();
    let percent = newest("subscription")["application_fee_percent"].clone();
    (percent, newest("charge")["application_fee_amount"].clone())
}

pub async fn a_sites_own_comes_before_the_accounts(place: Place) {
    let shop = Shop::open(place).await;
    let connected = shop.connect().await;
    let (site, plan) = shop.plan("pro", 1_000, price(1_900)).await;
    let other = json!({ "slug": "other", "origin": "https://api.example.com" });
    let other = shop.owner.post("/v1/sites", other).await.expect(201).id();
    let others = json!({ "reference": "pro", "price": price(1_900) });
    let plans = format!("/v1/sites/{other}/plans");
    let others = shop.owner.post(&plans, others).await.expect(201).id();
    // What is set, of which site; what is taken of this site and of the other.
    let steps: &[(Option<&str>, Json, Json, Json)] = &[
        (None, Json::Null, json!(2.5), json!(2.5)),
        (None, json!(300), json!(3), json!(3)),
        (Some(&site), json!(125), json!(1.25), json!(3)),
        (None, json!(707), json!(1.25), json!(7.07)),
        (Some(&site), json!(0), Json::Null, json!(7.07)),
        (Some(&site), json!(10_000), json!(100), json!(7.07)),
        (Some(&site), Json::Null, json!(7.07), json!(7.07)),
        (None, Json::Null, json!(2.5), json!(2.5)),
    ];
    let mut sold = Vec::new();
    for (of, hundredths, here, there) in steps {
        set(&shop, *of, hundredths.clone()).await;
        for (site, plan, percent) in [(&site, &plan, here), (&other, &others, there)] {
            buy(&shop, site, plan).await;
            let of_payment = match percent.as_f64() {
                Some(percent) => json!((19.0 * percent).round() as i64),
                None => Json::Null,
            };
            assert_eq!(taken(&shop), (percent.clone(), of_payment), "{of:?} {hundredths}");
            sold.push(percent.clone());
        }
    }
    // What was sold before keeps what it was sold with.
    let kept = shop.at_stripe(&connected, "subscription");
    let kept: Vec<_> = kept.iter().map(|one| one["application_fee_percent"].clone()).collect();
    assert_eq!(kept, sold);
}

pub async fn what_is_no_share_is_refused(place: Place) {
    let shop = Shop::open(place).await;
    shop.connect().await;
    let (site, plan) = shop.plan("pro", 1_000, price(1_900)).await;
    set(&shop, Some(&site), json!(125)).await;
    let path = format!("/v1/accounts/{}/stripe_fee", account(&shop).await);
    for wrong in [json!(10_001), json!(-1), json!(2.5), json!("250"), json!(4_294_967_296_i64)] {
        for of in [None, Some(&site)] {
            let draft = json!({ "mode": "test", "site_id": of, "hundredths": wrong });
            let refused = shop.owner.post(&path, draft).await.expect(422);
            assert_eq!(refused.fields(), ["hundredths"], "{wrong}");
        }
    }
    // A site that is none of the account's has no fee.
    for nobody in ["site_nobody", plan.as_str()] {
        let draft = json!({ "mode": "test", "site_id": nobody, "hundredths": 10 });
        shop.owner.post(&path, draft).await.expect(404);
    }
    buy(&shop, &site, &plan).await;
    assert_eq!(taken(&shop), (json!(1.25), json!(24)), "it is as it was");
}
