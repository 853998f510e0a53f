//! Metered use: counted once, adjusted, summed up, billed.

use crate::world::{DAY_S, START, World, id, noon};
use serde_json::Value;
use stripe_sandbox::Card;

struct Metered {
    world: World,
    meter: String,
    customer: String,
}

/// A subscription with a licensed price of 1000 and a metered one of half a cent.
async fn metered() -> Metered {
    let world = World::new().await;
    let meter = id(&world
        .post(
            "/v1/billing/meters",
            "display_name=Calls&event_name=calls&default_aggregation[formula]=sum",
        )
        .await);
    let flat = world.price("unit_amount=1000&recurring[interval]=month").await;
    let form = format!(
        "unit_amount_decimal=0.5&recurring[interval]=month&recurring[usage_type]=metered&recurring[meter]={meter}"
    );
    let use_price = world.price(&form).await;
    let subscription = world.subscribed(&flat, &format!("line_items[1][price]={use_price}")).await;
    let customer = world.subscription(&subscription).await["customer"]
        .as_str()
        .expect("a customer")
        .to_owned();
    Metered { world, meter, customer }
}

impl Metered {
    fn form(&self, identifier: &str, value: &str, timestamp: i64) -> String {
        format!(
            "event_name=calls&identifier={identifier}&timestamp={timestamp}&payload[stripe_customer_id]={}&\
             payload[value]={value}",
            self.customer
        )
    }

    async fn report(&self, identifier: &str, value: i64, timestamp: i64) -> Value {
        self.world
            .post("/v1/billing/meter_events", &self.form(identifier, &value.to_string(), timestamp))
            .await
    }
}

#[tokio::test]
async fn use_is_billed_with_the_renewal_late_reports_included() {
    let metered = metered().await;
    metered.world.pass(2 * DAY_S);
    metered.report("a", 100, START + DAY_S).await;
    metered.report("b", 51, START + 2 * DAY_S).await;
    let renewal = noon("2026-02-28");
    metered.world.sandbox.advance_to(renewal + 600);
    // The draft's hour is for these.
    metered.report("late", 9, renewal - 1).await;
    metered.report("next", 1000, renewal).await;
    metered.world.pass(3600);
    let invoices = metered.world.sandbox.objects("", "invoice");
    let renewed = &invoices[1];
    let lines: Vec<(i64, i64)> = renewed["lines"]["data"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| {
            (
                line["quantity"].as_i64().expect("a quantity"),
                line["amount"].as_i64().expect("an amount"),
            )
        })
        .collect();
    assert_eq!(lines, [(1, 1000), (160, 80)]);
    assert_eq!(
        (renewed["status"].as_str(), renewed["amount_paid"].as_i64()),
        (Some("paid"), Some(1080))
    );
}

/// The metered item is to have a price of another meter, or the licensed one is to cost more.
enum Wish {
    OtherMeter,
    Dearer,
}

impl Metered {
    /// A hundred units are used, and a day later something is changed; the subscription.
    async fn change(&self, wish: &Wish, how: &str) -> Value {
        self.world.pass(2 * DAY_S);
        self.report("a", 100, START + DAY_S).await;
        let subscription = self.world.sandbox.objects("", "subscription").remove(0);
        let items = subscription["items"]["data"].as_array().expect("items");
        let (item, price) = match wish {
            Wish::Dearer => {
                (&items[0], self.world.price("unit_amount=2000&recurring[interval]=month").await)
            }
            Wish::OtherMeter => {
                let meter =
                    "display_name=Others&event_name=others&default_aggregation[formula]=sum";
                let meter = id(&self.world.post("/v1/billing/meters", meter).await);
                let form = format!(
                    "unit_amount_decimal=7&recurring[interval]=month&recurring[usage_type]=metered&recurring[meter]={meter}"
                );
                (&items[1], self.world.price(&form).await)
            }
        };
        let form = format!("items[0][id]={}&items[0][price]={price}&{how}", id(item));
        self.world.post(&format!("/v1/subscriptions/{}", id(&subscription)), &form).await
    }

    /// What invoices have of the hundred units, those that are void left out, when the renewal's is made.
    async fn billed(&self) -> Vec<i64> {
        self.world.sandbox.advance_to(noon("2026-02-28") + 7200);
        let invoices = self.world.sandbox.objects("", "invoice").into_iter();
        let invoices = invoices.filter(|invoice| invoice["status"] != "void");
        let of_use = |line: &&Value| line["quantity"] == 100;
        let amounts = |invoice: Value| -> i64 {
            let lines = invoice["lines"]["data"].as_array().expect("lines").iter();
            lines.filter(of_use).filter_map(|line| line["amount"].as_i64()).sum()
        };
        invoices.map(amounts).collect()
    }
}

#[tokio::test]
async fn a_metered_price_that_goes_bills_its_use_as_the_change_bills() {
    for (how, billed) in [
        ("always_invoice", vec![0, 50, 0]),
        ("create_prorations", vec![0, 50]),
        ("none", vec![0, 0]),
    ] {
        let metered = metered().await;
        metered.change(&Wish::OtherMeter, &format!("proration_behavior={how}")).await;
        assert_eq!(metered.billed().await, billed, "{how}");
    }
}

#[tokio::test]
async fn a_pending_update_bills_what_is_outstanding_and_takes_it_along_where_it_is_given_up() {
    for (card, void, billed) in [
        (Card::Good, false, vec![0, 50, 0]),
        (Card::Declined, true, vec![0, 0]),
        (Card::Declined, false, vec![0, 0]),
    ] {
        let metered = metered().await;
        metered.world.sandbox.set_card("", &metered.customer, card).expect("a customer");
        let how = "proration_behavior=always_invoice&payment_behavior=pending_if_incomplete";
        let changed = metered.change(&Wish::Dearer, how).await;
        assert_eq!(changed["pending_update"].is_object(), card == Card::Declined);
        if void {
            let invoice = changed["latest_invoice"].as_str().expect("an invoice");
            metered.world.post(&format!("/v1/invoices/{invoice}/void"), "").await;
        }
        metered.world.sandbox.set_card("", &metered.customer, Card::Good).expect("a customer");
        assert_eq!(metered.billed().await, billed, "{card:?} {void}");
    }
}

#[tokio::test]
async fn an_event_is_refused_where_stripe_refuses_it() {
    let metered = metered().await;
    metered.report("a", 100, START).await;
    let nobody = metered.form("n", "1", START).replace(&metered.customer, "cus_x");
    for (form, code) in [
        (metered.form("a", "100", START), "duplicate_meter_event"),
        (metered.form("b", "x", START), "meter_event_invalid_value"),
        (metered.form("b", "-1", START), "meter_event_invalid_value"),
        (metered.form("b", "1", START + 301), "timestamp_in_future"),
        (metered.form("b", "1", START - 35 * DAY_S - 1), "timestamp_too_far_in_past"),
        (nobody, "meter_event_customer_not_found"),
        (metered.form("b", "1", START).replace("=calls", "=cals"), "no_meter"),
    ] {
        let answered = metered.world.send("POST", "/v1/billing/meter_events", &form, &[]).await;
        assert_eq!(
            (answered.status, answered.body["error"]["code"].as_str()),
            (400, Some(code)),
            "{form}"
        );
    }
    for (form, why) in [
        (metered.form("c", "1", START + 300), "ahead"),
        (metered.form("d", "1", START - 35 * DAY_S), "back"),
    ] {
        assert_eq!(
            metered.world.send("POST", "/v1/billing/meter_events", &form, &[]).await.status,
            200,
            "{why}"
        );
    }
}

#[tokio::test]
async fn summaries_count_what_was_not_taken_back() {
    let metered = metered().await;
    let day = START - START % DAY_S;
    metered.world.pass(2 * DAY_S);
    for (identifier, value, at) in
        [("a", 5, day), ("b", 7, day + DAY_S), ("c", 11, day + DAY_S + 1)]
    {
        metered.report(identifier, value, at).await;
    }
    let adjust = "event_name=calls&type=cancel&cancel[identifier]=b";
    metered.world.post("/v1/billing/meter_event_adjustments", adjust).await;
    let again =
        metered.world.send("POST", "/v1/billing/meter_event_adjustments", adjust, &[]).await;
    assert_eq!(again.status, 400, "once");
    let path = format!("/v1/billing/meters/{}/event_summaries", metered.meter);
    for (more, expected) in [("", vec![16.0]), ("&value_grouping_window=day", vec![11.0, 5.0])] {
        let query = format!(
            "customer={}&start_time={day}&end_time={}{more}",
            metered.customer,
            day + 2 * DAY_S
        );
        let page = metered.world.get(&path, &query).await;
        let rows = page["data"].as_array().expect("rows").iter();
        let found: Vec<f64> = rows.filter_map(|row| row["aggregated_value"].as_f64()).collect();
        assert_eq!(found, expected, "{more}");
    }
    metered.world.pass(DAY_S + 1);
    let late = metered
        .world
        .send("POST", "/v1/billing/meter_event_adjustments", &adjust.replace("=b", "=c"), &[])
        .await;
    assert_eq!(late.status, 400, "within a day only");
}
