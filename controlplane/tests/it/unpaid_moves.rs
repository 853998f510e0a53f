//! Moves up that are not paid, and what was used past the limit before them.
//!
//! In: a subscription with overage, a card that is declined. Out: what the buyer is answered, what invoices ask for.
//! Always holds: whatever becomes of a move, each unit past the limit is on one invoice.

use serde_json::json;
use stripe_sandbox::Card;

use super::caps::{Sold, with};
use super::place::Place;

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
