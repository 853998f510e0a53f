//! What is used past a limit around the end of a period or of a subscription, and weeks later, up to the invoices that have it.
//!
//! In: a subscription whose first period is about to end, or has ended. Out: what invoices ask for overage.
//! Always holds: minutes pass as they would, with a teller that looks for what is due in each; the periods are of the last weeks by the
//! database's clock, so that the ledger takes late use of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use policy::budget::{Calendar, Period, Unit};
use policy::ids::entitlement_id;
use serde_json::{Value as Json, json};
use stripe_sandbox::{Fault, Planned};

use super::money::Shop;
use super::place::Place;
use super::quota;
use super::story::Stopped;
use super::sync_node::until;
use crate::billing::change::{self, When};
use crate::overage::OverageTeller;
use crate::reconcile::{NoDecisions, Reconciler, Scope};
use crate::storage::{OverageEvent, Store};
use crate::world::{System, World as _};

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;
/// The small plan's.
const LIMIT: u64 = 100;
const EVENTS: &str = "/v1/billing/meter_events";

/// A subscription around the end of its first period. A unit past its limit costs 3.
struct Around {
    shop: Shop,
    clock: Arc<Stopped>,
    /// By the database's clock, as nodes reach the ledger.
    ledger: Store,
    start_s: i64,
    end_s: i64,
}

impl Around {
    /// So many seconds after the end.
    async fn end(place: &Place, overage: Json, after_s: i64) -> Self {
        // A month has 28 to 31 days.
        let around = Self::begun(place, overage, now_s() - 34 * DAY_S).await;
        around.pass_to(around.end_s + after_s).await;
        around
    }

    /// Now, by the database's clock, where the end was so many days ago: the first number of which a month ends then.
    async fn ended(place: &Place, overage: Json, days: Vec<i64>) -> Self {
        let ends = days.into_iter().map(|days| now_s() - days * DAY_S - HOUR_S);
        let months =
            ends.flat_map(|end_s| (28..=31).map(move |long| (end_s - long * DAY_S, end_s)));
        let is_month = |(began_s, end_s): &(i64, i64)| month(*began_s, *began_s).end_s == *end_s;
        let (began_s, end_s) = { months }.find(is_month).expect("a month that ended then");
        let around = Self::begun(place, overage, began_s).await;
        assert_eq!(around.end_s, end_s, "as Stripe counts months");
        around.pass_to(now_s()).await;
        around
    }

    async fn begun(place: &Place, overage: Json, began_s: i64) -> Self {
        let clock = Arc::new(Stopped(AtomicI64::new(began_s * 1_000)));
        let ledger = place.store.clone();
        let place = place.in_time_of(clock.clone());
        let shop = Shop::with(&place, |_| {}, json!({ "overage": overage })).await;
        shop.sold().await;
        shop.tell_all().await;
        ledger.name_entitlements().await.unwrap();
        let (start_s, end_s) = period(&shop);
        Self { shop, clock, ledger, start_s, end_s }
    }

    /// Goes on to a second, and has all told that Stripe tells until then.
    async fn pass_to(&self, second: i64) {
        self.pass(second - self.shop.sandbox.now());
        self.shop.tell_all().await;
    }

    fn pass(&self, by_s: i64) {
        self.shop.sandbox.advance(Duration::from_secs(by_s.cast_unsigned()));
        self.clock.0.store(self.shop.sandbox.now() * 1_000, Ordering::Relaxed);
    }

    /// Lives to a second, minute by minute.
    async fn live_to(&self, second: i64) {
        while self.shop.sandbox.now() < second {
            self.pass(MINUTE_S);
            self.tell().await;
        }
        self.shop.tell_all().await;
    }

    /// To two hours after the end of the period that runs, when its invoice is final.
    async fn live_to_the_next(&self) {
        let (_, end_s) = period(&self.shop);
        self.pass_to(end_s - MINUTE_S).await;
        self.live_to(end_s + 2 * HOUR_S).await;
    }

    fn teller(&self) -> OverageTeller {
        OverageTeller::new(self.shop.place.another_store(), self.shop.billing.stripe.clone())
    }

    async fn tell(&self) -> usize {
        self.teller().tell_all().await.unwrap()
    }

    /// What was used in a period: so much past the limit.
    async fn use_past_limit(&self, (start_s, end_s): (i64, i64), over: u64) {
        let sql = format!(
            "INSERT INTO overage_books (entitlement, period_id, period_start_s, period_end_s, limit_units, used_units, over_units, \
             told_units, told_at_ms, retry_at_ms) SELECT entitlement, {start_s}, {start_s}, {end_s}, {LIMIT}, {}, {over}, 0, 0, 0 \
             FROM entitlement_names",
            LIMIT + over
        );
        self.ledger.raw(&sql).await;
    }

    async fn use_past_first_limit(&self, over: u64) {
        self.use_past_limit((self.start_s, self.end_s), over).await;
    }

    /// A node that has the entitlement says what was used in a period.
    async fn report(&self, period: Period, used: u64, stamp_us: u64) {
        let row = self.shop.subscription().await;
        let id = entitlement_id("shop", &row.reference);
        let calendar = Calendar { unit: Unit::Month, anchor_s: Some(self.start_s) };
        let terms = quota::terms(1, Some(LIMIT), calendar);
        let request = quota::request(id, period, terms, used, stamp_us);
        self.ledger.take_requests(1, 1, &[request]).await.unwrap();
    }

    async fn increments(&self) -> Vec<OverageEvent> {
        let mut all = self.shop.tenant().all::<OverageEvent>(100, |query| query).await.unwrap();
        all.sort_by_key(|event| event.key);
        all
    }

    /// What each renewal's invoice asks for overage, oldest first.
    fn invoiced(&self) -> Vec<i64> {
        self.overage_of("subscription_cycle")
    }

    /// What each invoice that was made for a reason asks for overage, oldest first.
    fn overage_of(&self, reason: &str) -> Vec<i64> {
        let at_stripe = |kind: &str| self.shop.sandbox.objects(&self.shop.stripe_account, kind);
        let prices = at_stripe("price");
        let is_metered = |line: &&Json| {
            let id = &line["pricing"]["price_details"]["price"];
            let price = prices.iter().find(|price| price["id"] == *id);
            price.is_some_and(|price| price["recurring"]["usage_type"] == "metered")
        };
        let mut invoices = at_stripe("invoice");
        invoices.retain(|invoice| invoice["billing_reason"] == reason);
        invoices.sort_by_key(|invoice| invoice["created"].as_i64());
        let sums = invoices.iter().map(|invoice| {
            assert_ne!(invoice["status"], "draft", "{invoice}");
            let lines = invoice["lines"]["data"].as_array().unwrap().iter();
            lines.filter(is_metered).map(|line| line["amount"].as_i64().unwrap()).sum()
        });
        sums.collect()
    }
}

fn now_s() -> i64 {
    System.now_ms() / 1_000
}

/// The month that a second is in, of those that are counted from another.
fn month(anchor_s: i64, at_s: i64) -> Period {
    Period::first(&Calendar { unit: Unit::Month, anchor_s: Some(anchor_s) }, at_s)
}

/// The period that runs at Stripe.
fn period(shop: &Shop) -> (i64, i64) {
    let all = shop.sandbox.objects(&shop.stripe_account, "subscription");
    let item = &all[0]["items"]["data"][0];
    let second = |name: &str| item[name].as_i64().unwrap();
    (second("current_period_start"), second("current_period_end"))
}

fn plain() -> Json {
    json!({ "unit_amount_decimal": "3" })
}

/// A teller that dies with an increment in hand, before Stripe has it or after, holds it for minutes, not past its invoice.
pub async fn what_a_dead_process_held_is_invoiced_in_time(place: Place) {
    for fault in [Fault::HangBefore, Fault::HangAfter] {
        let name = format!("{fault:?}");
        place.clear().await;
        let at = Around::end(&place, plain(), 5 * MINUTE_S).await;
        at.use_past_first_limit(200).await;
        let made = at.shop.sandbox.faults_made();
        at.shop.sandbox.plan_fault(Planned::next(fault, EVENTS, 1));
        let teller = at.teller();
        let dies = tokio::spawn(async move { teller.tell_all().await });
        assert!(
            until(async || at.shop.sandbox.faults_made() > made).await,
            "{name}: nothing was sent"
        );
        dies.abort();
        assert!(dies.await.unwrap_err().is_cancelled());
        at.live_to(at.end_s + 2 * HOUR_S).await;
        at.live_to_the_next().await;
        assert_eq!(at.invoiced(), [600, 0], "{name}");
        let identifiers = at.shop.sandbox.count(&at.shop.stripe_account, "billing.meter_event");
        assert_eq!(identifiers, 1, "{name}");
    }
}

/// What Stripe could not be told before its invoice was made is on the next one, and what it was told without an answer is on its own.
pub async fn what_misses_its_invoice_is_on_the_next(place: Place) {
    let (before, after) = ((Fault::ErrorBefore, u32::MAX), (Fault::ErrorAfter, 1));
    let cases = [
        (vec![before.clone()], "pending", [0, 600]),
        (vec![after.clone()], "sent", [600, 0]),
        (vec![after, before], "sent", [600, 0]),
    ];
    for (faults, status, expected) in cases {
        let name = format!("{faults:?}");
        place.clear().await;
        let at = Around::end(&place, plain(), -10 * MINUTE_S).await;
        at.use_past_first_limit(200).await;
        for (fault, times) in faults {
            at.shop.sandbox.plan_fault(Planned::next(fault, EVENTS, times));
        }
        at.live_to(at.end_s + 2 * HOUR_S).await;
        assert_eq!(at.increments().await[0].status, status, "{name}");
        at.shop.sandbox.clear_faults();
        at.live_to(at.end_s + 3 * HOUR_S).await;
        at.live_to_the_next().await;
        assert_eq!(at.invoiced(), expected, "{name}");
        let told = at.increments().await;
        assert_eq!((told.len(), told[0].status.as_str()), (1, "sent"), "{name}: {told:?}");
        let (sent, known) =
            (at.shop.sandbox.objects(&at.shop.stripe_account, "billing.meter_event"), &told[0]);
        assert_eq!((sent.len(), sent[0]["timestamp"].as_i64()), (1, Some(known.at_s)), "{name}");
    }
}

/// Stripe refuses what is of more than 35 days ago, however long it was in the way itself.
pub async fn what_waits_for_months_is_charged(place: Place) {
    let at = Around::end(&place, plain(), -10 * MINUTE_S).await;
    at.use_past_first_limit(200).await;
    at.shop.sandbox.plan_fault(Planned::next(Fault::ErrorBefore, EVENTS, u32::MAX));
    for days in [0, 36, 72] {
        at.pass_to(at.end_s + days * DAY_S).await;
        assert_eq!(at.tell().await, 0);
    }
    at.shop.sandbox.clear_faults();
    at.live_to(at.end_s + 72 * DAY_S + HOUR_S).await;
    let told = at.increments().await;
    assert_eq!((told.len(), told[0].status.as_str()), (1, "sent"), "{told:?}");
    at.live_to_the_next().await;
    assert_eq!(at.invoiced(), [0, 0, 0, 600]);
}

/// Nothing that comes late makes an invoice larger than the cap: it waits for the one after it.
pub async fn what_misses_its_invoice_shares_the_cap_of_the_next(place: Place) {
    let capped = json!({ "unit_amount_decimal": "3", "cap_amount": 1_000 });
    let at = Around::end(&place, capped, -10 * MINUTE_S).await;
    at.use_past_first_limit(200).await;
    at.shop.sandbox.plan_fault(Planned::next(Fault::ErrorBefore, EVENTS, u32::MAX));
    at.live_to(at.end_s + 40 * MINUTE_S).await;
    at.shop.sandbox.clear_faults();
    // Nobody sends it for some hours, and what is used meanwhile is told first.
    at.ledger.raw("UPDATE overage_events SET next_at_ms = next_at_ms + 10800000").await;
    at.live_to(at.end_s + 2 * HOUR_S).await;
    at.use_past_limit(period(&at.shop), 300).await;
    at.live_to(at.end_s + 5 * HOUR_S).await;
    let waiting = at.increments().await;
    assert_eq!(waiting[0].status, "pending", "{waiting:?}");
    assert_eq!(waiting[0].error.as_deref(), Some(crate::overage::CAPPED));
    at.live_to_the_next().await;
    at.live_to_the_next().await;
    assert_eq!(at.invoiced(), [0, 900, 600]);
}

/// A node that was cut off brings use of a period that is over: while the invoice is a draft it comes onto that, and after it onto the
/// next.
pub async fn late_use_is_on_the_draft_of_its_period_or_the_next(place: Place) {
    let at = Around::end(&place, plain(), 20 * MINUTE_S).await;
    // Up to its limit was known before.
    at.use_past_first_limit(0).await;
    let (first, second) = (month(at.start_s, at.start_s), month(at.start_s, at.end_s));
    assert_eq!((first.start_s, first.end_s), (at.start_s, at.end_s), "as Stripe counts months");
    at.report(second, 10, 1).await;
    at.report(first, LIMIT + 200, 2).await;
    at.live_to(at.end_s + 30 * MINUTE_S).await;
    at.report(first, LIMIT + 250, 3).await;
    at.live_to(at.end_s + 2 * HOUR_S).await;
    at.report(first, LIMIT + 350, 4).await;
    at.live_to(at.end_s + 3 * HOUR_S).await;
    let told = at.increments().await;
    let spans: Vec<_> = told.iter().map(|it| (it.period_id, it.from_units, it.to_units)).collect();
    let of = at.start_s;
    assert_eq!(spans, [(of, 0, 200), (of, 200, 250), (of, 250, 350)]);
    let is_within = |event: &&OverageEvent| (at.start_s..at.end_s).contains(&event.at_s);
    assert_eq!(told.iter().filter(is_within).count(), 2, "{told:?}");
    at.live_to_the_next().await;
    at.live_to_the_next().await;
    assert_eq!(at.invoiced(), [750, 300, 0]);
}

/// A node that was away for weeks brings use that is charged while Stripe takes what was used then.
pub async fn late_use_is_charged_for_as_long_as_stripe_takes_it(place: Place) {
    let after = |days: i64| (days..days + 4).collect::<Vec<_>>();
    let cases = [(after(8), 600), ((8..=33).rev().collect(), 600), (after(35), 0)];
    for (days, expected) in cases {
        let name = format!("{} days", days[0]);
        place.clear().await;
        let at = Around::ended(&place, plain(), days).await;
        at.use_past_first_limit(0).await;
        at.report(month(at.start_s, now_s()), 10, 1).await;
        at.report(month(at.start_s, at.start_s), LIMIT + 200, 2).await;
        at.live_to(at.shop.sandbox.now() + 5 * MINUTE_S).await;
        at.live_to_the_next().await;
        let (invoiced, told) = (at.invoiced(), at.increments().await);
        assert_eq!(invoiced.iter().sum::<i64>(), expected, "{name}: {invoiced:?} {told:?}");
        assert_eq!(invoiced.last(), Some(&expected), "{name}: {invoiced:?}");
    }
}

/// What is told in the second in which a subscription ends is on its last invoice, whether it is ended by its owner or by a refund.
pub async fn what_is_used_until_the_end_is_on_the_last_invoice(place: Place) {
    for by_refund in [false, true] {
        let name = format!("by a refund: {by_refund}");
        place.clear().await;
        let at = Around::end(&place, plain(), -10 * DAY_S).await;
        at.use_past_first_limit(200).await;
        let (shop, now) = (&at.shop, at.shop.sandbox.now());
        let row = shop.subscription().await;
        // Where it cannot be told, nothing is ended, and the next try goes on.
        shop.sandbox.plan_fault(Planned::next(Fault::ErrorBefore, EVENTS, u32::MAX));
        if by_refund {
            let charge = shop.sandbox.objects(&shop.stripe_account, "charge").remove(0);
            let form = format!("charge={}", charge["id"].as_str().unwrap());
            shop.dashboard("/v1/refunds", &form).await;
        }
        for status in ["active", "canceled", "canceled"] {
            if by_refund {
                shop.tell_all().await;
            } else {
                let bought = change::find(&shop.billing, &shop.account, &row.id).await.unwrap();
                let ended = bought.cancel(&shop.billing, When::Now).await;
                assert_eq!(ended.is_ok(), status == "canceled", "{ended:?}");
            }
            let there = shop.sandbox.objects(&shop.stripe_account, "subscription").remove(0);
            assert_eq!(there["status"], status, "{name}");
            shop.sandbox.clear_faults();
        }
        assert_eq!(shop.sandbox.now(), now, "all in one second");
        assert_eq!(at.overage_of("subscription_update"), [600], "{name}");
        assert_eq!(shop.sandbox.count(&shop.stripe_account, "billing.meter_event"), 1, "{name}");
        at.tell().await;
        assert_eq!(at.increments().await.len(), 1, "{name}");
    }
}

/// A meter that its owner turned off takes nothing. What was used meanwhile waits, is found, and is charged once it is on again.
pub async fn a_meter_that_is_turned_off_is_waited_for(place: Place) {
    let at = Around::end(&place, plain(), -2 * HOUR_S).await;
    let meter = at.shop.sandbox.objects(&at.shop.stripe_account, "billing.meter").remove(0);
    let meter = meter["id"].as_str().unwrap().to_owned();
    at.shop.dashboard(&format!("/v1/billing/meters/{meter}/deactivate"), "").await;
    at.use_past_first_limit(200).await;
    at.live_to(at.end_s + 2 * HOUR_S).await;
    let waiting = at.increments().await.remove(0);
    assert_eq!(waiting.status, "pending", "{waiting:?}");
    let error = waiting.error.unwrap();
    assert!(error.contains("`payfence billing sync --mend`"), "{error}");
    let found = differences(&at.shop).await;
    assert!(found.iter().any(|cause| cause.contains("is turned off")), "{found:?}");
    at.shop.dashboard(&format!("/v1/billing/meters/{meter}/reactivate"), "").await;
    at.live_to(at.end_s + 3 * HOUR_S).await;
    assert_eq!(differences(&at.shop).await, Vec::<String>::new());
    at.live_to_the_next().await;
    assert_eq!(at.invoiced(), [0, 600]);
}

/// What a reconciliation finds.
async fn differences(shop: &Shop) -> Vec<String> {
    let (store, stripe) = (shop.place.store.clone(), shop.billing.stripe.clone());
    let reconciler = Reconciler::new(store, Some(stripe), Box::new(NoDecisions));
    let report = reconciler.run(&Scope::default()).await.unwrap();
    report.differences.into_iter().map(|found| found.cause).collect()
}
