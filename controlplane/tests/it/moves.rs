//! Between plans and back: whatever the way, a buyer pays each moment of a period once.
//!
//! In: a place. Out: what invoices ask for after each move, to the cent.
//! Always holds: Stripe's time moves only by the test, so that shares of a period are exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::json;
use stripe_sandbox::{Card, Fault, Outcome, Planned};

use super::money::{DAY, MONTH, Shop};
use super::place::Place;
use super::story::{BEGAN_S, Stopped};
use crate::api::problem::Problem;
use crate::billing::BillingError;
use crate::billing::change::{Bought, Moved, Preview, When, find};
use crate::billing::settle::{LEASE_MS, Owner};
use crate::billing::stripe::Mode;

/// What plans cost, in the order of what they allow: small, middle, large, huge.
const AMOUNTS: [i64; 4] = [500, 900, 2_000, 6_000];

/// A shop with four plans, and a subscription to the large one that runs since ten days.
struct Moving {
    shop: Shop,
    clock: Arc<Stopped>,
    id: String,
    plans: [String; 4],
}

const SMALL: usize = 0;
const MIDDLE: usize = 1;
const LARGE: usize = 2;
const HUGE: usize = 3;

impl Moving {
    async fn open(place: &Place) -> Self {
        let clock = Arc::new(Stopped(AtomicI64::new(BEGAN_S * 1_000)));
        let shop = Shop::open(&place.in_time_of(clock.clone())).await;
        let mut plans = [shop.small.clone(), String::new(), shop.large.clone(), String::new()];
        for (at, name, requests) in [(MIDDLE, "middle", 300), (HUGE, "huge", 9_000)] {
            let price = json!({ "amount": AMOUNTS[at], "currency": "usd", "interval": "month" });
            let plan = json!({ "reference": name, "price": price,
                "quota": { "requests": requests, "per": "month" } });
            let made = shop.owner.post(&format!("/v1/sites/{}/plans", shop.site), plan).await;
            plans[at] = made.expect(201).id();
        }
        let checkout = shop.checkout_of(&shop.large).await;
        shop.sandbox.pay(&checkout.session_id.unwrap(), Outcome::Paid).unwrap();
        shop.tell_all().await;
        let id = shop.subscription().await.id;
        let moving = Self { shop, clock, id, plans };
        moving.forward(DAY * 10).await;
        assert_eq!(moving.invoiced(), [2_000]);
        moving
    }

    /// Time goes on, at Stripe and here, and what it brings is settled.
    async fn forward(&self, by: Duration) {
        self.clock.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
        self.shop.sandbox.advance(by);
        self.shop.tell_all().await;
    }

    async fn bought(&self) -> Bought {
        find(&self.shop.billing, &self.shop.account, &self.id).await.unwrap()
    }

    async fn preview(&self, to: usize) -> Preview {
        self.bought().await.preview(&self.shop.billing, &self.plans[to]).await.unwrap()
    }

    /// Moves, after a preview that says the same; twice, as by whoever had no answer.
    async fn go(&self, to: usize, when: When) {
        let before: i64 = self.invoiced().iter().sum();
        let preview = self.preview(to).await;
        assert_eq!(preview.when, when);
        for _ in 0..2 {
            assert_eq!(self.try_go(to, Some(preview.at_s)).await.unwrap(), Moved::Done(when));
        }
        let due = preview.invoice.map_or(0, |invoice| invoice.amount_due);
        assert_eq!(self.invoiced().iter().sum::<i64>() - before, due, "as previewed");
        self.shop.tell_all().await;
    }

    async fn try_go(&self, to: usize, at_s: Option<i64>) -> Result<Moved, BillingError> {
        self.bought().await.move_to(&self.shop.billing, &self.plans[to], at_s).await
    }

    /// Which plan is in force, which waits.
    async fn plans(&self) -> (usize, Option<usize>) {
        let place = |id: &str| self.plans.iter().position(|plan| plan == id).unwrap();
        let known = self.shop.known().await;
        let row = self.shop.subscription().await;
        (place(&row.plan_id), known.pending_plan_id.as_deref().map(place))
    }

    /// What each invoice asks for, oldest first.
    fn invoiced(&self) -> Vec<i64> {
        let mut all = self.shop.sandbox.objects(&self.shop.stripe_account, "invoice");
        all.sort_by_key(|one| one["created"].as_i64());
        all.iter().map(|one| one["total"].as_i64().unwrap()).collect()
    }

    /// What was charged, in all.
    fn charged(&self) -> i64 {
        let charges = self.shop.sandbox.objects(&self.shop.stripe_account, "charge");
        let paid = charges.iter().filter(|charge| charge["paid"] == true);
        paid.map(|charge| charge["amount"].as_i64().unwrap()).sum()
    }

    /// The share of an amount that the period has left, as Stripe rounds it.
    async fn share(&self, amount: i64) -> i64 {
        let known = self.shop.known().await;
        let (start, end) = (known.period_start_ms.unwrap(), known.period_end_ms.unwrap());
        let (left, whole) = (end - self.shop.sandbox.now() * 1_000, end - start);
        (amount * left * 2 + whole) / (whole * 2)
    }

    async fn up(&self, from: usize, to: usize) -> i64 {
        self.share(AMOUNTS[to]).await - self.share(AMOUNTS[from]).await
    }
}

pub async fn a_downgrade_that_is_taken_back_costs_nothing(place: Place) {
    let at = Moving::open(&place).await;
    for _ in 0..2 {
        at.go(SMALL, When::PeriodEnd).await;
        assert_eq!(at.plans().await, (LARGE, Some(SMALL)));
        at.go(LARGE, When::Now).await;
        assert_eq!(at.plans().await, (LARGE, None));
    }
    assert_eq!(at.invoiced(), [2_000], "the period was paid for");
    // It goes on as if nothing had been.
    at.forward(MONTH).await;
    assert_eq!((at.invoiced(), at.plans().await), (vec![2_000, 2_000], (LARGE, None)));
}

pub async fn a_move_up_credits_what_was_paid(place: Place) {
    let at = Moving::open(&place).await;
    at.go(SMALL, When::PeriodEnd).await;
    at.forward(DAY * 5).await;
    let due = at.up(LARGE, HUGE).await;
    at.go(HUGE, When::Now).await;
    assert_eq!(at.plans().await, (HUGE, None));
    assert_eq!(at.invoiced(), [2_000, due]);
    // What is paid for is now the huge one: down and back is free, and so is a second way down.
    at.go(LARGE, When::PeriodEnd).await;
    at.go(HUGE, When::Now).await;
    assert_eq!(at.invoiced(), [2_000, due]);
}

pub async fn another_way_down_costs_nothing(place: Place) {
    let at = Moving::open(&place).await;
    at.go(SMALL, When::PeriodEnd).await;
    at.go(MIDDLE, When::PeriodEnd).await;
    assert_eq!(at.plans().await, (LARGE, Some(MIDDLE)));
    let due = at.up(LARGE, HUGE).await;
    assert_eq!(at.preview(HUGE).await.invoice.unwrap().amount_due, due, "what was paid is known");
    at.go(LARGE, When::Now).await;
    at.go(MIDDLE, When::PeriodEnd).await;
    at.forward(MONTH).await;
    assert_eq!((at.invoiced(), at.plans().await), (vec![2_000, 900], (MIDDLE, None)));
    // In a new period the price that waited is the one that was paid.
    at.forward(DAY * 3).await;
    let due = at.up(MIDDLE, LARGE).await;
    at.go(LARGE, When::Now).await;
    assert_eq!(at.invoiced(), [2_000, 900, due]);
}

/// Whoever moved it at Stripe was credited there, so that going back is paid for.
pub async fn a_downgrade_at_stripe_was_credited(place: Place) {
    let at = Moving::open(&place).await;
    let stripe_id = at.shop.known().await.stripe_id;
    at.shop.move_to(&stripe_id, &at.plans[SMALL]).await;
    at.shop.tell_all().await;
    assert_eq!(at.plans().await, (LARGE, Some(SMALL)));
    at.go(MIDDLE, When::PeriodEnd).await;
    at.go(LARGE, When::Now).await;
    assert_eq!(at.plans().await, (LARGE, None));
    assert_eq!(at.invoiced().iter().sum::<i64>(), 2_000, "the credit is paid back");
}

/// At a price that is no longer sold nothing can be put back, and at another one it would be credited wrongly.
pub async fn a_price_that_is_gone_is_waited_for(place: Place) {
    let at = Moving::open(&place).await;
    at.go(SMALL, When::PeriodEnd).await;
    let path = format!("/v1/sites/{}/plans/{}", at.shop.site, at.plans[LARGE]);
    at.shop.owner.patch(&path, None, json!({ "price": { "amount": 2_500 } })).await.expect(200);
    for to in [LARGE, HUGE] {
        let refused = at.try_go(to, None).await;
        assert!(matches!(&refused, Err(BillingError::Conflict(_))), "{refused:?}");
    }
    at.go(MIDDLE, When::PeriodEnd).await;
    assert_eq!((at.invoiced(), at.plans().await), (vec![2_000], (LARGE, Some(MIDDLE))));
    at.forward(MONTH).await;
    let due = at.up(MIDDLE, HUGE).await;
    at.go(HUGE, When::Now).await;
    assert_eq!(at.invoiced(), [2_000, 900, due]);
}

/// Wherever Stripe goes away between the two calls of a move up, sending it again pays it once.
pub async fn a_move_up_is_done_again(place: Place) {
    let at = Moving::open(&place).await;
    let faults = [Fault::ErrorBefore, Fault::ErrorAfter, Fault::ResetAfter];
    for (round, fault) in faults.iter().flat_map(|fault| [fault; 5]).enumerate() {
        at.go(SMALL, When::PeriodEnd).await;
        let due = at.up(LARGE, HUGE).await;
        let before: i64 = at.invoiced().iter().sum();
        let path = format!("/v1/subscriptions/{}", at.shop.known().await.stripe_id);
        let skipped = u32::try_from(round % 5).unwrap();
        let planned = Planned { after: skipped, ..Planned::next(fault.clone(), &path, 2) };
        at.shop.sandbox.plan_fault(planned);
        let mut tries = 0;
        while at.try_go(HUGE, None).await.is_err() {
            tries += 1;
            assert!(tries < 5, "{fault:?} after {skipped}");
        }
        at.shop.sandbox.clear_faults();
        at.shop.tell_all().await;
        assert_eq!(at.plans().await, (HUGE, None));
        let paid = at.invoiced().iter().sum::<i64>() - before;
        assert_eq!(paid, due, "{fault:?} after {skipped}");
        // Back to where it began, by the next period.
        at.go(LARGE, When::PeriodEnd).await;
        at.forward(MONTH).await;
        assert_eq!(at.plans().await, (LARGE, None));
    }
}

/// The process may lose Stripe at any call of a move up that the card does not pay: what waited waits again once all is told, and
/// nothing is charged.
pub async fn a_move_up_that_is_refused_is_put_back_wherever_it_breaks_off(place: Place) {
    let at = Moving::open(&place).await;
    let account = at.shop.stripe_account.clone();
    let subscription = at.shop.known().await.stripe_id;
    let fetched = at.shop.sandbox.object(&account, "subscription", &subscription).unwrap();
    let customer = fetched["customer"].as_str().unwrap().to_owned();
    let paid = || {
        let charges = at.shop.sandbox.objects(&account, "charge");
        charges.iter().filter(|charge| charge["paid"] == true).count()
    };
    at.go(SMALL, When::PeriodEnd).await;
    let mut broken = 0;
    for fault in [Fault::ErrorBefore, Fault::ErrorAfter, Fault::ResetAfter] {
        for skipped in 0.. {
            at.shop.sandbox.set_card(&account, &customer, Card::Declined).unwrap();
            let before = at.shop.sandbox.faults_made();
            let away = Planned { after: skipped, ..Planned::next(fault.clone(), "", 2) };
            at.shop.sandbox.plan_fault(away);
            let outcome = at.try_go(HUGE, None).await;
            at.shop.sandbox.clear_faults();
            at.shop.tell_all().await;
            at.shop.tell_all().await;
            assert!(outcome.is_err(), "{fault:?} after {skipped}: {outcome:?}");
            assert_eq!(at.plans().await, (LARGE, Some(SMALL)), "{fault:?} after {skipped}");
            let known = at.shop.known().await;
            assert_eq!((known.upgrade_plan_id, known.unpaid_invoice), (None, None));
            assert_eq!(paid(), 1, "{fault:?} after {skipped}");
            if at.shop.sandbox.faults_made() == before {
                assert!(matches!(&outcome, Err(BillingError::PaymentRefused(_))), "{outcome:?}");
                break;
            }
            broken += 1;
        }
    }
    assert!(broken > 15, "{broken} calls of a move up");
    at.shop.sandbox.set_card(&account, &customer, Card::Good).unwrap();
    let due = at.up(LARGE, HUGE).await;
    let before = at.charged();
    at.try_go(HUGE, None).await.unwrap();
    at.shop.tell_all().await;
    assert_eq!((at.plans().await, at.charged() - before), ((HUGE, None), due));
}

/// A process that died in the middle of a move has the subscription until its lease is over.
pub async fn a_move_that_finds_another_under_way_says_when_to_come(place: Place) {
    let at = Moving::open(&place).await;
    at.go(SMALL, When::PeriodEnd).await;
    let owner = Owner {
        account_id: at.shop.subscription().await.account_id,
        mode: Mode::Test,
        stripe_account: at.shop.stripe_account.clone(),
    };
    let stripe_id = at.shop.known().await.stripe_id;
    at.shop.billing.settler.take(&owner, &stripe_id).await.unwrap();
    let later = LEASE_MS / 3;
    at.clock.0.fetch_add(later, Ordering::Relaxed);
    let wait_s = u64::try_from((LEASE_MS - later) / 1_000).unwrap();
    let error = at.try_go(HUGE, None).await.unwrap_err();
    let BillingError::NotNow { text, retry_after_s } = &error else { panic!("{error:?}") };
    assert_eq!(*retry_after_s, wait_s);
    let is_said = text.contains("another change") && text.contains(&format!("{wait_s} s"));
    assert!(is_said, "{text}");
    let answer = Problem::from(error).render("req_1");
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &wait_s.into()));
    assert_eq!(at.plans().await, (LARGE, Some(SMALL)));
    at.clock.0.fetch_add(LEASE_MS - later + 1, Ordering::Relaxed);
    at.try_go(HUGE, None).await.unwrap();
    assert_eq!(at.plans().await, (HUGE, None));
}
