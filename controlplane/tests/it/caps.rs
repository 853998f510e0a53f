//! Overage from a node's reports to invoices: never more than the cap, and each subscription's own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use policy::budget::{Calendar, Period, Unit};
use policy::ids::entitlement_id;
use serde_json::{Value as Json, json};
use stripe_sandbox::{Fault, Outcome, Planned};

use super::catalogue::buy;
use super::overage::client;
use super::place::Place;
use super::quota;
use super::shop::{Shop, price};
use super::webhooks::Moved;
use crate::billing::settle::Owner;
use crate::billing::stripe::Mode;
use crate::overage::{OverageTeller, flush};
use crate::reconcile::{NoDecisions, Pair, Reconciler, Scope};
use crate::storage::{OverageEvent, PlanPrice, Store, StripeSubscription, Subscription};

const HOUR_S: i64 = 3_600;

/// A shop with a plan of a thousand units and overage.
pub struct Sold {
    pub shop: Shop,
    account: String,
    pub stripe_account: String,
    site: String,
    plan: String,
    clock: Arc<Moved>,
    store: Store,
    stamp_us: u64,
}

impl Sold {
    pub async fn open(place: Place, overage: Json) -> Self {
        let shop = Shop::open(place).await;
        let stripe_account = shop.connect().await;
        let (site, plan) = shop.plan("pro", 1_000, with(overage)).await;
        let account = shop.owner.get("/v1/account").await.expect(200).id();
        let clock = Arc::new(Moved::default());
        let store = Store::open(&shop.place.url, 4, clock.clone()).unwrap();
        Self { shop, account, stripe_account, site, plan, clock, store, stamp_us: 0 }
    }

    /// A subscription to the plan; its id, which is what nodes know it by.
    pub async fn buy(&self) -> String {
        let path = buy(&self.shop, &self.site, &self.plan).await;
        path.rsplit('/').next().unwrap().to_owned()
    }

    /// A node says that so much was used of so much.
    pub async fn report(&mut self, id: &str, limit: u64, used: u64) {
        let row = self.store.tenant(&self.account).get::<Subscription>(id).await.unwrap().unwrap();
        let anchor_s = row.period_anchor_ms.unwrap().div_euclid(1_000);
        let calendar = Calendar { unit: Unit::Month, anchor_s: Some(anchor_s) };
        let now_s = self.shop.place.store.ledger_now_ms().await.unwrap().div_euclid(1_000);
        self.stamp_us += 1;
        let terms = quota::terms(self.stamp_us, Some(limit), calendar);
        let period = Period::first(&calendar, now_s);
        let entitlement = entitlement_id("weather", id);
        let request = quota::request(entitlement, period, terms, used, self.stamp_us);
        self.shop.place.store.take_requests(1, 1, &[request]).await.unwrap();
    }

    async fn row(&self, id: &str) -> Subscription {
        self.store.tenant(&self.account).get(id).await.unwrap().unwrap()
    }

    pub fn forward(&self, by_s: i64) {
        self.clock.0.fetch_add(by_s * 1_000, Ordering::Relaxed);
        self.shop.sandbox.advance(Duration::from_secs(by_s.cast_unsigned()));
    }

    /// Two hours after the period that runs at Stripe, when its invoice is final.
    pub fn forward_to_the_next_period(&self) {
        let at_stripe = self.shop.at_stripe(&self.stripe_account, "subscription");
        let end_s = at_stripe[0]["items"]["data"][0]["current_period_end"].as_i64().unwrap();
        self.forward(end_s - self.shop.sandbox.now() + 2 * HOUR_S);
    }

    /// Tells what is due, as a process does that has just started.
    pub async fn tell(&self) {
        let stripe = client(&self.shop.sandbox.url(), self.shop.sandbox.secret_key(), &self.clock);
        OverageTeller::new(self.store.clone(), stripe).tell_all().await.unwrap();
    }

    /// Settles a subscription, as a worker does that was told of it.
    pub async fn look(&self, id: &str) {
        let (account_id, stripe_account) = (self.account.clone(), self.stripe_account.clone());
        let owner = Owner { account_id, mode: Mode::Test, stripe_account };
        let (settler, stripe_id) = (&self.shop.billing.settler, self.paid(id).await.stripe_id);
        let lease = settler.take(&owner, &stripe_id).await.unwrap();
        settler.look_under(&owner, &stripe_id, &lease).await.unwrap();
    }

    pub async fn told(&self) -> Vec<(String, i64, i64)> {
        let tenant = self.store.tenant(&self.account);
        let mut events = tenant.all::<OverageEvent>(100, |query| query).await.unwrap();
        events.sort_by_key(|event| event.key);
        events.into_iter().map(|it| (it.subscription_id, it.from_units, it.to_units)).collect()
    }

    /// Increments with the plans whose meters they are of, and what became of them.
    async fn told_to(&self) -> Vec<(String, i64, i64, String)> {
        let tenant = self.store.tenant(&self.account);
        let prices = tenant.all::<PlanPrice>(10, |query| query).await.unwrap();
        let mut events = tenant.all::<OverageEvent>(100, |query| query).await.unwrap();
        events.sort_by_key(|event| event.key);
        let plan = |event: &OverageEvent| {
            let row = prices.iter().find(|row| row.meter_id == event.meter_id);
            row.unwrap().plan_id.clone()
        };
        let shown =
            events.iter().map(|it| (plan(it), it.from_units, it.to_units, it.status.clone()));
        shown.collect()
    }

    /// What invoices ask for overage, oldest first; those that ask for none are left out.
    pub fn invoiced(&self) -> Vec<i64> {
        let prices = self.shop.at_stripe(&self.stripe_account, "price");
        let is_metered = |line: &Json| {
            let of = prices
                .iter()
                .find(|price| price["id"] == line["pricing"]["price_details"]["price"]);
            of.is_some_and(|price| price["recurring"]["usage_type"] == "metered")
        };
        let mut invoices = self.shop.at_stripe(&self.stripe_account, "invoice");
        invoices.sort_by_key(|invoice| invoice["created"].as_i64());
        let sums = invoices.iter().map(|invoice| {
            let lines = invoice["lines"]["data"].as_array().unwrap().iter();
            lines.filter(|line| is_metered(line)).map(|line| line["amount"].as_i64().unwrap()).sum()
        });
        sums.filter(|sum| *sum > 0).collect()
    }

    /// A checkout's session, and the customer at Stripe that it is for.
    async fn payer(&self, wanted: &Json) -> (String, Json) {
        let made = self.shop.owner.post("/v1/checkouts", wanted.clone()).await.expect(201);
        let session = made.json["session_id"].as_str().unwrap().to_owned();
        let kind = "checkout.session";
        let object = self.shop.sandbox.object(&self.stripe_account, kind, &session);
        (session, object.unwrap()["customer"].clone())
    }

    /// The same, paid: the subscription.
    async fn buy_again(&self, wanted: &Json) -> (String, Json) {
        let (session, payer) = self.payer(wanted).await;
        self.shop.sandbox.pay(&session, Outcome::Paid).unwrap();
        self.shop.see(&format!("/pay/weather/success?session_id={session}")).await.expect(200);
        let made = self.shop.checkout().await;
        (made["subscription_id"].as_str().unwrap().to_owned(), payer)
    }

    /// Subscriptions that a reconciliation says share a meter.
    async fn shared(&self) -> Vec<String> {
        let store = self.shop.place.store.clone();
        let reconciler = Reconciler::new(store, None, Box::new(NoDecisions));
        let found = reconciler.run(&Scope::default()).await.unwrap().differences.into_iter();
        let shared = found.filter(|each| each.first == "one meter each");
        let mut shared: Vec<_> = shared.map(|each| each.subscription).collect();
        shared.sort_unstable();
        shared
    }

    pub async fn paid(&self, id: &str) -> StripeSubscription {
        let tenant = self.store.tenant(&self.account);
        let all = tenant.all::<StripeSubscription>(100, |query| query).await.unwrap();
        all.into_iter().find(|row| row.subscription_id == id).unwrap()
    }
}

pub fn with(overage: Json) -> Json {
    let mut price = price(1_900);
    price["overage"] = overage;
    price
}

pub async fn no_invoice_has_more_overage_than_the_cap(place: Place) {
    let overage = json!({ "unit_amount_decimal": "3", "cap_amount": 1_000 });
    let mut at = Sold::open(place, overage).await;
    let id = at.buy().await;
    // Nodes refuse what the cap does not pay for.
    let shown = at.shop.owner.get(&format!("/v1/entitlements/{id}")).await;
    assert_eq!(shown.expect(200).json["overage_cap"], 333);
    // Whatever they let through all the same, as by corrections of the origin's, is not charged.
    let steps = [
        (1_100, None),
        (1_250, Some(Fault::ErrorAfter)),
        (1_250, None),
        (1_400, Some(Fault::ResetAfter)),
        (5_000, Some(Fault::ErrorBefore)),
        (9_000, None),
    ];
    for (used, fault) in steps {
        at.report(&id, 1_000, used).await;
        at.forward(2 * HOUR_S);
        if let Some(fault) = fault {
            at.shop.sandbox.plan_fault(Planned::next(fault, "/v1/billing/meter_events", 1));
        }
        at.tell().await;
        at.forward(60);
        at.tell().await;
    }
    let told: Vec<_> = at.told().await.into_iter().map(|(_, from, to)| (from, to)).collect();
    assert_eq!(told, [(0, 100), (100, 250), (250, 333)]);
    at.forward_to_the_next_period();
    at.tell().await;
    assert_eq!(at.invoiced(), [999]);
}

/// The last invoice has what was used until then, whether or not its hour had come.
pub async fn what_ends_at_once_is_told_first(place: Place) {
    let mut at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
    let id = at.buy().await;
    at.report(&id, 1_000, 1_200).await;
    let cancel = format!("/v1/subscriptions/{id}/cancel");
    // Where it cannot be told, nothing is ended, and the next try goes on.
    at.shop.sandbox.plan_fault(Planned::next(Fault::ErrorBefore, "/v1/billing/meter_events", 1));
    at.shop.owner.post(&cancel, json!({ "when": "now" })).await.expect(503);
    at.forward(60);
    for _ in 0..2 {
        let view = at.shop.owner.post(&cancel, json!({ "when": "now" })).await.expect(200);
        assert_eq!(view.json["status"], "canceled");
    }
    assert_eq!(at.told().await, [(id, 0, 200)]);
    at.forward(2 * HOUR_S);
    at.tell().await;
    assert_eq!(at.invoiced(), [600]);
}

/// A move takes the old meter's part away, so it waits until that was told; either way, and what it would cost too.
pub async fn what_is_moved_is_told_first(place: Place) {
    let mut at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
    let larger = with(json!({ "unit_amount_decimal": "2" }));
    let (_, large) = at.shop.plan("large", 2_000, larger).await;
    let id = at.buy().await;
    let (small, account) = (at.plan.clone(), at.stripe_account.clone());
    let change = format!("/v1/subscriptions/{id}/change");
    let preview = format!("/v1/subscriptions/{id}/preview");
    let moved = |to: &str| json!({ "plan_id": to });
    at.report(&id, 1_000, 1_200).await;
    for path in [&preview, &change] {
        let lost = Planned::next(Fault::ErrorBefore, "/v1/billing/meter_events", 1);
        at.shop.sandbox.plan_fault(lost);
        let refused = at.shop.owner.post(path, moved(&large)).await.expect(503);
        assert!(refused.json["detail"].as_str().unwrap().contains("overage"), "{}", refused.text);
        assert!(!refused.header("retry-after").is_empty());
        assert_eq!(at.row(&id).await.plan_id, small);
        at.forward(60);
    }
    at.shop.owner.post(&change, moved(&large)).await.expect(200);
    assert_eq!(at.told_to().await, [(small.clone(), 0, 200, "sent".to_owned())]);

    // Down again, with a meter that is off.
    at.report(&id, 2_000, 2_300).await;
    at.forward(60);
    let tenant = at.store.tenant(&at.account);
    let prices = tenant.all::<PlanPrice>(10, |query| query).await.unwrap();
    let meter = prices.iter().find(|row| row.plan_id == large).unwrap().meter_id.clone().unwrap();
    at.shop.call(&account, &format!("billing/meters/{meter}/deactivate"), "").await;
    let refused = at.shop.owner.post(&change, moved(&small)).await.expect(409);
    let detail = refused.json["detail"].as_str().unwrap();
    assert!(detail.contains("`payfence billing sync --mend`"), "{detail}");
    assert_eq!(at.paid(&id).await.pending_plan_id, None);
    let mend = json!({ "mode": "test", "mend": true });
    at.shop.owner.post("/v1/billing/sync", mend).await.expect(200);
    at.shop.owner.post(&change, moved(&small)).await.expect(200);
    assert_eq!(at.told_to().await[1], (large, 200, 300, "sent".to_owned()));
    assert_eq!(at.paid(&id).await.pending_plan_id, Some(small));
}

/// Where a meter was turned off, it is said what to do, before the last invoice is made without what was used.
pub async fn what_ends_at_once_says_that_a_meter_is_off(place: Place) {
    let mut at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
    let id = at.buy().await;
    at.report(&id, 1_000, 1_200).await;
    // One that ends in the second in which it began has no second to be billed.
    at.forward(60);
    let account = at.stripe_account.clone();
    let meter = at.shop.at_stripe(&account, "billing.meter").remove(0);
    let meter = meter["id"].as_str().unwrap().to_owned();
    at.shop.call(&account, &format!("billing/meters/{meter}/deactivate"), "").await;
    let cancel = format!("/v1/subscriptions/{id}/cancel");
    let refused = at.shop.owner.post(&cancel, json!({ "when": "now" })).await.expect(409);
    let detail = refused.json["detail"].as_str().unwrap();
    assert!(detail.contains("`payfence billing sync --mend`"), "{detail}");
    let mend = json!({ "mode": "test", "mend": true });
    let mended = at.shop.owner.post("/v1/billing/sync", mend).await.expect(200);
    assert_eq!(mended.json["entries"][0]["differences"][0]["field"], "meter.status");
    let view = at.shop.owner.post(&cancel, json!({ "when": "now" })).await.expect(200);
    assert_eq!(view.json["status"], "canceled");
    at.forward(2 * HOUR_S);
    assert_eq!(at.invoiced(), [600]);
}

pub async fn what_comes_late_shares_the_cap(place: Place) {
    let overage = json!({ "unit_amount_decimal": "3", "cap_amount": 1_000 });
    let mut at = Sold::open(place, overage).await;
    let id = at.buy().await;
    at.report(&id, 1_000, 1_100).await;
    at.forward(2 * HOUR_S);
    at.tell().await;
    at.forward_to_the_next_period();
    // A node that was away brings use of the period that is over, and more is used in the one that runs.
    let late = "UPDATE overage_books SET used_units = 1900, over_units = 900";
    let more = "INSERT INTO overage_books (entitlement, period_id, period_start_s, period_end_s, limit_units, used_units, \
                over_units, told_units, told_at_ms, retry_at_ms) SELECT entitlement, period_end_s, period_end_s, \
                period_end_s + 2500000, 1000, 1250, 250, 0, 1, 1 FROM overage_books";
    at.shop.place.store.raw(late).await;
    at.shop.place.store.raw(more).await;
    for _ in 0..3 {
        at.forward(2 * HOUR_S);
        at.tell().await;
    }
    let told: Vec<_> = at.told().await.into_iter().map(|(_, from, to)| (from, to)).collect();
    let units = |told: &[(i64, i64)]| told.iter().map(|(from, to)| to - from).sum::<i64>();
    assert_eq!((units(&told), told.len()), (433, 3), "a hundred and then no more than the cap");
    at.forward_to_the_next_period();
    at.tell().await;
    at.forward_to_the_next_period();
    let invoiced = at.invoiced();
    assert_eq!((invoiced.len(), invoiced[0], invoiced[1]), (3, 300, 999), "{invoiced:?}");
    assert!(invoiced[2] <= 1_000, "{invoiced:?}");
    // Of neither period more than the cap.
    assert!(invoiced.iter().sum::<i64>() <= 2_000, "{invoiced:?}");
}

pub async fn a_plan_that_is_moved_to_has_what_is_left(place: Place) {
    let overage = json!({ "unit_amount_decimal": "3", "cap_amount": 1_000 });
    let mut at = Sold::open(place, overage).await;
    let larger = json!({ "unit_amount_decimal": "2", "cap_amount": 1_000 });
    let (_, large) = at.shop.plan("large", 2_000, with(larger)).await;
    let id = at.buy().await;
    at.report(&id, 1_000, 1_200).await;
    at.forward(2 * HOUR_S);
    at.tell().await;
    let change = format!("/v1/subscriptions/{id}/change");
    at.shop.owner.post(&change, json!({ "plan_id": large })).await.expect(200);
    at.report(&id, 2_000, 4_000).await;
    at.forward(2 * HOUR_S);
    at.tell().await;
    // Six hundred were spent, so two hundred more units are paid for.
    let told: Vec<_> = at.told().await.into_iter().map(|(_, from, to)| (from, to)).collect();
    assert_eq!(told, [(0, 200), (200, 400)]);
    at.forward_to_the_next_period();
    at.tell().await;
    let invoiced = at.invoiced();
    assert!(!invoiced.is_empty() && invoiced.iter().sum::<i64>() <= 1_000, "{invoiced:?}");
}

/// What was used under a plan is its own meter's, also where it was not due yet when the plan was left, by our API or at Stripe.
pub async fn each_plans_meter_is_told_what_was_used_under_it(place: Place) {
    let mut at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
    let larger = with(json!({ "unit_amount_decimal": "2" }));
    let (_, large) = at.shop.plan("large", 2_000, larger).await;
    let id = at.buy().await;
    let (small, account) = (at.plan.clone(), at.stripe_account.clone());
    at.report(&id, 1_000, 1_200).await;
    let change = format!("/v1/subscriptions/{id}/change");
    at.shop.owner.post(&change, json!({ "plan_id": large })).await.expect(200);
    assert_eq!(at.told_to().await, [(small.clone(), 0, 200, "sent".to_owned())]);
    // Within the new limit nothing is told; past it what is more than was charged before.
    for used in [1_900, 4_000] {
        at.report(&id, 2_000, used).await;
        at.forward(2 * HOUR_S);
        at.tell().await;
        at.tell().await;
    }
    let mut expected = vec![
        (small.clone(), 0, 200, "sent".to_owned()),
        (large.clone(), 200, 2_000, "sent".to_owned()),
    ];
    assert_eq!(at.told_to().await, expected);

    // Its owner moves it back at Stripe, where nobody asks us before.
    at.report(&id, 2_000, 4_100).await;
    let tenant = at.store.tenant(&at.account);
    let prices = tenant.all::<PlanPrice>(10, |query| query).await.unwrap();
    let price = prices.iter().find(|row| row.plan_id == small).unwrap();
    let paid = at.paid(&id).await;
    let form = format!(
        "items[0][id]={}&items[0][price]={}&items[1][id]={}&items[1][price]={}&proration_behavior=none",
        paid.item_id.unwrap(),
        price.price_id.as_deref().unwrap(),
        paid.metered_item_id.unwrap(),
        price.metered_price_id.as_deref().unwrap(),
    );
    at.shop.call(&account, &format!("subscriptions/{}", paid.stripe_id), &form).await;
    at.look(&id).await;
    at.tell().await;
    expected.push((large.clone(), 2_000, 2_100, "sent".to_owned()));
    assert_eq!(at.told_to().await, expected);
}

pub async fn an_old_price_keeps_its_own_units(place: Place) {
    let overage = json!({ "unit_amount_decimal": "10", "cap_amount": 1_000 });
    let mut at = Sold::open(place, overage).await;
    let id = at.buy().await;
    let path = format!("/v1/sites/{}/plans/{}", at.site, at.plan);
    let cheaper = json!({ "price": { "overage": { "unit_amount_decimal": "1" } } });
    at.shop.owner.patch(&path, None, cheaper).await.expect(200);
    at.shop.owner.post("/v1/billing/sync", json!({ "mode": "test" })).await.expect(200);
    at.report(&id, 1_000, 9_000).await;
    at.forward(2 * HOUR_S);
    at.tell().await;
    at.forward_to_the_next_period();
    at.tell().await;
    assert_eq!(at.invoiced(), [1_000], "a hundred units at ten");
}

pub async fn what_the_meter_counted_is_compared_by_period(place: Place) {
    let mut at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
    let id = at.buy().await;
    // Told ten hours ago, so that it counts as settled.
    at.clock.0.store(-10 * HOUR_S * 1_000, Ordering::Relaxed);
    at.report(&id, 1_000, 1_100).await;
    flush(&at.store, &at.account, &id).await.unwrap();
    at.tell().await;
    let tenant = at.store.tenant(&at.account);
    let event = tenant.one::<OverageEvent>(|query| query).await.unwrap().unwrap();
    assert_eq!((event.status.as_str(), event.to_units), ("sent", 100));
    let compare = async |scope: Scope| {
        let stripe = client(&at.shop.sandbox.url(), at.shop.sandbox.secret_key(), &at.clock);
        let store = at.shop.place.store.clone();
        let reconciler = Reconciler::new(store, Some(stripe), Box::new(NoDecisions));
        let report = reconciler.run(&scope).await.unwrap();
        let is_compared = report.compared.contains_key(&Pair::LedgerStripe);
        assert_eq!(is_compared, scope.period != Some(1), "{report:?}");
        let found = report.differences.into_iter().filter(|each| each.pair == Pair::LedgerStripe);
        found.map(|each| (each.period, each.first, each.second, each.cause)).collect::<Vec<_>>()
    };
    assert_eq!(compare(Scope::default()).await, []);
    let identifier = format!("{id}_{}_100", event.period_id);
    let cancel =
        format!("event_name={}&type=cancel&cancel[identifier]={identifier}", event.event_name);
    at.shop.call(&at.stripe_account, "billing/meter_event_adjustments", &cancel).await;
    let found = compare(Scope::default()).await;
    let told = (Some(event.period_id), "100".to_owned(), "0".to_owned());
    assert_eq!((found.len(), (found[0].0, found[0].1.clone(), found[0].2.clone())), (1, told));
    assert!(found[0].3.contains("dropped"), "{found:?}");
    let other = format!(
        "event_name={}&timestamp={}&payload[stripe_customer_id]={}&payload[value]=150",
        event.event_name, event.at_s, event.stripe_customer_id
    );
    at.shop.call(&at.stripe_account, "billing/meter_events", &other).await;
    let scope = |period| Scope { period: Some(period), ..Scope::default() };
    let found = compare(scope(event.period_id)).await;
    assert_eq!((found.len(), found[0].2.as_str()), (1, "150"));
    assert!(found[0].3.contains("somebody else"), "{found:?}");
    assert_eq!(compare(scope(1)).await, [], "another period is none of it");
}

pub async fn two_subscriptions_of_one_buyer_are_billed_apart(place: Place) {
    let mut at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
    let (_, plain) = at.shop.plan("plain", 500, price(900)).await;
    let first = at.buy().await;
    let shown = at.shop.owner.get(&format!("/v1/subscriptions/{first}")).await.expect(200);
    let customer = shown.json["customer_id"].as_str().unwrap().to_owned();
    let wanted = |plan: &str| json!({ "site_id": at.site, "plan_id": plan, "mode": "test", "customer_id": customer });
    let (again, other) = (wanted(&at.plan), wanted(&plain));
    let (second, nobody) = at.buy_again(&again).await;
    assert_eq!(nobody, Json::Null, "another customer at Stripe");
    let (unmetered, known) = at.buy_again(&other).await;
    assert!(known.is_string(), "without overage it is the one that is known");
    let shown = at.shop.owner.get(&format!("/v1/subscriptions/{second}")).await.expect(200);
    assert_eq!(shown.json["customer_id"], customer.as_str(), "the same one here");
    // It would share the first one's meter.
    let change = format!("/v1/subscriptions/{unmetered}/change");
    let refused = at.shop.owner.post(&change, json!({ "plan_id": at.plan })).await.expect(409);
    assert!(refused.text.contains("new checkout"), "{}", refused.text);

    assert_eq!(at.shared().await, Vec::<String>::new());
    at.report(&first, 1_000, 1_050).await;
    at.report(&second, 1_000, 1_070).await;
    at.forward(2 * HOUR_S);
    at.tell().await;
    assert_eq!(at.told().await.len(), 2);
    at.forward_to_the_next_period();
    at.tell().await;
    let mut invoiced = at.invoiced();
    invoiced.sort_unstable();
    assert_eq!(invoiced, [150, 210]);

    // Brought about by other means, it is found.
    let facts = at.paid(&first).await.facts;
    let shared = format!(
        "UPDATE stripe_subscriptions SET facts = '{facts}' WHERE subscription_id = '{second}'"
    );
    at.shop.place.store.raw(&shared).await;
    let found = at.shared().await;
    let mut both = [first.clone(), second.clone()];
    both.sort_unstable();
    assert_eq!(found, both);

    // What is over is in nobody's way; what may still be paid is.
    for id in [&first, &second] {
        let cancel = format!("/v1/subscriptions/{id}/cancel");
        at.shop.owner.post(&cancel, json!({ "when": "now" })).await.expect(200);
    }
    let (session, one) = at.payer(&again).await;
    let (_, two) = at.payer(&again).await;
    assert!(one.is_string() && two.is_null(), "{one} {two}");

    // What any number of strangers may pay still is no matter of this buyer's, and neither is what they can pay no more.
    let columns =
        "account_id, version, created_at_ms, updated_at_ms, site_id, plan_id, mode, status";
    let strangers = format!(
        "INSERT INTO checkouts (id, settings, {columns}) \
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1500) \
         SELECT 'co_stranger' || n, '{{}}', {columns} FROM checkouts, numbers WHERE session_id = '{session}'"
    );
    at.shop.place.store.raw(&strangers).await;
    assert_eq!(at.payer(&again).await.1, Json::Null);
    at.shop.place.store.raw("UPDATE checkouts SET expires_at_ms = 1").await;
    assert!(at.payer(&again).await.1.is_string(), "nothing of theirs can be paid any more");
}

/// Two of one buyer on a plan without overage share no meter, though one of them had one before.
pub async fn a_meter_that_was_left_is_not_shared(place: Place) {
    let at = Sold::open(place, json!({ "unit_amount_decimal": "3" })).await;
    let (_, plain) = at.shop.plan("plain", 2_000, price(2_900)).await;
    let first = at.buy().await;
    let shown = at.shop.owner.get(&format!("/v1/subscriptions/{first}")).await.expect(200);
    let wanted = json!({ "site_id": at.site, "plan_id": plain, "mode": "test",
        "customer_id": shown.json["customer_id"] });
    at.buy_again(&wanted).await;
    assert!(at.paid(&first).await.metered_item_id.is_some());
    let change = format!("/v1/subscriptions/{first}/change");
    at.shop.owner.post(&change, json!({ "plan_id": plain })).await.expect(200);
    assert_eq!(at.shared().await, Vec::<String>::new());
    assert_eq!(at.paid(&first).await.metered_item_id, None);
}
