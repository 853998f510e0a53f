//! What does not agree is found, with its cause; what does is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::json;

use super::decision_rows::{Sample, batch, sample};
use super::money::Shop;
use super::place::Place;
use super::story::{BEGAN_S, Stopped};
use super::sync_node::{Issued, issue};
use super::{overage, quota};
use crate::analytics::{AnalyticsError, Backend};
use crate::billing::stripe::{
    Addresses, Mode, RetryRules, SecretKey, SecretKeys, Stripe, StripeSettings,
};
use crate::reconcile::{
    Answer, Asked, Charges, DecisionLog, Known, NoDecisions, Pair, Reconciler, Report, Scope, daily,
};
use crate::storage::{OTHERS, ReadDecisions, Retention};
use crate::world::System;

/// A decision log that says the same of everything.
struct Fixed(i64);

impl DecisionLog for Fixed {
    fn charged<'a>(&'a self, asked: &'a Asked) -> Answer<'a> {
        // Periods are called by their beginnings.
        let key = |reference: &String| (reference.clone(), asked.since_s);
        let units = asked.references.iter().map(|reference| (key(reference), self.0)).collect();
        Box::pin(async { Ok(Charges { units, has_site: true, kept_ms: None }) })
    }
}

/// One that does not answer.
struct Away;

impl DecisionLog for Away {
    fn charged<'a>(&'a self, _: &'a Asked) -> Answer<'a> {
        Box::pin(async { Err(AnalyticsError::ClickHouse("nobody is there".to_owned())) })
    }
}

/// Makes all that there is something of long ago.
async fn settle(place: &Place) {
    for table in ["ledger_accounts", "subscriptions", "plans"] {
        let ago_ms = if table == "ledger_accounts" { 600_000 } else { 6_000_000 };
        let sql = format!("UPDATE {table} SET updated_at_ms = updated_at_ms - {ago_ms}");
        place.store.raw(&sql).await;
    }
}

async fn run(place: &Place, decisions: Box<dyn DecisionLog>, stripe: Option<Stripe>) -> Report {
    let reconciler = Reconciler::new(place.store.clone(), stripe, decisions);
    reconciler.run(&Scope::default()).await.unwrap()
}

fn found(report: &Report) -> Vec<(&str, &str, &str)> {
    let all = report.differences.iter();
    all.map(|each| (each.pair.as_str(), each.first.as_str(), each.second.as_str())).collect()
}

pub async fn log_ledger_and_entitlement_are_compared(place: Place) {
    let (_, subscription, mut report_use) = quota::node(&place).await;
    report_use(500, Some(Some(1_005))).await;
    let early = run(&place, Box::new(Fixed(1)), None).await;
    assert_eq!(found(&early), [], "use of this minute is on its way");
    assert_eq!((early.checked, early.compared.len()), (1, 0), "{early:?}");
    settle(&place).await;
    let clean = run(&place, Box::new(Fixed(500)), None).await;
    assert_eq!((found(&clean).len(), clean.count, clean.checked), (0, 0, 1), "{clean:?}");
    let once = [(Pair::LogLedger, 1), (Pair::LedgerEntitlement, 1)];
    assert_eq!(clean.compared, BTreeMap::from(once));
    // Ten minutes ago, for whoever wants to wait an hour.
    let hour = Scope { settled_ms: 3_600_000, ..Scope::default() };
    let patient = Reconciler::new(place.store.clone(), None, Box::new(Fixed(400)));
    assert_eq!(found(&patient.run(&hour).await.unwrap()), [], "it is on its way for an hour");
    assert!(clean.unavailable.iter().any(|what| what.contains("Stripe")));
    for (charged, cause) in [(400, "not shipped"), (600, "has not heard")] {
        let report = run(&place, Box::new(Fixed(charged)), None).await;
        assert_eq!(found(&report), [("log/ledger", charged.to_string().as_str(), "500")]);
        assert!(report.differences[0].cause.contains(cause), "{report:?}");
        assert_eq!(report.differences[0].subscription, subscription);
    }
    // Nobody knows what the log has: said, and no difference.
    for decisions in
        [Box::new(NoDecisions) as Box<dyn DecisionLog>, Box::new(shipped(&place)), Box::new(Away)]
    {
        let report = run(&place, decisions, None).await;
        assert_eq!(report.count, 0, "{report:?}");
        assert!(report.unavailable.iter().any(|what| what.contains("decision log")));
    }
    let of =
        |site: &str| Scope { site: Some(site.to_owned()), period: Some(1), ..Scope::default() };
    let reconciler = Reconciler::new(place.store.clone(), None, Box::new(Fixed(1)));
    let other_period = reconciler.run(&of("walked")).await.unwrap();
    assert_eq!((other_period.checked, other_period.count), (1, 0));
    assert!(reconciler.run(&of("nonsense")).await.is_err());
    // A node goes on with a limit that nobody gave.
    report_use(500, Some(Some(2_000))).await;
    settle(&place).await;
    let report = run(&place, Box::new(Fixed(500)), None).await;
    assert_eq!(found(&report), [("ledger/entitlement", "2000", "1005")]);
}

/// The control plane's own part of the log.
fn shipped(place: &Place) -> Backend {
    Backend::Sql { store: place.store.clone(), kept: Retention::default() }
}

pub async fn what_nodes_ship_is_compared(place: Place) {
    let take = async |node: &Issued, epoch: u64, rows: &[Sample]| {
        let decisions = batch(epoch, 0, 0, rows);
        let rows = ReadDecisions::of(&decisions).unwrap();
        place.store.take_decisions(node.key, &rows, &Retention::default()).await.unwrap();
    };
    the_log_is_compared(&place, || Box::new(shipped(&place)), take).await;
}

/// Rows that nodes made are compared with what they told the ledger, wherever the log is; says whose they are.
pub async fn the_log_is_compared(
    place: &Place,
    log: impl Fn() -> Box<dyn DecisionLog>,
    take: impl AsyncFn(&Issued, u64, &[Sample]),
) -> String {
    let owner = place.owner().await;
    let (account, subscription, mut report_use) = quota::node_of(place, &owner).await;
    let node = issue(&owner, place, "n1").await;
    report_use(500, Some(Some(1_005))).await;
    let shown = owner.get(&format!("/v1/subscriptions/{subscription}")).await.expect(200);
    let reference = shown.json["reference"].as_str().unwrap().to_owned();
    let id = policy::ids::entitlement_id("walked", &reference);
    let period = place.store.ledger_account(id.0).await.unwrap().unwrap().current.id.0;
    let row = |number, subscription: &str, period, charge| Sample {
        subscription: subscription.to_owned(),
        period,
        charge,
        ..sample("walked", number)
    };
    // Of it, of another period, of another subscription, of a site that has another name.
    let rows = [
        row(1, &reference, period, 300),
        row(2, &reference, period, 195),
        row(3, &reference, period - 1, 77),
        row(4, "another", period, 1_000),
        Sample { site: "elsewhere".to_owned(), ..row(5, &reference, period, 10_000) },
    ];
    take(&node, 1, &rows).await;
    settle(place).await;
    let report = run(place, log(), None).await;
    assert_eq!(found(&report), [("log/ledger", "495", "500")], "{report:?}");
    assert!(report.differences[0].cause.contains("not shipped"));
    // What was missing comes.
    take(&node, 2, &[row(6, &reference, period, 5)]).await;
    let report = run(place, log(), None).await;
    assert_eq!(found(&report), [], "{report:?}");
    assert!(report.unavailable.iter().all(|what| what.contains("Stripe")), "{report:?}");
    account
}

#[test]
fn what_a_log_knows() {
    let log = |units: &[(&str, i64, i64)], has_site, kept_ms| Charges {
        units: units.iter().map(|(of, id, units)| (((*of).to_owned(), *id), *units)).collect(),
        has_site,
        kept_ms,
    };
    let cases = [
        (log(&[("a", 7, 5)], true, None), Known::All(5)),
        (log(&[("a", 8, 5), ("b", 7, 1)], true, None), Known::All(0)),
        (log(&[], false, None), Known::Nothing),
        (log(&[("a", 7, 5)], true, Some(1_001)), Known::All(5)),
        (log(&[("a", 7, 5)], true, Some(1_000)), Known::Nothing),
        (log(&[("a", 7, 5), (OTHERS, 7, 3)], true, None), Known::Between(5, 8)),
        (log(&[("a", 7, 5), (OTHERS, 8, 3)], true, None), Known::All(5)),
    ];
    for (log, known) in cases {
        assert_eq!(log.of("a", 7, 1_000), known, "{log:?}");
    }
}

pub async fn stripe_is_compared_with_what_subscribers_are_given(place: Place) {
    let (account, subscription, mut report_use) = quota::node(&place).await;
    overage::sell(&place.store, &account, &subscription).await;
    report_use(1_205, Some(Some(1_005))).await;
    settle(&place).await;
    let status = Arc::new(Mutex::new("active".to_owned()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = async |State(status): State<Arc<Mutex<String>>>| {
        axum::Json(json!({ "id": "sub_stripe", "status": *status.lock(), "created": 1 }))
    };
    let router = Router::new().route("/v1/subscriptions/sub_stripe", get(answer));
    let router = router.with_state(status.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let key = SecretKey::parse("sk_test_walked", Mode::Test).unwrap();
    let settings = StripeSettings {
        keys: SecretKeys { test: Some(key), live: None },
        addresses: Addresses::at(&format!("http://{address}")),
        retry: RetryRules { tries_max: 1, ..RetryRules::default() },
        ..StripeSettings::default()
    };
    let stripe = Stripe::new(settings, Arc::new(System)).unwrap();
    let clean = run(&place, Box::new(Fixed(1_205)), Some(stripe.clone())).await;
    assert_eq!((found(&clean).len(), clean.unavailable.len()), (0, 0), "{clean:?}");
    // A quota a minute has so many increments in a week.
    let many = format!(
        "INSERT INTO overage_events (id, account_id, version, created_at_ms, updated_at_ms, subscription_id, entitlement, \
         period_id, from_units, to_units, mode, event_name, stripe_customer_id, at_s, status, attempts) \
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10500) \
         SELECT 'oe_' || n, '{account}', 1, 1, 1, '{subscription}', entitlement, n, 0, 1, 'test', 'e', 'cus_1', n, 'sent', 1 \
         FROM overage_books, numbers WHERE over_units > 0"
    );
    place.store.raw(&many).await;
    let clean = run(&place, Box::new(Fixed(1_205)), Some(stripe.clone())).await;
    assert_eq!((found(&clean).len(), clean.unavailable.len()), (0, 0), "{clean:?}");
    "canceled".clone_into(&mut status.lock());
    let report = run(&place, Box::new(Fixed(1_205)), Some(stripe.clone())).await;
    assert_eq!(found(&report), [("entitlement/stripe", "active", "canceled")]);
    "active".clone_into(&mut status.lock());
    // The period ended long ago, and its overage was never told.
    place.store.raw("UPDATE overage_books SET period_end_s = 1, error = 'no connection'").await;
    let report = run(&place, Box::new(Fixed(1_205)), Some(stripe)).await;
    assert_eq!(found(&report), [("ledger/stripe", "200", "0")]);
    assert!(report.differences[0].cause.contains("no connection"));
}

pub async fn what_a_dispute_holds_is_no_difference(place: Place) {
    let shop = Shop::open(&place).await;
    shop.sold().await;
    shop.tell_all().await;
    let charges = shop.sandbox.objects(&shop.stripe_account, "charge");
    let charge = charges[0]["id"].as_str().unwrap();
    let dispute = shop.sandbox.dispute(&shop.stripe_account, charge, "fraudulent").unwrap();
    let stripe = || Some(shop.billing.stripe.clone());
    shop.tell_all().await;
    assert_eq!(shop.subscription().await.status, "paused");
    let report = run(&place, Box::new(NoDecisions), stripe()).await;
    assert_eq!((found(&report), report.checked), (vec![], 1));
    // Decided, and not told of: it is held for nothing.
    shop.sandbox.decide_dispute(&shop.stripe_account, &dispute, true).unwrap();
    shop.tell_all().await;
    place.store.raw("UPDATE subscriptions SET status = 'paused'").await;
    let report = run(&place, Box::new(NoDecisions), stripe()).await;
    assert_eq!(found(&report), [("entitlement/stripe", "paused", "active")]);
}

pub async fn a_day_is_reconciled_once(place: Place) {
    let (_, _, mut report_use) = quota::node(&place).await;
    report_use(500, Some(Some(1_005))).await;
    settle(&place).await;
    let reconciler = |store| Reconciler::new(store, None, Box::new(Fixed(1)));
    let first = reconciler(place.store.clone());
    let second = reconciler(place.another_store());
    let (first, second) = tokio::join!(daily(&first), daily(&second));
    let reports: Vec<_> = [first.unwrap(), second.unwrap()].into_iter().flatten().collect();
    assert_eq!(reports.len(), 1, "by one of them");
    let last = place.store.last_reconciliation().await.unwrap().unwrap();
    assert_eq!((last.checked, last.differences), (1, 1));
    let text = crate::metrics::text(&place.store).await.unwrap();
    for line in ["payfence_reconciliation_differences 1\n", "payfence_mails_waiting 0\n"] {
        assert!(text.contains(line), "{text}");
    }
}

pub async fn a_day_that_failed_is_tried_again(place: Place) {
    const HOUR_MS: i64 = 3_600_000;
    // The first second of a day.
    let clock = Arc::new(Stopped(AtomicI64::new(BEGAN_S / 86_400 * 86_400_000)));
    let place = place.in_time_of(clock.clone());
    let reconciler = Reconciler::new(place.store.clone(), None, Box::new(Fixed(1)));
    place.store.raw("ALTER TABLE reconciliations RENAME COLUMN differences TO differing").await;
    assert!(daily(&reconciler).await.is_err());
    place.store.raw("ALTER TABLE reconciliations RENAME COLUMN differing TO differences").await;
    let mut again_after_ms = 0;
    while daily(&reconciler).await.unwrap().is_none() {
        clock.0.fetch_add(HOUR_MS / 6, Ordering::Relaxed);
        again_after_ms += HOUR_MS / 6;
        assert!(again_after_ms < 3 * HOUR_MS, "it is not tried again");
    }
    assert!(again_after_ms >= HOUR_MS, "a database that is away is left in peace");
    // Once it is done the day is over; one whose process died is begun again by another.
    clock.0.fetch_add(9 * HOUR_MS, Ordering::Relaxed);
    assert!(daily(&reconciler).await.unwrap().is_none());
    clock.0.fetch_add(24 * HOUR_MS, Ordering::Relaxed);
    let day = clock.0.load(Ordering::Relaxed) / (24 * HOUR_MS);
    assert!(place.store.begin_reconciliation(day).await.unwrap());
    assert!(daily(&reconciler).await.unwrap().is_none(), "it may be under way");
    clock.0.fetch_add(7 * HOUR_MS, Ordering::Relaxed);
    assert!(daily(&reconciler).await.unwrap().is_some());
}
