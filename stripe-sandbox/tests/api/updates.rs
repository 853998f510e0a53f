//! Changes of plan: what they cost, when they are billed, when they take effect.

use crate::world::{DAY_S, START, World, id, noon, period};
use serde_json::Value;
use stripe_sandbox::Card;

struct Changed {
    world: World,
    subscription: String,
    item: String,
    dear: String,
    year: String,
}

/// A subscription at 1000 a month, half of whose first period (28 days) is over.
async fn half_way() -> Changed {
    let world = World::new().await;
    let cheap = world.price("unit_amount=1000&recurring[interval]=month").await;
    let dear = world.price("unit_amount=3000&recurring[interval]=month").await;
    let year = world.price("unit_amount=20000&recurring[interval]=year").await;
    let subscription = world.subscribed(&cheap, "").await;
    world.pass(14 * DAY_S);
    let item = id(&world.subscription(&subscription).await["items"]["data"][0]);
    Changed { world, subscription, item, dear, year }
}

/// Amounts of an invoice's lines and its total.
fn amounts(invoice: &Value) -> (Vec<i64>, i64) {
    let lines = invoice["lines"]["data"].as_array().expect("lines").iter();
    (
        lines.map(|line| line["amount"].as_i64().expect("an amount")).collect(),
        invoice["total"].as_i64().expect("a total"),
    )
}

#[tokio::test]
async fn a_preview_and_the_change_cost_the_same() {
    for (target, behavior, anchor, expected, now) in [
        ("dear", "always_invoice", "", vec![-500, 1500], true),
        ("dear", "create_prorations", "", vec![-500, 1500, 3000], false),
        ("dear", "none", "", vec![3000], false),
        ("dear", "always_invoice", "now", vec![-500, 3000], true),
        ("dear", "none", "now", vec![3000], true),
        ("year", "always_invoice", "", vec![-500, 20000], true),
        ("year", "create_prorations", "", vec![-500, 20000], true),
    ] {
        let Changed { world, subscription, item, dear, year } = half_way().await;
        let price = if target == "dear" { dear } else { year };
        let reset = |prefix: &str| match (anchor, prefix) {
            ("", _) => String::new(),
            (_, "") => format!("&billing_cycle_anchor[type]={anchor}"),
            (_, prefix) => format!("&{prefix}[billing_cycle_anchor][type]={anchor}"),
        };
        let preview = world
            .post(
                "/v1/invoices/create_preview",
                &format!(
                    "subscription={subscription}&subscription_details[items][0][id]={item}&\
                     subscription_details[items][0][price]={price}&\
                     subscription_details[proration_behavior]={behavior}{}",
                    reset("subscription_details")
                ),
            )
            .await;
        let about = format!("{target} {behavior} {anchor}");
        assert_eq!(
            amounts(&preview),
            (expected.clone(), expected.iter().sum()),
            "preview of {about}"
        );
        assert_eq!(world.sandbox.objects("", "invoice").len(), 1, "a preview leaves nothing");
        let form = format!(
            "items[0][id]={item}&items[0][price]={price}&proration_behavior={behavior}{}",
            reset("")
        );
        let changed = world.post(&format!("/v1/subscriptions/{subscription}"), &form).await;
        assert_eq!(changed["items"]["data"][0]["price"]["id"], price.as_str(), "{about}");
        assert_eq!(changed["items"]["data"].as_array().map(Vec::len), Some(1), "{about}");
        if !now {
            world.sandbox.advance_to(noon("2026-02-28") + 3600);
        }
        let invoices = world.sandbox.objects("", "invoice");
        assert_eq!(invoices.len(), 2, "{about}");
        assert_eq!(amounts(&invoices[1]), (expected.clone(), expected.iter().sum()), "{about}");
        assert_eq!(invoices[1]["status"], "paid", "{about}");
        let starts = period(&world.subscription(&subscription).await).0;
        let expected = match (now, anchor == "now" || target == "year") {
            (_, true) => START + 14 * DAY_S,
            (true, false) => START,
            (false, false) => noon("2026-02-28"),
        };
        assert_eq!(starts, expected, "{about}");
    }
}

#[tokio::test]
async fn an_entry_without_id_adds_an_item() {
    let Changed { world, subscription, dear, .. } = half_way().await;
    let path = format!("/v1/subscriptions/{subscription}");
    let changed = world.post(&path, &format!("items[0][price]={dear}")).await;
    assert_eq!(changed["items"]["data"].as_array().map(Vec::len), Some(2));
    let item = id(&changed["items"]["data"][0]);
    let changed = world.post(&path, &format!("items[0][id]={item}&items[0][deleted]=true")).await;
    assert_eq!(changed["items"]["total_count"], 1);
    let item = id(&changed["items"]["data"][0]);
    let none = format!("items[0][id]={item}&items[0][deleted]=true");
    assert_eq!(world.send("POST", &path, &none, &[]).await.status, 400, "one item stays");
}

#[tokio::test]
async fn a_change_whose_payment_fails_fares_as_it_was_asked_to() {
    for (behavior, status, price_after, subscription_status) in [
        ("allow_incomplete", 200, "dear", "past_due"),
        ("pending_if_incomplete", 200, "cheap", "active"),
        ("error_if_incomplete", 402, "cheap", "active"),
    ] {
        let Changed { world, subscription, item, dear, .. } = half_way().await;
        let customer = world.subscription(&subscription).await["customer"]
            .as_str()
            .expect("a customer")
            .to_owned();
        world.sandbox.set_card("", &customer, Card::Declined).expect("a customer");
        let path = format!("/v1/subscriptions/{subscription}");
        let form = format!(
            "items[0][id]={item}&items[0][price]={dear}&proration_behavior=always_invoice&payment_behavior={behavior}"
        );
        let answered = world.send("POST", &path, &form, &[]).await;
        assert_eq!(answered.status, status, "{behavior}: {}", answered.body);
        let found = world.subscription(&subscription).await;
        let has_dear = found["items"]["data"][0]["price"]["id"] == dear.as_str();
        assert_eq!(has_dear, price_after == "dear", "{behavior}");
        assert_eq!(found["status"], subscription_status, "{behavior}");
        assert_eq!(
            found["pending_update"].is_object(),
            behavior == "pending_if_incomplete",
            "{behavior}"
        );
        if behavior != "pending_if_incomplete" {
            continue;
        }
        world.sandbox.set_card("", &customer, Card::Good).expect("a customer");
        let invoice = found["latest_invoice"].as_str().expect("an invoice");
        world.post(&format!("/v1/invoices/{invoice}/pay"), "").await;
        let found = world.subscription(&subscription).await;
        assert_eq!(found["items"]["data"][0]["price"]["id"], dear.as_str(), "paid, so applied");
        assert_eq!(found["pending_update"], Value::Null);
        assert!(world.told().contains(&"customer.subscription.pending_update_applied".to_owned()));
    }
}

impl Changed {
    /// Moves to a price with a card that is declined; the subscription, which waits.
    async fn wait_for(&self, price: &str) -> Value {
        let subscription = self.world.subscription(&self.subscription).await;
        let customer = subscription["customer"].as_str().expect("a customer");
        self.world.sandbox.set_card("", customer, Card::Declined).expect("a customer");
        let form = format!(
            "items[0][id]={}&items[0][price]={price}&proration_behavior=always_invoice&payment_behavior=pending_if_incomplete",
            self.item
        );
        self.world.post(&format!("/v1/subscriptions/{}", self.subscription), &form).await
    }

    /// The price, whether a change waits, the status of an invoice.
    async fn stands(&self, invoice: &str) -> (String, bool, String) {
        let found = self.world.subscription(&self.subscription).await;
        let invoice = self.world.get(&format!("/v1/invoices/{invoice}"), "").await;
        let price = id(&found["items"]["data"][0]["price"]);
        let status = invoice["status"].as_str().expect("a status").to_owned();
        (price, found["pending_update"].is_object(), status)
    }
}

#[tokio::test]
async fn a_pending_update_goes_with_its_invoice() {
    let changed = half_way().await;
    let before = changed.stands(&latest(&changed.wait_for(&changed.dear).await)).await.0;
    // Another change takes its place, and the invoice of the first is void.
    let first = latest(&changed.world.subscription(&changed.subscription).await);
    let waiting = changed.wait_for(&changed.year).await;
    assert_eq!(changed.stands(&first).await, (before.clone(), true, "void".to_owned()));
    let second = latest(&waiting);
    assert_ne!(first, second);
    // Whoever voids the invoice takes the change back.
    changed.world.post(&format!("/v1/invoices/{second}/void"), "").await;
    assert_eq!(changed.stands(&second).await, (before.clone(), false, "void".to_owned()));
    let told = changed.world.told();
    let kind = "customer.subscription.pending_update_expired";
    assert_eq!(told.iter().filter(|told| *told == kind).count(), 2);
    // So does a change that bills nothing.
    let third = latest(&changed.wait_for(&changed.dear).await);
    let form =
        format!("items[0][id]={}&items[0][price]={before}&proration_behavior=none", changed.item);
    changed.world.post(&format!("/v1/subscriptions/{}", changed.subscription), &form).await;
    assert_eq!(changed.stands(&third).await, (before, false, "void".to_owned()));
}

#[tokio::test]
async fn nothing_else_is_asked_for_with_a_change_that_may_wait() {
    let Changed { world, subscription, item, dear, .. } = half_way().await;
    let (path, before) =
        (format!("/v1/subscriptions/{subscription}"), world.subscription(&subscription).await);
    let form =
        format!("items[0][id]={item}&items[0][price]={dear}&proration_behavior=always_invoice");
    for (more, member) in [
        ("metadata[a]=b", "metadata"),
        ("cancel_at_period_end=true", "cancel_at_period_end"),
        ("discounts[0][coupon]=none", "discounts"),
    ] {
        let form = format!("{form}&{more}&payment_behavior=pending_if_incomplete");
        let refused = world.send("POST", &path, &form, &[]).await;
        let message = refused.body["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(refused.status, 400, "{more}");
        assert!(message.contains(&format!("`{member}` is not supported")), "{message}");
        assert_eq!(world.subscription(&subscription).await, before, "{more}");
    }
    let form = format!("{form}&payment_behavior=pending_if_incomplete");
    assert_eq!(world.send("POST", &path, &form, &[]).await.status, 200);
}

#[tokio::test]
async fn a_pending_update_does_not_outlast_the_period() {
    let changed = half_way().await;
    let (_, end) = period(&changed.world.subscription(&changed.subscription).await);
    changed.world.sandbox.advance_to(end - 3600);
    let waiting = changed.wait_for(&changed.dear).await;
    assert_eq!(waiting["pending_update"]["expires_at"], end);
    let invoice = latest(&waiting);
    let before = changed.stands(&invoice).await.0;
    changed.world.pass(3600);
    assert_eq!(changed.stands(&invoice).await, (before, false, "void".to_owned()));
}

fn latest(subscription: &Value) -> String {
    subscription["latest_invoice"].as_str().expect("an invoice").to_owned()
}

#[tokio::test]
async fn a_pending_update_that_is_not_paid_is_forgotten() {
    let changed = half_way().await;
    changed.wait_for(&changed.dear).await;
    let Changed { world, subscription, .. } = changed;
    world.pass(23 * 3600 + 1);
    let found =
        world.get(&format!("/v1/subscriptions/{subscription}"), "expand[]=latest_invoice").await;
    assert_eq!(
        (&found["pending_update"], found["latest_invoice"]["status"].as_str()),
        (&Value::Null, Some("void"))
    );
    assert!(world.told().contains(&"customer.subscription.pending_update_expired".to_owned()));
}

#[tokio::test]
async fn canceling_at_once_can_credit_and_bill() {
    for (form, expected) in [("", None), ("prorate=true&invoice_now=true", Some(-500))] {
        let Changed { world, subscription, .. } = half_way().await;
        let answered =
            world.send("DELETE", &format!("/v1/subscriptions/{subscription}"), form, &[]).await;
        assert_eq!(
            (answered.status, answered.body["status"].as_str()),
            (200, Some("canceled")),
            "{}",
            answered.body
        );
        let invoices = world.sandbox.objects("", "invoice");
        assert_eq!(
            invoices.get(1).and_then(|invoice| invoice["total"].as_i64()),
            expected,
            "{form}"
        );
        let again =
            world.send("DELETE", &format!("/v1/subscriptions/{subscription}"), "", &[]).await;
        assert_eq!(again.status, 404);
        let path = format!("/v1/subscriptions/{subscription}");
        assert_eq!(world.send("POST", &path, "cancel_at_period_end=true", &[]).await.status, 400);
        assert_eq!(world.send("POST", &path, "metadata[a]=b", &[]).await.status, 200);
        if expected.is_some() {
            let customer = answered.body["customer"].as_str().expect("a customer");
            let customer = world.get(&format!("/v1/customers/{customer}"), "").await;
            assert_eq!(customer["balance"], -500, "the credit waits on the balance");
        }
    }
}

#[tokio::test]
async fn a_pending_change_of_interval_in_the_first_second_renews_by_its_new_period() {
    let world = World::new().await;
    let month = world.price("unit_amount=1000&recurring[interval]=month").await;
    let year = world.price("unit_amount=20000&recurring[interval]=year").await;
    let subscription = world.subscribed(&month, "").await;
    let found = world.subscription(&subscription).await;
    let customer = found["customer"].as_str().expect("a customer").to_owned();
    world.sandbox.set_card("", &customer, Card::Declined).expect("a customer");
    let item = id(&found["items"]["data"][0]);
    let form = format!(
        "items[0][id]={item}&items[0][price]={year}&payment_behavior=pending_if_incomplete"
    );
    let waiting = world.post(&format!("/v1/subscriptions/{subscription}"), &form).await;
    assert!(waiting["pending_update"].is_object(), "{waiting}");
    world.sandbox.set_card("", &customer, Card::Good).expect("a customer");
    let invoice = waiting["latest_invoice"].as_str().expect("an invoice");
    world.post(&format!("/v1/invoices/{invoice}/pay"), "").await;
    for (to, expected) in [
        ("2026-03-15", (START, noon("2027-01-31"))),
        ("2027-02-01", (noon("2027-01-31"), noon("2028-01-31"))),
    ] {
        world.sandbox.advance_to(noon(to));
        assert_eq!(period(&world.subscription(&subscription).await), expected, "{to}");
    }
}
