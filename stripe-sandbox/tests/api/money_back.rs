//! Refunds and disputes.

use crate::world::{World, id};
use serde_json::Value;

/// A paid charge of 1900: its id and its intent's.
async fn charged(world: &World) -> (String, String) {
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    world.subscribed(&price, "").await;
    let charge = world.sandbox.objects("", "charge").remove(0);
    let text = |name: &str| charge[name].as_str().expect(name).to_owned();
    (text("id"), text("payment_intent"))
}

#[tokio::test]
async fn no_more_is_refunded_than_was_paid() {
    let world = World::new().await;
    let (charge, intent) = charged(&world).await;
    for (form, status, code, refunded) in [
        (format!("payment_intent={intent}&amount=1901"), 400, "", 0),
        (format!("payment_intent={intent}&amount=900&reason=requested_by_customer"), 200, "", 900),
        (format!("charge={charge}&amount=1001"), 400, "", 900),
        (format!("charge={charge}"), 200, "", 1900),
        (format!("charge={charge}"), 400, "charge_already_refunded", 1900),
        ("payment_intent=pi_x".to_owned(), 400, "resource_missing", 1900),
        (String::new(), 400, "", 1900),
    ] {
        let answered = world.send("POST", "/v1/refunds", &form, &[]).await;
        let found = (answered.status, answered.body["error"]["code"].as_str().unwrap_or(""));
        assert_eq!(found, (status, code), "{form}: {}", answered.body);
        let charge = world.get(&format!("/v1/charges/{charge}"), "").await;
        assert_eq!(charge["amount_refunded"], refunded, "{form}");
        assert_eq!(charge["refunded"], Value::Bool(refunded == 1900), "{form}");
    }
    let told = world.told();
    let count = |wanted: &str| told.iter().filter(|kind| *kind == wanted).count();
    assert_eq!((count("refund.created"), count("charge.refunded")), (2, 2));
    let list = world.get("/v1/refunds", &format!("payment_intent={intent}")).await;
    assert_eq!(list["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_dispute_is_decided_once() {
    for (won, status, last) in
        [(true, "won", "charge.dispute.closed"), (false, "lost", "charge.dispute.closed")]
    {
        let world = World::new().await;
        let (charge, _) = charged(&world).await;
        let dispute = world.sandbox.dispute("", &charge, "fraudulent").expect("a paid charge");
        assert!(world.sandbox.dispute("", &charge, "fraudulent").is_err(), "once");
        let refused = world.send("POST", "/v1/refunds", &format!("charge={charge}"), &[]).await;
        assert_eq!(refused.body["error"]["code"], "charge_disputed");
        world.sandbox.decide_dispute("", &dispute, won).expect("open");
        assert!(world.sandbox.decide_dispute("", &dispute, !won).is_err(), "decided");
        let found = world.get(&format!("/v1/disputes/{dispute}"), "").await;
        assert_eq!(found["status"], status);
        let told = world.told();
        assert_eq!(told.last().map(String::as_str), Some(last));
        assert_eq!(told.contains(&"charge.dispute.funds_reinstated".to_owned()), won);
    }
}

/// Cards of Stripe's test mode whose payments are disputed or asked about at once, and words that decide.
#[tokio::test]
async fn a_card_can_bring_a_dispute_and_evidence_decides_it() {
    for (card, evidence, expected) in [
        ("pm_card_createDispute", "winning_evidence", "won"),
        ("pm_card_createDispute", "losing_evidence", "lost"),
        ("pm_card_createDispute", "a letter", "needs_response"),
        ("pm_card_createDisputeInquiry", "a letter", "warning_needs_response"),
        ("pm_card_visa", "", ""),
    ] {
        let world = World::new().await;
        let price = world.price("unit_amount=1900&recurring[interval]=month").await;
        let customer = id(&world.post("/v1/customers", &format!("payment_method={card}")).await);
        let methods = world.get("/v1/payment_methods", &format!("customer={customer}")).await;
        let method = id(&methods["data"][0]);
        let default = format!("invoice_settings[default_payment_method]={method}");
        world.post(&format!("/v1/customers/{customer}"), &default).await;
        let form = format!("customer={customer}&items[0][price]={price}");
        let subscription = world.post("/v1/subscriptions", &form).await;
        assert_eq!(subscription["status"], "active", "{card}");
        let disputes = world.get("/v1/disputes", "").await;
        let Some(dispute) = disputes["data"].get(0) else {
            assert_eq!(expected, "", "{card}");
            continue;
        };
        let path = format!("/v1/disputes/{}", id(dispute));
        let draft = format!("evidence[uncategorized_text]={evidence}&submit=false");
        assert_eq!(world.post(&path, &draft).await["status"], dispute["status"], "a draft");
        let form = format!("evidence[uncategorized_text]={evidence}");
        assert_eq!(world.post(&path, &form).await["status"], expected, "{card} {evidence}");
    }
}
