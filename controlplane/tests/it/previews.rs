//! What a preview says is what the invoice of the move asks for: month and year, with the platform's fee, in currencies with and
//! without a smaller unit, with overage that nobody has told yet.
//!
//! In: a place. Out: previews, and Stripe's invoices and charges after the moves.
//! Always holds: amounts are read from Stripe's objects.

use serde_json::{Value as Json, json};

use super::front::Front;
use super::place::Place;
use super::upgrades::Upgrading;
use crate::storage::OverageEvent;

/// Hundredths of a percent.
const FEE: i64 = 275;
/// Units past the quota.
const OVER: i64 = 130;

/// A move: from what is paid at this interval, to that one.
struct Way {
    currency: &'static str,
    from: &'static str,
    to: &'static str,
    has_overage: bool,
}

const fn way(
    currency: &'static str,
    from: &'static str,
    to: &'static str,
    has_overage: bool,
) -> Way {
    Way { currency, from, to, has_overage }
}

const WAYS: &[Way] = &[
    way("usd", "month", "month", false),
    way("jpy", "month", "month", false),
    way("eur", "year", "year", false),
    way("jpy", "month", "year", false),
    way("usd", "month", "month", true),
    way("usd", "month", "year", true),
    way("jpy", "month", "year", true),
];

/// A plan of the shop with this price; its id.
async fn plan(front: &Front, reference: &str, requests: u64, amount: i64, way: &Way) -> String {
    let interval = if reference.starts_with("from") { way.from } else { way.to };
    let amount = if interval == "year" { amount * 10 } else { amount };
    let mut price = json!({ "amount": amount, "currency": way.currency, "interval": interval });
    if way.has_overage {
        price["overage"] = json!({ "unit_amount_decimal": "3" });
    }
    let overage = if way.has_overage { "allow" } else { "deny" };
    let plan = json!({ "reference": reference, "price": price, "overage": overage,
        "quota": { "requests": requests, "per": "month" } });
    let path = format!("/v1/sites/{}/plans", front.shop.site);
    front.owner.post(&path, plan).await.expect(201).id()
}

/// Past the quota of the running month, and nothing of it told.
async fn use_more(at: &Upgrading, id: &str) {
    let store = &at.front.shop.place.store;
    store.name_entitlements().await.unwrap();
    let now_s = at.front.shop.sandbox.now();
    let sql = format!(
        "INSERT INTO overage_books (entitlement, period_id, period_start_s, period_end_s, limit_units, used_units, over_units, \
         told_units, told_at_ms, retry_at_ms) SELECT entitlement, 1, {}, {}, 100, {}, {OVER}, 0, 0, 0 FROM entitlement_names \
         WHERE subscription_id = '{id}'",
        now_s - 86_400,
        now_s + 20 * 86_400,
        100 + OVER
    );
    store.raw(&sql).await;
    assert_eq!(store.raw_number("SELECT COUNT(*) AS n FROM overage_books").await, 1);
}

fn sum(lines: &Json) -> i64 {
    lines.as_array().unwrap().iter().map(|line| line["amount"].as_i64().unwrap()).sum()
}

pub async fn each_is_what_the_invoice_asks_for(place: Place) {
    for (number, way) in WAYS.iter().enumerate() {
        let place = place.beside(number).await;
        place.prepare().await;
        let at = Upgrading::open(&place).await;
        let (front, said) = (&at.front, format!("{} {} {}", way.currency, way.from, way.to));
        let fee = format!("/v1/accounts/{}/stripe_fee", front.shop.account);
        let draft = json!({ "mode": "test", "hundredths": FEE });
        front.owner.post(&fee, draft).await.expect(200);
        let from = plan(front, "from", 100, 707, way).await;
        let to = plan(front, "to", 900, 2_311, way).await;
        let (session, url) = front.begin_with(&from).await;
        assert_eq!(front.at_stripe(&url, "choice=pay").await.0, 303, "{said}");
        front.claim(&session).await;
        let id = front.owner.get("/v1/checkouts?limit=1").await.json["data"][0]["subscription_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let path = format!("/v1/subscriptions/{id}");
        at.forward(super::money::DAY * 11).await;
        if way.has_overage {
            use_more(&at, &id).await;
        }
        let before = front.objects("invoice").len();
        let preview = front.owner.post(&format!("{path}/preview"), json!({ "plan_id": to })).await;
        let preview = preview.expect(200).json;
        assert_eq!(front.objects("invoice").len(), before, "{said}: nothing is billed by looking");
        let body = json!({ "plan_id": to, "at": preview["at"] });
        let moved = front.owner.post(&format!("{path}/change"), body).await.expect(200).json;
        assert_eq!(moved["plan_id"], json!(to), "{said}");
        let invoices = front.objects("invoice");
        assert_eq!(invoices.len(), before + 1, "{said}");
        let invoice = invoices.last().unwrap();
        let due = preview["amount_due"].as_i64().unwrap();
        assert!(due > 0, "{said}: {preview}");
        for name in ["amount_due", "amount_paid"] {
            assert_eq!(
                (&invoice[name], &invoice["status"]),
                (&json!(due), &json!("paid")),
                "{said}"
            );
        }
        assert_eq!(invoice["currency"], preview["currency"], "{said}");
        assert_eq!(preview["currency"], way.currency, "{said}");
        let lines = &invoice["lines"]["data"];
        assert_eq!(preview["lines"].as_array().unwrap().len(), lines.as_array().unwrap().len());
        assert_eq!((sum(&preview["lines"]), sum(lines)), (due, due), "{said}");
        let charge = front.objects("charge").pop().unwrap();
        let fee = (due * FEE + 5_000) / 10_000;
        assert_eq!((&charge["amount"], &charge["currency"]), (&json!(due), &preview["currency"]));
        assert_eq!(charge["application_fee_amount"], fee, "{said}");
        told_once(&at, way, lines, &said).await;
    }
}

/// What was used before the move was told once, to the plan that was left, and is billed with the move.
async fn told_once(at: &Upgrading, way: &Way, lines: &Json, said: &str) {
    let tenant = at.front.shop.tenant();
    let told = tenant.all::<OverageEvent>(10, |query| query).await.unwrap();
    let units: i64 = told.iter().map(|event| event.to_units - event.from_units).sum();
    assert_eq!(units, if way.has_overage { OVER } else { 0 }, "{said}");
    let line = lines.as_array().unwrap().iter().find(|line| line["amount"] == OVER * 3);
    assert_eq!(line.is_some(), way.has_overage, "{said}: {lines}");
}
