//! Overage from a node's reports to a meter that keeps what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use parking_lot::Mutex;
use policy::budget::{Calendar, EntitlementId, Period, Unit};
use serde_json::json;

use super::place::{Place, actor};
use super::quota;
use super::webhooks::Moved;
use crate::billing::stripe::{
    Addresses, Mode, RetryRules, SecretKey, SecretKeys, Stripe, StripeSettings,
};
use crate::overage::{OverageTeller, flush};
use crate::storage::{
    OverageEvent, PlanPrice, Store, StripeAccount, StripeCustomer, StripeSubscription, Subscription,
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
    let store = Store::open(&place.url, 4, clock.clone()).unwrap();
    let key = SecretKey::parse("sk_test_walked", Mode::Test).unwrap();
    let settings = StripeSettings {
        keys: SecretKeys { test: Some(key), live: None },
        addresses: Addresses::at(&meter.start().await),
        retry: RetryRules { tries_max: 1, ..RetryRules::default() },
        ..StripeSettings::default()
    };
    let stripe = Stripe::new(settings, clock.clone()).unwrap();
    (store.clone(), OverageTeller::new(store, stripe))
}

/// Makes the subscription one that is paid for through Stripe.
pub async fn sell(store: &Store, account: &str, subscription: &str) {
    let mut change = store.change(account, actor()).await.unwrap();
    let row = change.tenant().get::<Subscription>(subscription).await.unwrap().unwrap();
    let mode = "test".to_owned();
    let connected = StripeAccount {
        mode: mode.clone(),
        stripe_id: "acct_1".to_owned(),
        status: "ready".to_owned(),
        settings: "{}".to_owned(),
        ..StripeAccount::default()
    };
    change.insert(connected).await.unwrap();
    let customer = StripeCustomer {
        customer_id: row.customer_id.clone(),
        mode: mode.clone(),
        stripe_id: "cus_1".to_owned(),
        ..StripeCustomer::default()
    };
    change.insert(customer).await.unwrap();
    let price = PlanPrice {
        site_id: row.site_id.clone(),
        plan_id: row.plan_id.clone(),
        mode: mode.clone(),
        product_id: "prod_1".to_owned(),
        price_id: Some("price_1".to_owned()),
        meter_id: Some("mtr_1".to_owned()),
        meter_event_name: Some("overage_1".to_owned()),
        terms: "{}".to_owned(),
        ..PlanPrice::default()
    };
    change.insert(price).await.unwrap();
    let paid = StripeSubscription {
        subscription_id: row.id.clone(),
        mode,
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
