//! Overage from a node's reports to a meter that keeps what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use parking_lot::Mutex;
use policy::budget::{Calendar, EntitlementId, Period, Unit};
use serde_json::json;
use stripe_sandbox::{Config, Planned, Sandbox};

use super::place::{Place, actor};
use super::quota;
use super::selling::faults;
use super::webhooks::Moved;
use crate::billing::stripe::{
    AccountRequest, Addresses, Aggregation, CustomerRequest, MeterRequest, Mode, RetryRules, Scope,
    SecretKey, SecretKeys, Stripe, StripeSettings, SummaryQuery,
};
use crate::overage::{OverageTeller, flush};
use crate::reconcile::{self, NoDecisions, Reconciler};
use crate::storage::{
    AuditEntry, OverageEvent, PlanPrice, Store, StripeAccount, StripeCustomer, StripeSubscription,
    Subscription,
};

const HOUR_MS: i64 = 3_600_000;

/// A meter: identifiers it knows, values by their times, and whether it answers 500 after having counted.
#[derive(Clone, Default)]
struct Meter {
    known: Arc<Mutex<Vec<String>>>,
    counted: Arc<Mutex<Vec<(i64, i64)>>>,
    calls: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
    is_broken: Arc<AtomicBool>,
}

impl Meter {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/v1/billing/meter_events", post(count))
            .route("/v1/billing/meters/mtr_1/event_summaries", get(sum))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn total(&self) -> i64 {
        self.counted.lock().iter().map(|(_, value)| value).sum()
    }
}

async fn count(State(meter): State<Meter>, body: String) -> Response {
    let form = reqwest::Url::parse(&format!("http://meter/?{body}")).unwrap();
    let form: BTreeMap<String, String> = form.query_pairs().into_owned().collect();
    meter.calls.lock().push(form.clone());
    let identifier = form["identifier"].clone();
    if meter.known.lock().contains(&identifier) {
        let error = json!({ "error": { "type": "invalid_request_error", "code": "duplicate_meter_event", "message": "no" } });
        return (StatusCode::BAD_REQUEST, axum::Json(error)).into_response();
    }
    meter.known.lock().push(identifier.clone());
    let number = |name: &str| form[name].parse::<i64>().unwrap();
    meter.counted.lock().push((number("timestamp"), number("payload[value]")));
    if meter.is_broken.load(Ordering::Relaxed) {
        let error = json!({ "error": { "type": "api_error", "message": "broken" } });
        return (StatusCode::INTERNAL_SERVER_ERROR, axum::Json(error)).into_response();
    }
    axum::Json(json!({ "identifier": identifier, "event_name": form["event_name"] }))
        .into_response()
}

async fn sum(
    State(meter): State<Meter>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Response {
    let span = asked["start_time"].parse::<i64>().unwrap()..asked["end_time"].parse().unwrap();
    let counted = meter.counted.lock();
    let sum: i64 = counted.iter().filter(|(at, _)| span.contains(at)).map(|(_, value)| value).sum();
    let data = json!([{ "id": "sum_1", "aggregated_value": sum as f64 }]);
    axum::Json(json!({ "object": "list", "data": data, "has_more": false })).into_response()
}

async fn teller(place: &Place, meter: &Meter, clock: &Arc<Moved>) -> (Store, OverageTeller) {
    let stripe = client(&meter.start().await, "sk_test_walked", clock);
    let store = Store::open(&place.url, 4, clock.clone()).unwrap();
    (store.clone(), OverageTeller::new(store, stripe))
}

pub fn client(url: &str, key: &str, clock: &Arc<Moved>) -> Stripe {
    let key = SecretKey::parse(key, Mode::Test).unwrap();
    let settings = StripeSettings {
        keys: SecretKeys { test: Some(key), live: None },
        addresses: Addresses::at(url),
        retry: RetryRules { tries_max: 1, ..RetryRules::default() },
        timeout: Duration::from_secs(1),
        ..StripeSettings::default()
    };
    Stripe::new(settings, clock.clone()).unwrap()
}

/// Makes the subscription one that is paid for through Stripe.
pub async fn sell(store: &Store, account: &str, subscription: &str) {
    sell_as(store, account, subscription, ["acct_1", "cus_1", "mtr_1"]).await;
}

/// The same with these ids of account, customer and meter.
async fn sell_as(store: &Store, account: &str, subscription: &str, ids: [&str; 3]) {
    let [acct, customer_id, meter_id] = ids.map(ToOwned::to_owned);
    let mut change = store.change(account, actor()).await.unwrap();
    let row = change.tenant().get::<Subscription>(subscription).await.unwrap().unwrap();
    let mode = "test".to_owned();
    let connected = StripeAccount {
        mode: mode.clone(),
        stripe_id: acct.clone(),
        status: "ready".to_owned(),
        settings: "{}".to_owned(),
        ..StripeAccount::default()
    };
    change.insert(connected).await.unwrap();
    let customer = StripeCustomer {
        customer_id: row.customer_id.clone(),
        mode: mode.clone(),
        stripe_account: acct.clone(),
        stripe_id: customer_id,
        ..StripeCustomer::default()
    };
    change.insert(customer).await.unwrap();
    let price = PlanPrice {
        site_id: row.site_id.clone(),
        plan_id: row.plan_id.clone(),
        mode: mode.clone(),
        stripe_account: acct.clone(),
        product_id: "prod_1".to_owned(),
        price_id: Some("price_1".to_owned()),
        meter_id: Some(meter_id),
        meter_event_name: Some("overage_1".to_owned()),
        terms: "{}".to_owned(),
        ..PlanPrice::default()
    };
    change.insert(price).await.unwrap();
    let paid = StripeSubscription {
        subscription_id: row.id.clone(),
        mode,
        stripe_account: acct,
        stripe_id: "sub_stripe".to_owned(),
        stripe_status: "active".to_owned(),
        price_id: Some("price_1".to_owned()),
        facts: "{}".to_owned(),
        ..StripeSubscription::default()
    };
    change.insert(paid).await.unwrap();
    change.commit().await.unwrap();
}

pub async fn increments_are_told_once_whatever_happens(place: Place) {
    let (account, subscription, mut report) = quota::node(&place).await;
    let (meter, clock) = (Meter::default(), Arc::new(Moved::default()));
    let (store, teller) = teller(&place, &meter, &clock).await;
    sell(&store, &account, &subscription).await;
    let forward = |hours: i64| clock.0.fetch_add(hours * HOUR_MS, Ordering::Relaxed);
    report(1_000, None).await;
    report(1_200, None).await;
    assert_eq!(teller.tell_all().await.unwrap(), 0, "refunds may come yet");
    forward(2);
    assert_eq!(teller.tell_all().await.unwrap(), 1);
    assert_eq!(teller.tell_all().await.unwrap(), 0, "nothing is new");
    assert_eq!(meter.total(), 200);
    {
        let calls = meter.calls.lock();
        assert_eq!(calls[0]["payload[stripe_customer_id]"], "cus_1");
        assert_eq!(calls[0]["event_name"], "overage_1");
        assert!(calls[0]["identifier"].starts_with(&format!("{subscription}_")));
        assert!(calls[0]["identifier"].ends_with("_200"));
    }
    // Counted, but the answer was lost: the same identifier again.
    report(1_500, None).await;
    forward(2);
    meter.is_broken.store(true, Ordering::Relaxed);
    assert_eq!(teller.tell_all().await.unwrap(), 0);
    assert_eq!(meter.total(), 500);
    meter.is_broken.store(false, Ordering::Relaxed);
    clock.0.fetch_add(60_000, Ordering::Relaxed);
    assert_eq!(teller.tell_all().await.unwrap(), 1);
    assert_eq!(meter.total(), 500, "counted once");
    // An invoice is being made.
    report(1_600, None).await;
    assert_eq!(teller.tell_all().await.unwrap(), 0);
    flush(&store, &account, &subscription).await.unwrap();
    assert_eq!(teller.tell_all().await.unwrap(), 1);
    assert_eq!(meter.total(), 600);
    // Counted, the answer lost, and found only when Stripe has forgotten the identifier.
    report(1_700, None).await;
    forward(2);
    meter.is_broken.store(true, Ordering::Relaxed);
    assert_eq!(teller.tell_all().await.unwrap(), 0);
    meter.is_broken.store(false, Ordering::Relaxed);
    meter.known.lock().clear();
    forward(30);
    assert_eq!(teller.tell_all().await.unwrap(), 1);
    assert_eq!(meter.total(), 700, "looked up, not sent again");
    // A raised limit takes nothing back and charges nothing below it.
    report(1_800, Some(Some(5_000))).await;
    forward(2);
    assert_eq!(teller.tell_all().await.unwrap(), 0);
    let tenant = store.tenant(&account);
    let events = tenant.all::<OverageEvent>(100, |query| query).await.unwrap();
    let spans: Vec<_> = events.iter().map(|event| (event.from_units, event.to_units)).collect();
    assert_eq!(spans, [(0, 200), (200, 500), (500, 600), (600, 700)]);
    assert!(events.iter().all(|event| event.status == "sent"), "{events:?}");
}

pub async fn what_stripe_does_not_sell_is_left(place: Place) {
    let (account, subscription, mut report) = quota::node(&place).await;
    let (meter, clock) = (Meter::default(), Arc::new(Moved::default()));
    let (store, teller) = teller(&place, &meter, &clock).await;
    report(1_300, None).await;
    clock.0.fetch_add(2 * HOUR_MS, Ordering::Relaxed);
    assert_eq!(teller.tell_all().await.unwrap(), 0);
    assert!(meter.calls.lock().is_empty());
    // Sold later, nothing is forgotten.
    sell(&store, &account, &subscription).await;
    clock.0.fetch_add(2 * HOUR_MS, Ordering::Relaxed);
    assert_eq!(teller.tell_all().await.unwrap(), 1);
    assert_eq!(meter.total(), 300);
}

pub async fn late_use_is_measured_by_the_limit_of_its_period(place: Place) {
    let calendar = Calendar { unit: Unit::Second, anchor_s: None };
    let id = EntitlementId(9 << 90);
    let store = &place.store;
    let now_s = async || store.ledger_now_ms().await.unwrap().div_euclid(1_000);
    let first = Period::first(&calendar, now_s().await);
    let mut stamp_us = 1;
    let mut report = async |period: Period, limit: u64, used: u64| {
        stamp_us += 1;
        let terms = quota::terms(limit, Some(limit), calendar);
        let request = quota::request(id, period, terms, used, stamp_us);
        store.take_requests(1, 1, &[request]).await.unwrap();
        store.ledger_account(id.0).await.unwrap().unwrap()
    };
    let book = async |period: Period| {
        let books = store.overage_of(id.0).await.unwrap();
        books.into_iter().find(|book| book.period_id == period.id.0 as i64)
    };
    let deadline = now_s().await + 60;
    // A report may come when its second is over.
    let mut opened = report(first, 1_000, 900).await.current;
    while book(opened).await.is_none_or(|book| book.used_units != 900) {
        assert!(now_s().await < deadline, "no report came in time");
        opened = report(Period::first(&calendar, now_s().await), 1_000, 900).await.current;
    }
    let mut current = opened;
    while current.id == opened.id {
        assert!(now_s().await < deadline, "no period came after {opened:?}");
        current = report(Period::first(&calendar, now_s().await), 1_000, 0).await.current;
    }
    // A period after it has a plan that gives more.
    report(current, 5_000, 0).await;
    report(opened, 5_000, 1_400).await;
    let late = book(opened).await.unwrap();
    assert_eq!((late.limit_units, late.used_units, late.over_units), (1_000, 1_400, 400));
}

/// Use of a period in which nobody reported, since what used it was cut off, is measured by the limit that held before it and after it.
pub async fn late_use_of_a_period_that_nobody_saw_is_charged(place: Place) {
    let calendar = Calendar { unit: Unit::Second, anchor_s: None };
    let store = &place.store;
    let now_s = async || store.ledger_now_ms().await.unwrap().div_euclid(1_000);
    let mut stamp_us = 1;
    // (limit before, limit after, whether it is known what held between)
    for (number, (before, after, is_known)) in
        [(1_000, 1_000, true), (1_000, 5_000, false), (5_000, 1_000, false)].into_iter().enumerate()
    {
        let id = EntitlementId((10 + number as u128) << 90);
        let mut report = async |node: u64, period: Period, limit: u64, used: u64| {
            stamp_us += 1;
            let terms = quota::terms(stamp_us, Some(limit), calendar);
            let request = quota::request(id, period, terms, used, stamp_us);
            store.take_requests(node, 1, &[request]).await.unwrap();
            store.ledger_account(id.0).await.unwrap().unwrap().current
        };
        let deadline = now_s().await + 60;
        let opened = report(1, Period::first(&calendar, now_s().await), before, 0).await;
        // Two periods on: of the one between nobody has said anything.
        let mut current = opened;
        while current.id.0 < opened.id.0 + 2 {
            assert!(now_s().await < deadline, "no period came after {opened:?}");
            if now_s().await > opened.end_s {
                current = report(1, Period::first(&calendar, now_s().await), after, 0).await;
            }
        }
        let between = Period::first(&calendar, opened.end_s);
        for _ in 0..2 {
            report(2, between, after, 1_400).await;
        }
        let books = store.overage_of(id.0).await.unwrap();
        let book = books.into_iter().find(|book| book.period_id == between.id.0 as i64);
        let expected = is_known.then_some((1_000, 1_400, 400));
        let book = book.map(|book| (book.limit_units, book.used_units, book.over_units));
        assert_eq!(book, expected, "{before} before, {after} after");
    }
}

/// The stand-in for Stripe takes what the client sends, and counts each increment once, whatever goes wrong on the way.
pub async fn the_sandbox_counts_what_was_used(place: Place) {
    let (account, subscription, mut report) = quota::node(&place).await;
    // Its client speaks no TLS, but is built with what others in this process need. Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sandbox = Sandbox::start(Config::default()).await.unwrap();
    let clock = Arc::new(Moved::default());
    let stripe = client(&sandbox.url(), sandbox.secret_key(), &clock);
    let owner = AccountRequest::merchant("owner@example.com", Some("de"));
    let owner = stripe.create_account(Mode::Test, &owner, "account").await.unwrap();
    sandbox.onboard(&owner.id).unwrap();
    let scope = Scope::connected(Mode::Test, &owner.id);
    let customer = CustomerRequest::default();
    let customer = stripe.create_customer(&scope, &customer, "customer").await.unwrap().id;
    let meter = MeterRequest {
        display_name: "Overage".to_owned(),
        event_name: "overage_1".to_owned(),
        default_aggregation: Aggregation { formula: "sum".to_owned() },
    };
    let meter = stripe.create_meter(&scope, &meter, "meter").await.unwrap().id;
    let store = Store::open(&place.url, 4, clock.clone()).unwrap();
    sell_as(&store, &account, &subscription, [&owner.id, &customer, &meter]).await;
    let teller = OverageTeller::new(store.clone(), stripe.clone());
    let forward = |by_s: u64| {
        clock.0.fetch_add(by_s as i64 * 1_000, Ordering::Relaxed);
        sandbox.advance(Duration::from_secs(by_s));
    };
    report(1_000, None).await;
    let mut used = 1_000;
    for fault in faults() {
        let told = format!("{fault:?}");
        used += 111;
        report(used, None).await;
        forward(7_200);
        sandbox.plan_fault(Planned::next(fault, "/v1/billing/meter_events", 1));
        assert_eq!(teller.tell_all().await.unwrap(), 0, "{told}");
        forward(60);
        assert_eq!(teller.tell_all().await.unwrap(), 1, "{told}");
        let now_s = sandbox.now();
        let query = SummaryQuery {
            customer: customer.clone(),
            start_time: now_s.div_euclid(60) * 60 - 7 * 86_400,
            end_time: now_s.div_euclid(60) * 60 + 60,
            limit: Some(100),
            starting_after: None,
        };
        let sums = stripe.event_summaries(&scope, &meter, &query).await.unwrap().data;
        let sum: f64 = sums.iter().map(|sum| sum.aggregated_value).sum();
        assert_eq!(sum, (used - 1_000) as f64, "{told}");
    }
    sandbox.shutdown().await;
}

/// A customer of ours may be several at Stripe; who pays for the subscription is whom its use is told of.
pub async fn the_subscriptions_own_customer_is_told(place: Place) {
    let (account, subscription, mut report) = quota::node(&place).await;
    let (meter, clock) = (Meter::default(), Arc::new(Moved::default()));
    let (store, teller) = teller(&place, &meter, &clock).await;
    sell(&store, &account, &subscription).await;
    store.raw("UPDATE stripe_subscriptions SET facts = '{\"customer\":\"cus_2\"}'").await;
    report(1_000, None).await;
    report(1_200, None).await;
    clock.0.fetch_add(2 * HOUR_MS, Ordering::Relaxed);
    assert_eq!(teller.tell_all().await.unwrap(), 1);
    assert_eq!(meter.calls.lock()[0]["payload[stripe_customer_id]"], "cus_2");
}

/// Another account that is connected in the place of the one that sold it has neither its meters nor its customers.
pub async fn another_account_is_told_nothing_of_what_a_lost_one_sold(place: Place) {
    let (account, subscription, mut report) = quota::node(&place).await;
    let (meter, clock) = (Meter::default(), Arc::new(Moved::default()));
    let (store, teller) = teller(&place, &meter, &clock).await;
    sell(&store, &account, &subscription).await;
    report(1_200, None).await;
    clock.0.fetch_add(2 * HOUR_MS, Ordering::Relaxed);
    store.raw("UPDATE stripe_accounts SET stripe_id = 'acct_2'").await;
    assert_eq!(teller.tell_all().await.unwrap(), 0);
    assert!(meter.calls.lock().is_empty(), "{:?}", meter.calls);
    let tenant = store.tenant(&account);
    let event = tenant.one::<OverageEvent>(|query| query).await.unwrap().unwrap();
    assert_eq!(event.status, "pending", "it waits: {event:?}");
    store.raw("UPDATE stripe_accounts SET stripe_id = 'acct_1'").await;
    clock.0.fetch_add(2 * HOUR_MS, Ordering::Relaxed);
    assert_eq!(teller.tell_all().await.unwrap(), 1);
    assert_eq!(meter.total(), 200);
}

/// What was to be told to an account that is connected no more waits for as long as Stripe would take it, and is lost after it: nobody
/// tries again, and owners and reconciliation are told.
pub async fn what_an_account_that_is_gone_was_to_be_told_is_lost_in_the_end(place: Place) {
    let (account, subscription, mut report) = quota::node(&place).await;
    let (meter, clock) = (Meter::default(), Arc::new(Moved::default()));
    let (store, teller) = teller(&place, &meter, &clock).await;
    sell(&store, &account, &subscription).await;
    report(1_200, None).await;
    store.raw("UPDATE stripe_accounts SET lost_at_ms = 1").await;
    let pass = async |hours: i64| {
        clock.0.fetch_add(hours * HOUR_MS, Ordering::Relaxed);
        assert_eq!(teller.tell_all().await.unwrap(), 0);
        let tenant = store.tenant(&account);
        tenant.one::<OverageEvent>(|query| query).await.unwrap().unwrap()
    };
    for hours in [2, 34 * 24 - 1] {
        assert_eq!(pass(hours).await.status, "pending", "it may be connected again");
    }
    let lost = pass(2).await;
    assert_eq!((lost.status.as_str(), lost.next_at_ms), ("lost", None), "{lost:?}");
    let error = lost.error.clone().unwrap();
    assert!(error.contains("invoice item"), "{error}");
    // Nobody goes on with it, though the account is connected again.
    store.raw("UPDATE stripe_accounts SET lost_at_ms = NULL").await;
    assert_eq!(pass(2).await, lost);
    assert!(meter.calls.lock().is_empty(), "{:?}", meter.calls);
    let reconciler = Reconciler::new(store.clone(), None, Box::new(NoDecisions));
    let found = reconciler.run(&reconcile::Scope::default()).await.unwrap().differences;
    let of_it = found.iter().filter(|each| each.cause.contains("the increment is lost"));
    let of_it: Vec<_> = of_it.map(|each| (each.first.as_str(), each.second.as_str())).collect();
    assert_eq!(of_it, [("200", "0")], "{found:?}");
    let entries = store.tenant(&account).all::<AuditEntry>(1_000, |query| query).await.unwrap();
    let told = entries.iter().filter(|entry| entry.row_id == lost.id);
    assert_eq!(
        told.map(|entry| entry.action.as_str()).collect::<Vec<_>>(),
        ["overage_event.update"]
    );
}

/// Whoever is slow sends nothing that another has taken meanwhile, and says nothing of it.
pub async fn what_another_took_is_left_to_it(place: Place) {
    let (account, subscription, mut report) = quota::node(&place).await;
    let (meter, clock) = (Meter::default(), Arc::new(Moved::default()));
    let (store, teller) = teller(&place, &meter, &clock).await;
    sell(&store, &account, &subscription).await;
    report(1_200, None).await;
    teller.store_left(&account, &subscription).await.unwrap();
    let take = async || store.take_overage_events(None, 10, 60_000).await.unwrap();
    let forward = |by_ms: i64| clock.0.fetch_add(by_ms, Ordering::Relaxed);
    let slow = take().await.remove(0);
    assert_eq!(take().await, [], "it is held");
    assert!(store.hold_overage_event(&slow, 120_000).await.unwrap());
    forward(90_000);
    assert_eq!(take().await, [], "it is held for longer");
    forward(60_000);
    assert_eq!(teller.tell_all().await.unwrap(), 1, "it is free");
    assert!(!store.hold_overage_event(&slow, 120_000).await.unwrap());
    let mut change = store.change(&account, actor()).await.unwrap();
    assert!(!change.move_overage(&slow, slow.at_s + 60).await.unwrap());
    change.commit().await.unwrap();
    store.overage_attempted(&slow, "refused", None, Some("late")).await.unwrap();
    let tenant = store.tenant(&account);
    let event = tenant.one::<OverageEvent>(|query| query).await.unwrap().unwrap();
    assert_eq!((event.status.as_str(), event.error, event.at_s), ("sent", None, slow.at_s));
    assert_eq!((meter.calls.lock().len(), meter.total()), (1, 200));
}
