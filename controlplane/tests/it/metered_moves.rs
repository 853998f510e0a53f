//! Moves between plans, and what was used past the limit before them.
//!
//! In: a subscription with overage, a card that is declined, a Stripe that is away. Out: what the buyer is answered, what invoices ask for.
//! Always holds: whatever becomes of a move, each unit past the limit is on one invoice.

use serde_json::{Value as Json, json};
use stripe_sandbox::{Card, Fault, Planned};

use super::caps::{Sold, with};
use super::place::Place;
use super::sync_node::until;

const HOUR_S: i64 = 3_600;

/// A move that waits for its payment would take overage along, and Stripe bills it never again where the move is given up. So where there is
/// some, a move is paid at once or not made.
pub async fn overage_outlives_a_move_that_is_not_paid(place: Place) {
    let mut at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
    let mut larger = with(json!({ "unit_amount_decimal": "2" }));
    larger["amount"] = 4_900.into();
    let (_, large) = at.shop.plan("large", 2_000, larger).await;
    let id = at.buy().await;
    let facts: serde_json::Value = serde_json::from_str(&at.paid(&id).await.facts).unwrap();
    let customer = facts["customer"].as_str().unwrap().to_owned();
    let card =
        |at: &Sold, card| at.shop.sandbox.set_card(&at.stripe_account, &customer, card).unwrap();
    let (path, change) =
        (format!("/v1/subscriptions/{id}"), format!("/v1/subscriptions/{id}/change"));
    let wanted = json!({ "plan_id": large });

    at.report(&id, 1_000, 1_200).await;
    for declined in [Card::Declined, Card::NeedsAction] {
        card(&at, declined);
        let refused = at.shop.owner.post(&change, wanted.clone()).await.expect(402);
        assert_eq!(
            refused.json["type"].as_str().unwrap().rsplit(':').next(),
            Some("payment_refused")
        );
        let detail = refused.json["detail"].as_str().unwrap();
        assert!(detail.contains("is on no invoice yet") && detail.contains("/portal"), "{detail}");
    }
    let shown = at.shop.owner.get(&path).await.expect(200).json;
    assert_eq!(shown["stripe"]["pending_upgrade"], json!(null), "{shown}");
    assert_eq!(at.told().await, [(id.clone(), 0, 200)]);
    card(&at, Card::Good);
    at.forward(24 * HOUR_S);
    at.tell().await;
    at.forward_to_the_next_period();
    assert_eq!(at.invoiced(), [600]);

    // Where nothing is outstanding, a move waits for its payment, and nothing is lost when it is given up.
    card(&at, Card::Declined);
    let waits = at.shop.owner.post(&change, wanted.clone()).await.expect(202);
    assert!(waits.json["stripe"]["pending_upgrade"].is_object(), "{}", waits.text);
    card(&at, Card::Good);
    at.forward(24 * HOUR_S);
    let shown = at.shop.owner.get(&path).await.expect(200).json;
    let there = at.shop.at_stripe(&at.stripe_account, "subscription").remove(0);
    assert_eq!(there["pending_update"], json!(null), "{shown}");
    at.forward_to_the_next_period();
    assert_eq!(at.invoiced(), [600]);
}

/// A move that is paid bills what was used under the old plan with itself, once.
pub async fn a_move_that_is_paid_bills_overage_once(place: Place) {
    let mut at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
    let (_, large) =
        at.shop.plan("large", 2_000, with(json!({ "unit_amount_decimal": "2" }))).await;
    let id = at.buy().await;
    at.report(&id, 1_000, 1_200).await;
    at.forward(2 * HOUR_S);
    let change = format!("/v1/subscriptions/{id}/change");
    at.shop.owner.post(&change, json!({ "plan_id": large })).await.expect(200);
    assert_eq!(at.invoiced(), [600]);
    at.report(&id, 2_000, 2_300).await;
    at.forward(2 * HOUR_S);
    at.tell().await;
    at.forward_to_the_next_period();
    // Of three hundred past the new limit two hundred were charged before.
    assert_eq!(at.invoiced(), [600, 200]);
}

/// A subscription that was moved to a larger plan, whose units past the limit cost 2 where the small one's cost 3.
struct Moved {
    at: Sold,
    id: String,
    small: String,
    large: String,
}

impl Moved {
    async fn open(place: Place) -> Self {
        let at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
        let mut larger = with(json!({ "unit_amount_decimal": "2" }));
        larger["amount"] = 4_900.into();
        let (_, large) = at.shop.plan("large", 2_000, larger).await;
        let id = at.buy().await;
        let shown = at.shop.owner.get(&format!("/v1/subscriptions/{id}")).await.expect(200);
        let small = shown.json["plan_id"].as_str().unwrap().to_owned();
        let moved = Self { at, id, small, large };
        moved.go(&moved.large).await;
        moved
    }

    async fn go(&self, plan: &str) {
        let change = format!("/v1/subscriptions/{}/change", self.id);
        self.at.shop.owner.post(&change, json!({ "plan_id": plan })).await.expect(200);
    }

    async fn tried(&self, plan: &str) -> u16 {
        let change = format!("/v1/subscriptions/{}/change", self.id);
        self.at.shop.owner.post(&change, json!({ "plan_id": plan })).await.status.as_u16()
    }

    /// Used past two thousand units, and told when its hour has come.
    async fn use_to(&mut self, used: u64) {
        self.at.report(&self.id, 2_000, used).await;
        self.at.forward(2 * HOUR_S);
        self.at.tell().await;
    }

    /// The plans whose prices are at Stripe: what the subscription is paid by, and what overage is.
    fn there(&self) -> (Json, Json) {
        let (shop, account) = (&self.at.shop, &self.at.stripe_account);
        let subscription = shop.at_stripe(account, "subscription").remove(0);
        assert!(
            !subscription["metadata"].to_string().contains("payfence_meter"),
            "nothing is left to be done: {subscription}"
        );
        let prices = shop.at_stripe(account, "price");
        let items = subscription["items"]["data"].as_array().unwrap().clone();
        assert_eq!(items.len(), 2);
        let plan = |is_metered: bool| {
            let of = |item: &&Json| {
                (item["price"]["recurring"]["usage_type"] == "metered") == is_metered
            };
            let id = &items.iter().find(of).unwrap()["price"]["id"];
            let price = prices.iter().find(|price| price["id"] == *id).unwrap();
            price["metadata"]["plan_id"].clone()
        };
        (plan(false), plan(true))
    }

    fn is_of(&self, plan: &str) {
        assert_eq!(self.there(), (json!(plan), json!(plan)));
    }

    /// What all invoices ask for, but for overage.
    fn paid(&self) -> i64 {
        let invoices = self.at.shop.at_stripe(&self.at.stripe_account, "invoice");
        let all: i64 = invoices.iter().map(|invoice| invoice["total"].as_i64().unwrap()).sum();
        all - self.at.invoiced().iter().sum::<i64>()
    }
}

/// What the larger plan's meter was told is on the next invoice, and nothing else is billed for going down.
pub async fn a_move_down_bills_what_was_used_before(place: Place) {
    let mut moved = Moved::open(place).await;
    let paid = moved.paid();
    moved.use_to(2_300).await;
    moved.go(&moved.small).await;
    moved.is_of(&moved.small);
    // The larger plan's limit holds until the period ends.
    moved.use_to(2_400).await;
    // Back and down again: each meter has what was used under it.
    moved.go(&moved.large).await;
    moved.is_of(&moved.large);
    moved.use_to(2_450).await;
    moved.go(&moved.small).await;
    moved.is_of(&moved.small);
    assert_eq!((moved.at.invoiced(), moved.paid()), (vec![], paid), "nothing is billed at once");
    moved.at.forward_to_the_next_period();
    assert_eq!(moved.at.invoiced(), [300 * 2 + 100 * 3 + 50 * 2]);
    assert_eq!(moved.paid(), paid + 1_900);
}

/// A move up while a smaller plan waits takes that one's meter away, and one that is refused leaves it.
pub async fn a_move_up_from_a_smaller_plan_that_waits_bills_its_use(place: Place) {
    let mut moved = Moved::open(place).await;
    let mut largest = with(json!({ "unit_amount_decimal": "1" }));
    largest["amount"] = 9_900.into();
    let (_, largest) = moved.at.shop.plan("largest", 9_000, largest).await;
    moved.use_to(2_300).await;
    moved.go(&moved.small).await;
    moved.use_to(2_400).await;
    let facts: Json = serde_json::from_str(&moved.at.paid(&moved.id).await.facts).unwrap();
    let customer = facts["customer"].as_str().unwrap().to_owned();
    let card =
        |card| moved.at.shop.sandbox.set_card(&moved.at.stripe_account, &customer, card).unwrap();
    card(Card::Declined);
    assert_eq!(moved.tried(&largest).await, 402);
    moved.is_of(&moved.small);
    assert_eq!(moved.at.invoiced(), [0; 0]);
    card(Card::Good);
    moved.go(&largest).await;
    moved.is_of(&largest);
    assert_eq!(moved.at.invoiced(), [300 * 2 + 100 * 3]);
    moved.at.forward_to_the_next_period();
    assert_eq!(moved.at.invoiced(), [300 * 2 + 100 * 3]);
}

/// Wherever Stripe goes away in a move down, whoever looks next ends it, and what was used is on the next invoice, once.
pub async fn a_move_down_that_breaks_off_is_ended(place: Place) {
    let mut moved = Moved::open(place).await;
    let mut broken = 0;
    for fault in [Fault::ErrorBefore, Fault::ErrorAfter, Fault::ResetAfter] {
        for skipped in 0.. {
            let before = moved.at.shop.sandbox.faults_made();
            let lost = Planned { after: skipped, ..Planned::next(fault.clone(), "", 3) };
            moved.at.shop.sandbox.plan_fault(lost);
            let (status, small) = (moved.tried(&moved.small).await, moved.small.clone());
            moved.at.shop.sandbox.clear_faults();
            if moved.at.shop.sandbox.faults_made() == before {
                assert_eq!(status, 200);
                break;
            }
            broken += 1;
            moved.at.forward(60);
            match skipped % 2 {
                0 => moved.go(&small).await,
                // Nobody asks again; whether it was begun says Stripe.
                _ => moved.at.look(&moved.id).await,
            }
            let (paid_by, metered_by) = moved.there();
            assert_eq!(paid_by, metered_by, "{fault:?} after {skipped}: {status}");
            moved.go(&moved.large).await;
            moved.is_of(&moved.large);
        }
        moved.go(&moved.large).await;
    }
    assert!(broken > 10, "{broken} calls of a move down");
    moved.use_to(2_300).await;
    for skipped in 0..broken {
        let lost = Planned { after: skipped, ..Planned::next(Fault::ErrorAfter, "", 3) };
        moved.at.shop.sandbox.plan_fault(lost);
        moved.tried(&moved.small).await;
        moved.at.shop.sandbox.clear_faults();
        moved.at.look(&moved.id).await;
        moved.go(&moved.large).await;
    }
    moved.at.forward_to_the_next_period();
    assert_eq!(moved.at.invoiced(), [600], "of all ways one invoice has it");
}

/// What is used after a move down broke off, and before it is ended, is told to the meter that is there still.
pub async fn what_is_used_before_a_move_down_is_ended_is_told_first(place: Place) {
    let mut moved = Moved::open(place).await;
    // An increment counts in the last second that is over, which is to be one of the larger plan's.
    let (there_s, store) = (moved.at.shop.sandbox.now(), moved.at.shop.place.store.clone());
    let now_s = async || store.ledger_now_ms().await.unwrap().div_euclid(1_000);
    assert!(until(async || now_s().await > there_s).await);
    let is_begun = |moved: &Moved| {
        let all = moved.at.shop.at_stripe(&moved.at.stripe_account, "subscription");
        all[0]["metadata"]["payfence_meter"].is_string()
    };
    for skipped in 0.. {
        let lost = Planned { after: skipped, ..Planned::next(Fault::ErrorBefore, "", 9) };
        moved.at.shop.sandbox.plan_fault(lost);
        assert_ne!(moved.tried(&moved.small).await, 200, "it is never begun and not ended");
        moved.at.shop.sandbox.clear_faults();
        if is_begun(&moved) {
            break;
        }
    }
    moved.at.report(&moved.id, 2_000, 2_300).await;
    moved.at.forward(60);
    moved.at.shop.sandbox.plan_fault(Planned::next(
        Fault::ErrorBefore,
        "/v1/billing/meter_events",
        1,
    ));
    let change = format!("/v1/subscriptions/{}/change", moved.id);
    let wanted = json!({ "plan_id": moved.small });
    let refused = moved.at.shop.owner.post(&change, wanted).await.expect(503);
    let detail = refused.json["detail"].as_str().unwrap();
    assert!(detail.contains("overage cannot be told to Stripe just now"), "{detail}");
    assert!(is_begun(&moved) && !refused.header("retry-after").is_empty());
    moved.at.forward(60);
    moved.go(&moved.small).await;
    moved.is_of(&moved.small);
    moved.at.forward_to_the_next_period();
    assert_eq!(moved.at.invoiced(), [300 * 2]);
}
