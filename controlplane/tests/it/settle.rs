//! What Stripe says becomes what is here: every status, whatever goes wrong on the way.

use std::time::Duration;

use serde_json::json;
use stripe_sandbox::{Card, Exhausted, Fault, Outcome, Planned};

use crate::billing::settle::{Owner, Settler};
use crate::billing::stripe::{
    Addresses, Mode, SecretKey, SecretKeys, Stripe, StripeSettings, SubscriptionUpdate,
};
use crate::billing::worker::{CROWD_MIN, Worker};
use crate::storage::{Checkout, EventState, JobClaim, StripeSubscription};

use super::money::{self, DAY, MONTH, Shop, killed};
use super::place::Place;
use super::selling::faults;

pub async fn a_paid_checkout_gives_one_subscription_and_one_claim(place: Place) {
    let shop = Shop::open(&place).await;
    let checkout = shop.checkout().await;
    let session = checkout.session_id.unwrap();
    let owner = Owner {
        account_id: shop.account.clone(),
        mode: Mode::Test,
        stripe_account: shop.stripe_account.clone(),
    };
    shop.tell_all().await;
    assert_eq!(shop.subscriptions().await, [], "nothing is given for nothing");
    shop.sandbox.pay(&session, Outcome::Paid).unwrap();

    // The buyer's browser comes several times while two workers are told several times.
    for event in shop.events().iter().chain(&shop.events()) {
        shop.tell(event).await;
    }
    let (one, other) = (shop.worker(), shop.worker());
    let settler = &shop.billing.settler;
    let page = || settler.checkout_paid(&owner, &session);
    let (worked, also, ..) =
        tokio::join!(one.work_once(), other.work_once(), page(), page(), page());
    worked.unwrap();
    also.unwrap();
    // Twice: what a page held until just now was put off once more.
    shop.settle().await;
    shop.settle().await;
    let again = page().await.unwrap();
    assert_eq!(page().await.unwrap(), again);

    let row = shop.subscription().await;
    assert_eq!((row.status.as_str(), row.plan_id.as_str()), ("active", shop.small.as_str()));
    assert_eq!(shop.claims().await, 1);
    assert_eq!(shop.told("subscription.created").await, 1);
    assert_eq!(shop.told("key.ready").await, 1);
    assert_eq!(shop.outcome().await["checkouts"], json!(["paid"]));
    assert_eq!(place.store.inbox_state().await.unwrap(), crate::storage::InboxState::default());
}

pub async fn a_worker_that_dies_anywhere_leaves_nothing_half(place: Place) {
    let shop = Shop::open(&place).await;
    let mut steps = 1;
    for round in 1.. {
        shop.sold().await;
        for event in shop.events() {
            shop.tell(&event).await;
        }
        let is_done = killed(shop.mortal(), steps).await;
        shop.settle().await;
        assert_eq!(shop.subscriptions().await.len(), round, "killed after {steps} steps");
        assert_eq!(shop.claims().await, round, "killed after {steps} steps");
        if is_done {
            return;
        }
        // Every step at first, where a round is one job; later ones are the same steps of others.
        steps += 1 + steps / 12;
        assert!(round < 90, "it never ends by itself");
    }
}

pub async fn every_status_is_followed(place: Place) {
    let shop = Shop::with(&place, |config| config.exhausted = Exhausted::Unpaid, json!({})).await;
    let id = shop.sold().await;
    let customer = shop.billing.stripe.subscription(&shop.scope(), &id).await.unwrap().customer;
    let (account, customer) = (shop.stripe_account.clone(), customer.unwrap());
    let path = format!("/v1/subscriptions/{id}");
    shop.tell_all().await;
    let anchor = shop.subscription().await.period_anchor_ms;
    let first_end = shop.known().await.period_end_ms;

    shop.sandbox.advance(MONTH);
    shop.tell_all().await;
    let known = shop.known().await;
    assert_eq!(shop.subscription().await.status, "active");
    assert_eq!(known.period_start_ms, first_end, "the period was renewed");
    assert_eq!(shop.subscription().await.period_anchor_ms, anchor, "periods go on from the anchor");

    shop.dashboard(&path, "pause_collection[behavior]=void").await;
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.status, "active", "held invoices leave the status");
    shop.dashboard(&path, "pause_collection=").await;

    shop.sandbox.set_card(&account, &customer, Card::Declined).unwrap();
    shop.sandbox.advance(MONTH);
    shop.tell_all().await;
    let row = shop.subscription().await;
    assert_eq!(row.status, "past_due");
    let since_ms = row.past_due_since_ms.unwrap();
    assert!(
        since_ms >= shop.known().await.period_start_ms.unwrap(),
        "grace begins with the invoice"
    );
    assert_eq!(shop.told("payment.failed").await, 1);
    shop.sandbox.advance(DAY * 2);
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.past_due_since_ms, Some(since_ms), "grace is not renewed");

    shop.sandbox.set_card(&account, &customer, Card::Good).unwrap();
    shop.sandbox.advance(DAY * 6);
    shop.tell_all().await;
    let row = shop.subscription().await;
    assert_eq!((row.status.as_str(), row.past_due_since_ms), ("active", None), "paid again");

    shop.sandbox.set_card(&account, &customer, Card::Declined).unwrap();
    shop.sandbox.advance(MONTH + DAY * 25);
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.status, "unpaid");

    let end =
        SubscriptionUpdate { cancel_at_period_end: Some(true), ..SubscriptionUpdate::default() };
    let ended = shop.billing.stripe.update_subscription(&shop.scope(), &id, &end, "end-1").await;
    ended.unwrap();
    shop.tell_all().await;
    let known = shop.known().await;
    assert_eq!(known.cancel_at_ms, known.period_end_ms);
    shop.sandbox.advance(MONTH + DAY);
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.status, "canceled");
    assert_eq!(shop.told("subscription.ended").await, 1, "unpaid was the end already");
    assert_eq!(place.store.inbox_state().await.unwrap().dead, 0);
}

pub async fn trials_and_payments_that_come_later(place: Place) {
    let shop = Shop::with(&place, |_| {}, json!({ "trial_days": 14 })).await;
    let id = shop.sold().await;
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.status, "trialing");
    let customer = shop.billing.stripe.subscription(&shop.scope(), &id).await.unwrap().customer;
    shop.sandbox.set_card(&shop.stripe_account, &customer.unwrap(), Card::Good).unwrap();
    shop.sandbox.advance(DAY * 12);
    shop.tell_all().await;
    assert_eq!(shop.told("trial.ending").await, 1);
    shop.sandbox.advance(DAY * 3);
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.status, "active");
}

pub async fn money_that_comes_later_or_never(place: Place) {
    let shop = Shop::open(&place).await;
    for (is_paid, expected) in [(true, 1), (false, 1)] {
        let session = shop.checkout().await.session_id.unwrap();
        shop.sandbox.pay(&session, Outcome::Asynchronous).unwrap();
        shop.tell_all().await;
        let before = shop.claims().await;
        assert_eq!(before, usize::from(!is_paid), "nothing is given before the money comes");
        shop.sandbox.resolve(&session, is_paid).unwrap();
        shop.tell_all().await;
        assert_eq!(shop.claims().await, expected);
    }
    assert_eq!(shop.outcome().await["checkouts"], json!(["paid", "failed"]));
}

pub async fn plans_move_up_at_once_and_down_with_the_period(place: Place) {
    let shop = Shop::open(&place).await;
    let id = shop.sold().await;
    shop.tell_all().await;
    shop.move_to(&id, &shop.large).await;
    shop.tell_all().await;
    let row = shop.subscription().await;
    assert_eq!(row.plan_id, shop.large);
    shop.move_to(&id, &shop.small).await;
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.plan_id, shop.large, "until the period is over");
    assert_eq!(shop.known().await.pending_plan_id.as_deref(), Some(shop.small.as_str()));
    shop.sandbox.advance(MONTH);
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.plan_id, shop.small);
    assert_eq!(shop.known().await.pending_plan_id, None);
}

pub async fn full_refunds_end(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.tell_all().await;
    let charges = shop.sandbox.objects(&shop.stripe_account, "charge");
    let charge = charges[0]["id"].as_str().unwrap();
    shop.dashboard("/v1/refunds", &format!("charge={charge}&amount=100")).await;
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.status, "active", "a part was given back");
    shop.dashboard("/v1/refunds", &format!("charge={charge}")).await;
    shop.tell_all().await;
    // The cancellation's own events.
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.status, "canceled");
    let reversals = shop.outcome().await["reversals"].clone();
    assert_eq!(reversals.as_array().unwrap().len(), 1, "one row a charge");
    assert_eq!(reversals[0]["status"], "full");
}

pub async fn an_invoice_that_is_made_has_overage_told(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.tell_all().await;
    place.store.name_entitlements().await.unwrap();
    let over = "INSERT INTO overage_books (entitlement, period_id, period_start_s, period_end_s, limit_units, used_units, \
         over_units, told_units, told_at_ms, retry_at_ms) SELECT entitlement, 1, 0, 4000000000, 10, 15, 5, 0, 7, 7 FROM entitlement_names";
    place.store.raw(over).await;
    let later = "SELECT COUNT(*) AS n FROM overage_books WHERE told_at_ms > 0";
    assert_eq!(place.store.raw_number(later).await, 1, "it has time");
    shop.sandbox.advance(MONTH);
    shop.tell_all().await;
    assert_eq!(place.store.raw_number(later).await, 0, "it is due");
}

pub async fn many_that_renew_at_once_are_fetched_as_lists(place: Place) {
    const WAITING: &str = "SELECT COUNT(*) AS n FROM stripe_events WHERE state = 'waiting' AND subject LIKE '%/subscription/%'";
    let shop = Shop::open(&place).await;
    for _ in 0..CROWD_MIN {
        shop.sold().await;
    }
    shop.tell_all().await;
    assert_eq!(place.store.stripe_crowd(CROWD_MIN).await.unwrap(), None, "nobody waits");
    let renew = async || {
        shop.sandbox.advance(MONTH);
        for event in shop.events() {
            shop.tell(&event).await;
        }
        // A sweep that passes meanwhile finds them all, too.
        shop.hint().await;
        let crowd = place.store.stripe_crowd(CROWD_MIN).await.unwrap().unwrap();
        let prefix = crowd.prefix();
        let claim =
            JobClaim { jobs_max: 1_000, all_max: 1_000, lease_ms: 0, beside: Some(&prefix) };
        let beside = place.store.claim_stripe_jobs_of(claim).await.unwrap();
        assert!(beside.iter().all(|job| !job.subject.starts_with("subscription/")), "{beside:?}");
        shop.sandbox.take_load();
        crowd
    };
    let as_there = async || {
        for row in shop.tenant().all::<StripeSubscription>(100, |query| query).await.unwrap() {
            let there = shop.sandbox.object(&shop.stripe_account, "subscription", &row.stripe_id);
            let start_s = there.unwrap()["items"]["data"][0]["current_period_start"].as_i64();
            assert_eq!(row.period_start_ms, start_s.map(|at_s| at_s * 1_000));
        }
    };
    let crowd = renew().await;
    shop.worker().work_off(crowd).await;
    let calls = shop.sandbox.take_load().calls;
    assert!(calls <= 2, "{calls} calls for {CROWD_MIN} subscriptions");
    assert_eq!(place.store.raw_number(WAITING).await, 0);
    as_there().await;

    // Stripe is away just then: all of them wait, none is lost.
    let crowd = renew().await;
    shop.sandbox.plan_fault(Planned::next(Fault::ErrorBefore, "/v1/subscriptions", 50));
    shop.worker().work_off(crowd).await;
    assert_eq!(shop.sandbox.take_load().calls, 0, "none was asked for alone");
    assert!(place.store.raw_number(WAITING).await >= CROWD_MIN);
    shop.sandbox.clear_faults();
    shop.settle().await;
    assert_eq!(place.store.raw_number(WAITING).await, 0);
    as_there().await;
}

/// Whatever all others wait for, who has paid is given the key's claim.
pub async fn a_checkout_overtakes_all_others(place: Place) {
    const HELD: usize = 40;
    let shop = Shop::open(&place).await;
    let checkout = shop.checkout().await;
    let told_of_charges: Vec<_> = (0..HELD)
        .map(|number| {
            let kind = "charge.refunded";
            let mut event =
                super::stripe_inbox::event(&format!("evt_{number}"), kind, &format!("ch_{number}"));
            event["account"] = shop.stripe_account.as_str().into();
            event
        })
        .collect();
    for event in &told_of_charges {
        shop.tell(event).await;
    }
    // Stripe does not answer about them, and a try takes half a minute.
    shop.sandbox.plan_fault(Planned::next(Fault::HangBefore, "/v1/charges", u32::MAX));
    let worker = tokio::spawn(shop.worker().run());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let has = async |sql: &str, least: i64| {
        while place.store.raw_number(sql).await < least {
            assert!(tokio::time::Instant::now() < deadline, "not in time: {sql}");
            tokio::task::yield_now().await;
        }
    };
    has("SELECT COUNT(*) AS n FROM stripe_leases WHERE name LIKE '%/charge/%'", 16).await;
    shop.sandbox.pay(&checkout.session_id.unwrap(), Outcome::Paid).unwrap();
    for event in shop.events() {
        if event["type"] == "checkout.session.completed" {
            shop.tell(&event).await;
        }
    }
    has("SELECT COUNT(*) AS n FROM claims", 1).await;
    let waiting = "SELECT COUNT(*) AS n FROM stripe_events WHERE state = 'waiting'";
    assert_eq!(place.store.raw_number(waiting).await, HELD as i64, "all others wait still");
    worker.abort();
}

pub async fn what_was_never_told_is_found(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.sweep().await;
    assert_eq!(shop.subscription().await.status, "active");
    assert_eq!(shop.claims().await, 1);
    shop.sandbox.advance(MONTH);
    shop.sweep().await;
    let known = shop.known().await;
    let fetched = shop.billing.stripe.subscription(&shop.scope(), &known.stripe_id).await.unwrap();
    let end_s = fetched.licensed().unwrap().current_period_end;
    assert_eq!(known.period_end_ms, end_s.map(|end_s| end_s * 1_000));

    // Without events, by the subscriptions alone.
    shop.dashboard(&format!("/v1/subscriptions/{}", known.stripe_id), "cancel_at_period_end=true")
        .await;
    place.store.raw("DELETE FROM stripe_events").await;
    for event in shop.events() {
        shop.tell(&event).await;
    }
    place.store.raw("UPDATE stripe_events SET state = 'done'").await;
    assert_eq!(shop.known().await.cancel_at_ms, None);
    shop.sweep().await;
    assert_eq!(shop.known().await.cancel_at_ms, known.period_end_ms);
}

pub async fn a_lost_account_serves_until_the_period_ends(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.tell_all().await;
    shop.sandbox.deauthorize(&shop.stripe_account).unwrap();
    let told = super::stripe_inbox::event("evt_lost", "account.application.deauthorized", "ca_1");
    let told = json!({ "account": shop.stripe_account, "id": told["id"], "type": told["type"],
        "livemode": false, "created": told["created"], "data": told["data"] });
    shop.tell(&told).await;
    shop.settle().await;
    assert_eq!(shop.connected().await.status, "lost");
    shop.sweep().await;
    assert_eq!(shop.subscription().await.status, "active", "it was paid for");
    place.store.raw("UPDATE stripe_subscriptions SET period_end_ms = 1").await;
    shop.sweep().await;
    assert_eq!(shop.subscription().await.status, "canceled");
}

pub async fn stripe_away_is_waited_for_and_nonsense_is_given_up(place: Place) {
    let mut shop = Shop::open(&place).await;
    shop.sold().await;
    let patient = shop.billing.clone();
    shop.billing = money::billing(&place, &shop.sandbox, Duration::from_millis(100));
    for fault in faults() {
        // What is done before it is not answered is only looking, so that it is not believed either.
        shop.sandbox.plan_fault(Planned::from_then_on(fault.clone(), 0));
        shop.tell_all().await;
        assert_eq!(shop.claims().await, 0, "nothing without Stripe's word: {fault:?}");
        assert_eq!(place.store.inbox_state().await.unwrap().dead, 0, "{fault:?}");
        shop.sandbox.clear_faults();
    }
    shop.billing = patient;
    shop.settle().await;
    assert_eq!(shop.claims().await, 1, "it went on by itself");

    let mut nonsense = super::stripe_inbox::event("evt_x", "invoice.paid", "in/../x");
    nonsense["account"] = shop.stripe_account.as_str().into();
    shop.tell(&nonsense).await;
    shop.settle().await;
    let dead = shop.owner.get("/v1/stripe/events?state=dead").await.expect(200);
    assert_eq!(dead.json["data"][0]["event_id"], "evt_x");
    assert_eq!(dead.json["data"][0]["state"], EventState::Dead.as_str());
}

/// Anybody can begin checkouts, so those that expired are not kept for ever.
pub async fn checkouts_that_nobody_paid_are_forgotten(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.checkout().await;
    shop.tell_all().await;
    shop.sandbox.advance(2 * DAY);
    shop.tell_all().await;
    let open = shop.checkout().await;
    let kept = async || {
        let pruned = place.store.prune(0).await.unwrap();
        let rows: Vec<Checkout> = shop.tenant().all(10, |query| query).await.unwrap();
        let mut words: Vec<String> = rows.into_iter().map(|row| row.status).collect();
        words.sort_unstable();
        (pruned.checkouts, words)
    };
    let all = ["expired", "open", "paid"].map(str::to_owned).to_vec();
    assert_eq!(kept().await, (0, all), "they are new");
    place.store.raw("UPDATE checkouts SET created_at_ms = 1").await;
    let left = ["open", "paid"].map(str::to_owned).to_vec();
    assert_eq!(kept().await, (1, left.clone()), "the one that expired is gone");
    assert_eq!(kept().await, (0, left));
    shop.sandbox.pay(&open.session_id.unwrap(), Outcome::Paid).unwrap();
    shop.tell_all().await;
    assert_eq!(shop.claims().await, 2);
}

/// A key that is replaced, or lacks a right for a while, is for whoever runs the control plane to mend: what was told meanwhile waits.
pub async fn the_right_key_is_waited_for(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    for event in shop.events() {
        shop.tell(&event).await;
    }
    for key in [Some("sk_test_another"), None] {
        let test = key.map(|key| SecretKey::parse(key, Mode::Test).unwrap());
        let settings = StripeSettings {
            keys: SecretKeys { test, live: None },
            addresses: Addresses::at(&shop.sandbox.url()),
            ..StripeSettings::default()
        };
        let stripe = Stripe::new(settings, place.store.world().clone()).unwrap();
        let settler = Settler::new(place.store.clone(), stripe);
        place.store.raw("UPDATE stripe_events SET due_at_ms = 0").await;
        assert!(Worker::new(settler, std::sync::Arc::default()).work_once().await.unwrap() > 0);
        assert_eq!(place.store.inbox_state().await.unwrap().dead, 0, "{key:?}");
    }
    shop.sandbox.plan_fault(Planned::from_then_on(Fault::Forbidden, 0));
    shop.settle().await;
    assert_eq!(place.store.inbox_state().await.unwrap().dead, 0, "a right is missing");
    assert_eq!(shop.claims().await, 0);
    shop.sandbox.clear_faults();
    shop.settle().await;
    assert_eq!(shop.claims().await, 1, "it went on by itself");
}
