//! Refunds and disputes.

use crate::world::World;
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
