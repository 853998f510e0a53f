//! Sessions and how their payments go.

use crate::world::{START, World, id};
use serde_json::Value;
use stripe_sandbox::{Config, Outcome};

#[tokio::test]
async fn each_outcome_leaves_session_and_subscription_as_it_should() {
    let paid = "unit_amount=1900&recurring[interval]=month";
    let free = "unit_amount=0&recurring[interval]=month";
    let trial = "subscription_data[trial_period_days]=14";
    let no_card = "payment_method_collection=if_required";
    use Outcome::{Asynchronous, Declined, NeedsAction, Paid};
    for (price, more, outcome, resolved, expected) in [
        (paid, "", Paid, None, ("complete", "paid", "active")),
        (paid, "", Declined, None, ("open", "unpaid", "")),
        (paid, "", NeedsAction, None, ("open", "unpaid", "")),
        (paid, "", NeedsAction, Some(true), ("complete", "paid", "active")),
        (paid, "", NeedsAction, Some(false), ("open", "unpaid", "")),
        (paid, "", Asynchronous, None, ("complete", "unpaid", "active")),
        (paid, "", Asynchronous, Some(true), ("complete", "paid", "active")),
        (paid, "", Asynchronous, Some(false), ("complete", "unpaid", "past_due")),
        (free, "", Paid, None, ("complete", "paid", "active")),
        (free, no_card, Paid, None, ("complete", "no_payment_required", "active")),
        (paid, trial, Paid, None, ("complete", "paid", "trialing")),
    ] {
        let world = World::new().await;
        let price = world.price(price).await;
        let session = id(&world.session(&price, more).await);
        let done = world.sandbox.pay(&session, outcome);
        assert_eq!(done.is_err(), outcome == Declined, "{more} {outcome:?}: {done:?}");
        if let Some(success) = resolved {
            let done = world.sandbox.resolve(&session, success);
            assert_eq!(
                done.is_ok(),
                success || outcome == Asynchronous,
                "{more} {outcome:?} {success}: {done:?}"
            );
        }
        let session =
            world.get(&format!("/v1/checkout/sessions/{session}"), "expand[]=subscription").await;
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let found = (
            text(&session["status"]),
            text(&session["payment_status"]),
            text(&session["subscription"]["status"]),
        );
        let expected = (expected.0.to_owned(), expected.1.to_owned(), expected.2.to_owned());
        assert_eq!(found, expected, "{more} {outcome:?} {resolved:?}");
    }
}

#[tokio::test]
async fn a_paid_session_tells_of_all_that_came_about_and_pays_the_platform() {
    let mut world = World::new().await;
    let account = id(&world.send("POST", "/v2/core/accounts", "{}", &[]).await.body);
    world.sandbox.onboard(&account).expect("an account");
    world.account = account;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    let more = "subscription_data[application_fee_percent]=2.5&subscription_data[metadata][plan]=gold&\
                client_reference_id=buyer-1&customer_email=a@example.com";
    let session = id(&world.session(&price, more).await);
    let payment = world.sandbox.pay(&session, Outcome::Paid).expect("paid");
    assert_eq!(payment.success_url, format!("http://x/ok?s={session}"));
    let told = world.told();
    for wanted in [
        "customer.created",
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "payment_intent.succeeded",
        "charge.succeeded",
        "invoice.paid",
        "invoice_payment.paid",
        "checkout.session.completed",
    ] {
        assert_eq!(told.iter().filter(|kind| *kind == wanted).count(), 1, "{wanted} in {told:?}");
    }
    let path = format!("/v1/subscriptions/{}", payment.subscription);
    let subscription = world.get(&path, "expand[]=latest_invoice.payments").await;
    assert_eq!(subscription["metadata"]["plan"], "gold");
    let invoice = &subscription["latest_invoice"];
    assert_eq!(
        (invoice["status"].as_str(), invoice["amount_paid"].as_i64()),
        (Some("paid"), Some(1900))
    );
    assert_eq!(
        invoice["parent"]["subscription_details"]["subscription"],
        payment.subscription.as_str()
    );
    let intent =
        invoice["payments"]["data"][0]["payment"]["payment_intent"].as_str().expect("an intent");
    let found = world
        .get(
            "/v1/invoice_payments",
            &format!("payment[type]=payment_intent&payment[payment_intent]={intent}"),
        )
        .await;
    assert_eq!(found["data"][0]["invoice"], invoice["id"], "from intent to invoice");
    world.account.clear();
    let fees = world.get("/v1/application_fees", "").await;
    assert_eq!(
        (fees["data"][0]["amount"].as_i64(), fees["data"].as_array().map(Vec::len)),
        (Some(48), Some(1)),
        "{fees}"
    );
}

#[tokio::test]
async fn a_session_is_paid_once_and_not_after_its_time() {
    let world = World::new().await;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    let first = id(&world.session(&price, "").await);
    world.sandbox.pay(&first, Outcome::Paid).expect("open");
    assert!(world.sandbox.pay(&first, Outcome::Paid).is_err(), "paid already");
    let second = id(&world.session(&price, &format!("expires_at={}", START + 1800)).await);
    world.pass(1801);
    assert!(world.sandbox.pay(&second, Outcome::Paid).is_err(), "its time is over");
    let third = id(&world.session(&price, "").await);
    world.post(&format!("/v1/checkout/sessions/{third}/expire"), "").await;
    assert!(world.sandbox.pay(&third, Outcome::Paid).is_err(), "expired by hand");
    let told = world.told();
    assert_eq!(
        told.iter().filter(|kind| *kind == "checkout.session.expired").count(),
        2,
        "{told:?}"
    );
    let soon = format!(
        "mode=subscription&line_items[0][price]={price}&line_items[0][quantity]=1&success_url=x&expires_at={}",
        START + 1900
    );
    assert_eq!(
        world.send("POST", "/v1/checkout/sessions", &soon, &[]).await.status,
        400,
        "too soon"
    );
}

#[tokio::test]
async fn what_cannot_be_paid_for_is_refused_when_the_session_is_made() {
    let mut world = World::new().await;
    let month = world.price("unit_amount=1900&recurring[interval]=month").await;
    let year = world.price("unit_amount=1900&recurring[interval]=year").await;
    let once = world.price("unit_amount=1900").await;
    let old = world.price("unit_amount=1900&recurring[interval]=month").await;
    world.post(&format!("/v1/prices/{old}"), "active=false").await;
    let meter = id(&world
        .post("/v1/billing/meters", "display_name=C&event_name=c&default_aggregation[formula]=sum")
        .await);
    let metered = world
        .price(&format!("unit_amount_decimal=0.5&recurring[interval]=month&recurring[usage_type]=metered&recurring[meter]={meter}"))
        .await;
    let line = |number: usize, price: &str| {
        format!("&line_items[{number}][price]={price}&line_items[{number}][quantity]=1")
    };
    let both = line(0, &month) + &format!("&line_items[1][price]={metered}");
    for (lines, more, status) in [
        (line(0, &month), "", 200),
        (both, "", 200),
        (line(0, &month) + &line(1, &year), "", 400),
        (line(0, &once), "", 400),
        (line(0, &old), "", 400),
        (line(0, &metered), "", 400),
        (format!("&line_items[0][price]={month}"), "", 400),
        (line(0, "price_x"), "", 400),
        (String::new(), "", 400),
        (line(0, &month), "&subscription_data[application_fee_percent]=5", 400),
        (line(0, &month), "&ui_mode=embedded", 400),
        (line(0, &month), "&customer=cus_x", 400),
        (line(0, &month), "&subscription_data[trial_period_days]=0", 400),
    ] {
        let form = format!("mode=subscription&success_url=http://x{lines}{more}");
        let answered = world.send("POST", "/v1/checkout/sessions", &form, &[]).await;
        assert_eq!(answered.status, status, "{form}: {}", answered.body);
    }
    world.account = id(&world.send("POST", "/v2/core/accounts", "{}", &[]).await.body);
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    for (percent, onboarded, status) in
        [("2.5", false, 400), ("2.5", true, 200), ("2.555", true, 400), ("101", true, 400)]
    {
        if onboarded {
            world.sandbox.onboard(&world.account).expect("an account");
        }
        let form = format!(
            "mode=subscription&success_url=http://x{}&subscription_data[application_fee_percent]={percent}",
            line(0, &price)
        );
        let answered = world.send("POST", "/v1/checkout/sessions", &form, &[]).await;
        assert_eq!(answered.status, status, "{percent} {onboarded}: {}", answered.body);
    }
}

#[tokio::test]
async fn the_page_does_what_its_buttons_say() {
    let world = World::new().await;
    let price = world.price("unit_amount=1900&recurring[interval]=month").await;
    for (choices, last) in [
        (vec!["declined", "pay"], 303),
        (vec!["authenticate", "fails", "authenticate", "succeeds"], 303),
        (vec!["bank"], 303),
        (vec!["declined"], 402),
        (vec!["nothing"], 400),
        (vec!["cancel"], 303),
    ] {
        let session = world.session(&price, "cancel_url=http://x/cancel").await;
        let url = session["url"].as_str().expect("a page");
        let page =
            world.client.get(url).send().await.expect("the page").text().await.expect("HTML");
        assert!(page.contains("Due today: 19.00 USD"), "{page}");
        let mut status = 0;
        for choice in &choices {
            let form = format!("choice={choice}&email=b%40example.com");
            let posted = world.client.post(url).body(form).send().await.expect("an answer");
            status = posted.status().as_u16();
            if status == 303 {
                let to = posted.headers()["location"].to_str().expect("text");
                let wanted = if *choice == "cancel" {
                    "http://x/cancel".to_owned()
                } else {
                    format!("http://x/ok?s={}", id(&session))
                };
                assert_eq!(to, wanted);
            }
        }
        assert_eq!(status, last, "{choices:?}");
    }
}

#[tokio::test]
async fn a_promotion_code_takes_its_part_off_the_first_invoice() {
    let world = World::new().await;
    let price = world.price("unit_amount=2000&recurring[interval]=month").await;
    world.post("/v1/coupons", "id=HALF&percent_off=50&duration=once").await;
    let code = id(&world
        .post("/v1/promotion_codes", "promotion[type]=coupon&promotion[coupon]=HALF&code=Spring")
        .await);
    let subscription =
        world.subscribed(&price, &format!("discounts[0][promotion_code]={code}")).await;
    let session = world.session(&price, "allow_promotion_codes=true").await;
    let url = session["url"].as_str().expect("a page");
    let wrong = world
        .client
        .post(url)
        .body("choice=pay&promotion_code=nope")
        .send()
        .await
        .expect("an answer");
    assert_eq!(wrong.status().as_u16(), 400);
    let right = world
        .client
        .post(url)
        .body("choice=pay&promotion_code=sPRING")
        .send()
        .await
        .expect("an answer");
    assert_eq!(right.status().as_u16(), 303);
    world.pass(31 * 86_400 + 7200);
    let all = world.get("/v1/invoices", "").await;
    let amounts = |reason: &str| -> Vec<i64> {
        let rows = all["data"].as_array().expect("rows").iter();
        rows.filter(|row| row["billing_reason"] == reason)
            .filter_map(|row| row["amount_paid"].as_i64())
            .collect()
    };
    assert_eq!(amounts("subscription_create"), [1000, 1000], "{subscription}");
    assert_eq!(amounts("subscription_cycle"), [2000, 2000], "once is once");
}

#[tokio::test]
async fn time_moves_by_the_buttons_of_the_first_page() {
    let world = World::new().await;
    let home = world.sandbox.url();
    for (choice, status, moved) in
        [("day", 303, 86_400), ("hour", 303, 90_000), ("back", 400, 90_000)]
    {
        let posted = world
            .client
            .post(&home)
            .body(format!("choice={choice}"))
            .send()
            .await
            .expect("an answer");
        assert_eq!(
            (posted.status().as_u16(), world.sandbox.now()),
            (status, START + moved),
            "{choice}"
        );
    }
    let page = world.client.get(&home).send().await.expect("the page").text().await.expect("HTML");
    assert!(page.contains("It is 2026-02-01T13:00:00Z here"), "{page}");
}

#[tokio::test]
async fn a_first_payment_under_way_at_a_bank_may_leave_the_subscription_incomplete() {
    for (paid, at_once, a_day_later) in
        [(true, "active", "active"), (false, "incomplete", "incomplete_expired")]
    {
        let config = Config { active_while_processing: false, ..Config::fixed(START, 7) };
        let world = World::with(config).await;
        let price = world.price("unit_amount=1900&recurring[interval]=month").await;
        let session = id(&world.session(&price, "").await);
        let payment = world.sandbox.pay(&session, Outcome::Asynchronous).expect("an open session");
        let status = async || world.subscription(&payment.subscription).await["status"].clone();
        world.pass(2 * 86_400);
        assert_eq!(status().await, "incomplete", "a bank takes its time");
        world.sandbox.resolve(&session, paid).expect("it waits for the bank");
        assert_eq!(status().await, at_once);
        world.pass(86_400);
        assert_eq!(status().await, a_day_later);
    }
}

/// The one rate is 20 %: on top of an exclusive price, within an inclusive one, after discounts.
#[tokio::test]
async fn taxes_are_on_top_or_within_and_need_an_address() {
    let taxed = "automatic_tax[enabled]=true";
    for (behavior, more, total, tax) in [
        ("exclusive", "", 1440, 240),
        ("inclusive", "", 1200, 200),
        ("unspecified", "", 1440, 240),
        ("exclusive", "&discounts[0][coupon]=half", 720, 120),
        ("inclusive", "&discounts[0][coupon]=half", 600, 100),
    ] {
        let world = World::new().await;
        world.post("/v1/coupons", "id=half&percent_off=50&duration=once").await;
        let price = format!("unit_amount=1200&recurring[interval]=month&tax_behavior={behavior}");
        let price = world.price(&price).await;
        let session = world.session(&price, &format!("{taxed}{more}")).await;
        assert_eq!(session["automatic_tax"]["status"], "requires_location_inputs");
        world.sandbox.pay(&id(&session), Outcome::Paid).expect("open");
        let path = format!("/v1/checkout/sessions/{}", id(&session));
        let session = world.get(&path, "expand[]=invoice&expand[]=customer").await;
        let invoice = &session["invoice"];
        let what = format!("{behavior}{more}");
        assert_eq!(session["customer"]["address"]["country"], "DE", "{what}");
        assert_eq!(
            (&invoice["total"], &invoice["amount_paid"]),
            (&total.into(), &total.into()),
            "{what}"
        );
        assert_eq!(invoice["total_excluding_tax"], total - tax, "{what}");
        assert_eq!(invoice["total_taxes"][0]["amount"], tax, "{what}");
        if more.is_empty() {
            assert_eq!(session["amount_total"], total, "{what}");
            assert_eq!(session["total_details"]["amount_tax"], tax, "{what}");
        }
    }
    let world = World::new().await;
    let price = world.price("unit_amount=1200&recurring[interval]=month").await;
    let customer = id(&world.post("/v1/customers", "email=a@example.com").await);
    let form = format!(
        "mode=subscription&line_items[0][price]={price}&line_items[0][quantity]=1&success_url=http://x&{taxed}"
    );
    for (more, status) in [
        (format!("&customer={customer}"), 400),
        (format!("&customer={customer}&customer_update[address]=never"), 400),
        (format!("&customer={customer}&customer_update[address]=auto"), 200),
        (format!("&customer={customer}&customer_update[address]=auto&customer_email=b@x.com"), 400),
        ("&customer_update[address]=auto".to_owned(), 400),
    ] {
        let answered =
            world.send("POST", "/v1/checkout/sessions", &format!("{form}{more}"), &[]).await;
        assert_eq!(answered.status, status, "{more}: {}", answered.body);
    }
}

/// A card that is taken away pays nothing any more.
#[tokio::test]
async fn a_detached_card_leaves_a_trial_without_means() {
    let world = World::new().await;
    let price = world.price("unit_amount=1200&recurring[interval]=month").await;
    let trial = "subscription_data[trial_period_days]=7&\
                 subscription_data[trial_settings][end_behavior][missing_payment_method]=pause";
    let subscription = world.subscribed(&price, trial).await;
    let method = world.subscription(&subscription).await["default_payment_method"].clone();
    let path = format!("/v1/payment_methods/{}/detach", method.as_str().expect("a card"));
    assert_eq!(world.post(&path, "").await["customer"], Value::Null);
    assert_eq!(world.send("POST", &path, "", &[]).await.status, 400, "it is nobody's");
    assert_eq!(world.subscription(&subscription).await["default_payment_method"], Value::Null);
    world.pass(7 * 86_400);
    assert_eq!(world.subscription(&subscription).await["status"], "paused");
}
