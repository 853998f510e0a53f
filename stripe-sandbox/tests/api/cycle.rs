//! Renewals, trials, failures, ends: each a script of steps and what stands after them.

use crate::world::{DAY_S, START, World, id, noon, period};
use serde_json::Value;
use stripe_sandbox::{Card, Config, Exhausted};

#[tokio::test]
async fn periods_follow_the_anchor_and_renewals_are_paid_an_hour_later() {
    let world = World::new().await;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    let id = world.subscribed(&price, "").await;
    for (to, start, end, invoice) in [
        ("2026-02-28", "2026-02-28", "2026-03-31", "draft"),
        ("2026-03-31", "2026-03-31", "2026-04-30", "draft"),
        ("2026-05-15", "2026-04-30", "2026-05-31", "paid"),
        ("2026-12-31", "2026-12-31", "2027-01-31", "draft"),
    ] {
        world.sandbox.advance_to(noon(to));
        let found = world.get(&format!("/v1/subscriptions/{id}"), "expand[]=latest_invoice").await;
        assert_eq!(period(&found), (noon(start), noon(end)), "{to}");
        assert_eq!(found["latest_invoice"]["status"], invoice, "{to}");
        world.pass(3600);
        let found = world.get(&format!("/v1/subscriptions/{id}"), "expand[]=latest_invoice").await;
        assert_eq!(found["latest_invoice"]["status"], "paid", "{to}, an hour later");
        assert_eq!(found["status"], "active");
    }
    let invoices = world.sandbox.objects("", "invoice");
    assert_eq!(invoices.len(), 12, "the first and eleven renewals");
    assert!(invoices.iter().all(|invoice| invoice["total"] == 1900), "{invoices:?}");
}

#[tokio::test]
async fn a_renewal_tells_its_story_in_order() {
    let world = World::new().await;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    world.subscribed(&price, "").await;
    let before = world.told().len();
    world.sandbox.advance_to(noon("2026-02-28") + 3600);
    let told = world.told().split_off(before);
    assert_eq!(
        told,
        [
            "invoice.upcoming",
            "invoice.created",
            "customer.subscription.updated",
            "payment_intent.created",
            "invoice.finalized",
            "charge.succeeded",
            "payment_intent.succeeded",
            "invoice_payment.paid",
            "invoice.paid",
            "invoice.payment_succeeded",
        ]
    );
}

/// What is done between two looks.
enum Step {
    Days(i64),
    Card(Card),
    Cancel(bool),
    Pause(&'static str),
    PayPage,
}

use Step::{Cancel, Days, Pause, PayPage};

async fn play(world: &World, subscription: &str, steps: &[(Step, &str)]) {
    let path = format!("/v1/subscriptions/{subscription}");
    for (number, (step, expected)) in steps.iter().enumerate() {
        let found = world.subscription(subscription).await;
        let customer = found["customer"].as_str().expect("a customer").to_owned();
        match step {
            Days(days) => world.pass(days * DAY_S),
            Step::Card(card) => world.sandbox.set_card("", &customer, *card).expect("a customer"),
            Cancel(wanted) => {
                drop(world.post(&path, &format!("cancel_at_period_end={wanted}")).await)
            }
            Pause("") => drop(world.post(&path, "pause_collection=").await),
            Pause(behavior) => {
                drop(world.post(&path, &format!("pause_collection[behavior]={behavior}")).await)
            }
            PayPage => {
                let invoice = found["latest_invoice"].as_str().expect("an invoice");
                let url = format!("{}/pages/invoice/{invoice}", world.sandbox.url());
                let page =
                    world.client.post(url).body("choice=pay").send().await.expect("an answer");
                assert_eq!(page.status().as_u16(), 200);
            }
        }
        let found = world.get(&path, "expand[]=latest_invoice").await;
        let state = format!(
            "{} {}",
            found["status"].as_str().unwrap_or(""),
            found["latest_invoice"]["status"].as_str().unwrap_or("")
        );
        assert_eq!(state, *expected, "after step {number}");
    }
}

#[tokio::test]
async fn a_failed_renewal_is_tried_again_and_then_the_owners_setting_decides() {
    for (exhausted, last) in [
        (Exhausted::Cancel, "canceled open"),
        (Exhausted::Unpaid, "unpaid open"),
        (Exhausted::PastDue, "past_due open"),
    ] {
        let world = World::with(Config { exhausted, ..Config::fixed(START, 7) }).await;
        let price = world.price("unit_amount=1900&recurring[interval]=month").await;
        let subscription = world.subscribed(&price, "").await;
        let steps = [
            (Step::Card(Card::Declined), "active paid"),
            (Days(28), "active draft"),
            (Days(1), "past_due open"),
            (Days(5), "past_due open"),
            (Days(2), last),
        ];
        play(&world, &subscription, &steps).await;
        let failed = world.told().iter().filter(|kind| *kind == "invoice.payment_failed").count();
        assert_eq!(failed, 5, "the first attempt and four retries, {exhausted:?}");
    }
}

#[tokio::test]
async fn paths_of_a_subscription_end_where_they_should() {
    let scripts: [&[(Step, &str)]; 6] = [
        // Failed, then paid by a retry.
        &[
            (Step::Card(Card::Declined), "active paid"),
            (Days(29), "past_due open"),
            (Step::Card(Card::Good), "past_due open"),
            (Days(2), "active paid"),
            (Days(31), "active paid"),
        ],
        // Failed, then paid on the invoice's page; the new card pays on.
        &[
            (Step::Card(Card::Declined), "active paid"),
            (Days(29), "past_due open"),
            (PayPage, "active paid"),
            (Days(32), "active paid"),
        ],
        // A card that wants its holder cannot be charged alone.
        &[
            (Step::Card(Card::NeedsAction), "active paid"),
            (Days(29), "past_due open"),
            (PayPage, "active paid"),
        ],
        // Canceled for the period's end, kept after all, canceled again.
        &[
            (Cancel(true), "active paid"),
            (Cancel(false), "active paid"),
            (Days(29), "active paid"),
            (Cancel(true), "active paid"),
            (Days(29), "active paid"),
            (Days(2), "canceled paid"),
        ],
        // Collection paused: the status stays, invoices are voided, until it goes on.
        &[
            (Pause("void"), "active paid"),
            (Days(29), "active void"),
            (Pause(""), "active void"),
            (Days(32), "active paid"),
        ],
        &[
            (Pause("keep_as_draft"), "active paid"),
            (Days(29), "active draft"),
            (Days(3), "active draft"),
        ],
    ];
    for script in scripts {
        let world = World::new().await;
        let price = world.price("unit_amount=1900&recurring[interval]=month").await;
        let subscription = world.subscribed(&price, "").await;
        play(&world, &subscription, script).await;
    }
}

#[tokio::test]
async fn a_trial_ends_as_its_settings_and_its_card_say() {
    let behavior = |word: &str| {
        format!("&subscription_data[trial_settings][end_behavior][missing_payment_method]={word}")
    };
    let no_card = "&payment_method_collection=if_required";
    for (more, steps) in [
        (
            String::new(),
            [(Days(13), "trialing paid"), (Days(1), "active draft"), (Days(1), "active paid")],
        ),
        (
            behavior("cancel") + no_card,
            [(Days(13), "trialing paid"), (Days(1), "canceled paid"), (Days(1), "canceled paid")],
        ),
        (
            behavior("pause") + no_card,
            [(Days(13), "trialing paid"), (Days(1), "paused paid"), (Days(40), "paused paid")],
        ),
        (
            behavior("create_invoice") + no_card,
            [(Days(13), "trialing paid"), (Days(1), "active draft"), (Days(1), "past_due open")],
        ),
    ] {
        let world = World::new().await;
        let price = world.price("unit_amount=1900&recurring[interval]=month").await;
        let subscription = world
            .subscribed(&price, &format!("subscription_data[trial_period_days]=14{more}"))
            .await;
        play(&world, &subscription, &steps).await;
        let warned = world
            .told()
            .iter()
            .filter(|kind| *kind == "customer.subscription.trial_will_end")
            .count();
        assert_eq!(warned, 1, "{more}");
    }
}

#[tokio::test]
async fn a_paused_subscription_is_resumed_with_a_card() {
    let world = World::new().await;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    let more = "subscription_data[trial_period_days]=14&payment_method_collection=if_required&\
                subscription_data[trial_settings][end_behavior][missing_payment_method]=pause";
    let subscription = world.subscribed(&price, more).await;
    world.pass(20 * DAY_S);
    let found = world.subscription(&subscription).await;
    let customer = found["customer"].as_str().expect("a customer");
    world.sandbox.set_card("", customer, Card::Good).expect("a customer");
    let resumed = world
        .post(&format!("/v1/subscriptions/{subscription}/resume"), "billing_cycle_anchor=now")
        .await;
    assert_eq!(
        (resumed["status"].as_str(), period(&resumed).0),
        (Some("active"), START + 20 * DAY_S)
    );
    assert!(world.told().contains(&"customer.subscription.resumed".to_owned()));
}

#[tokio::test]
async fn a_first_payment_that_never_comes_ends_after_23_hours() {
    for (card, behavior, status) in [
        ("pm_card_chargeCustomerFail", "allow_incomplete", "incomplete"),
        ("pm_card_authenticationRequired", "allow_incomplete", "incomplete"),
        ("pm_card_visa", "default_incomplete", "incomplete"),
        ("pm_card_visa", "allow_incomplete", "active"),
        ("pm_card_visa", "error_if_incomplete", "active"),
    ] {
        let world = World::new().await;
        let price = world.price("unit_amount=1900&recurring[interval]=month").await;
        let (customer, subscription) = subscribe(&world, &price, card, behavior).await;
        assert_eq!(subscription["status"], status, "{card} {behavior}");
        let subscription = id(&subscription);
        world.pass(23 * 3600 - 1);
        assert_eq!(
            world.subscription(&subscription).await["status"],
            status,
            "{card} {behavior} {customer}"
        );
        world.pass(2);
        let late = if status == "active" { "active" } else { "incomplete_expired" };
        let found = world
            .get(&format!("/v1/subscriptions/{subscription}"), "expand[]=latest_invoice")
            .await;
        assert_eq!(found["status"], late, "{card} {behavior}");
        assert_eq!(
            found["latest_invoice"]["status"],
            if late == "active" { "paid" } else { "void" }
        );
    }
}

async fn subscribe(world: &World, price: &str, card: &str, behavior: &str) -> (String, Value) {
    let customer = id(&world.post("/v1/customers", "email=a@example.com").await);
    let method = id(&world
        .post(&format!("/v1/payment_methods/{card}/attach"), &format!("customer={customer}"))
        .await);
    let form = format!(
        "customer={customer}&items[0][price]={price}&default_payment_method={method}&payment_behavior={behavior}"
    );
    (customer, world.post("/v1/subscriptions", &form).await)
}

#[tokio::test]
async fn a_refusal_with_error_if_incomplete_leaves_nothing() {
    let world = World::new().await;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    let customer = id(&world.post("/v1/customers", "").await);
    let form =
        format!("customer={customer}&items[0][price]={price}&payment_behavior=error_if_incomplete");
    assert_eq!(world.send("POST", "/v1/subscriptions", &form, &[]).await.status, 400, "no card");
    world.sandbox.set_card("", &customer, Card::Declined).expect("a customer");
    let refused = world.send("POST", "/v1/subscriptions", &form, &[]).await;
    assert_eq!(
        (refused.status, refused.body["error"]["code"].as_str()),
        (402, Some("card_declined"))
    );
    assert!(
        world.sandbox.objects("", "subscription").is_empty()
            && world.sandbox.objects("", "invoice").is_empty()
    );
}

#[tokio::test]
async fn a_test_clocks_customers_follow_it_alone() {
    let world = World::new().await;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    let clock = id(&world
        .post("/v1/test_helpers/test_clocks", &format!("frozen_time={}", noon("2027-01-31")))
        .await);
    let customer = id(&world.post("/v1/customers", &format!("test_clock={clock}")).await);
    world.sandbox.set_card("", &customer, Card::Good).expect("a customer");
    let form = format!("customer={customer}&items[0][price]={price}");
    let subscription = id(&world.post("/v1/subscriptions", &form).await);
    let ordinary = world.subscribed(&price, "").await;
    world
        .post(
            &format!("/v1/test_helpers/test_clocks/{clock}/advance"),
            &format!("frozen_time={}", noon("2027-03-01")),
        )
        .await;
    let found = world.subscription(&subscription).await;
    assert_eq!(period(&found), (noon("2027-02-28"), noon("2027-03-31")));
    assert_eq!(
        period(&world.subscription(&ordinary).await),
        (START, noon("2026-02-28")),
        "not its clock"
    );
    world.pass(40 * DAY_S);
    assert_eq!(
        period(&world.subscription(&subscription).await),
        (noon("2027-02-28"), noon("2027-03-31"))
    );
    let back = format!("frozen_time={}", noon("2027-02-01"));
    let path = format!("/v1/test_helpers/test_clocks/{clock}/advance");
    assert_eq!(world.send("POST", &path, &back, &[]).await.status, 400, "no way back");
}

#[tokio::test]
async fn an_anchor_ahead_makes_the_first_period_a_share_of_a_whole_one() {
    let world = World::new().await;
    let price = world.price("unit_amount=2800&recurring[interval]=month").await;
    let anchor = noon("2026-02-14");
    let customer = id(&world.post("/v1/customers", "payment_method=pm_card_visa").await);
    let methods = world.get("/v1/payment_methods", &format!("customer={customer}")).await;
    let method = id(&methods["data"][0]);
    let form = format!(
        "customer={customer}&items[0][price]={price}&default_payment_method={method}&billing_cycle_anchor={anchor}"
    );
    let subscription = world.post("/v1/subscriptions", &form).await;
    assert_eq!(period(&subscription), (START, anchor));
    let first = &world.sandbox.objects("", "invoice")[0];
    // Two weeks of the 31 days from 14 January to 14 February.
    assert_eq!(first["amount_paid"].as_i64(), Some(2800 * 14 / 31 + 1), "{first}");
    world.sandbox.advance_to(anchor + 3600);
    assert_eq!(period(&world.subscription(&id(&subscription)).await), (anchor, noon("2026-03-14")));
    assert_eq!(world.sandbox.objects("", "invoice")[1]["amount_paid"], 2800);
}
