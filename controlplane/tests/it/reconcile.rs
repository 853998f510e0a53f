//! What does not agree is found, with its cause; what does is left alone.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::json;

use super::money::Shop;
use super::place::Place;
use super::{overage, quota};
use crate::billing::stripe::{
    Addresses, Mode, RetryRules, SecretKey, SecretKeys, Stripe, StripeSettings,
};
use crate::reconcile::{
    Charged, DecisionLog, NoDecisions, Reconciler, Report, Scope, SummedDecisions, daily,
};
use crate::storage::Site;
use crate::world::System;

/// A decision log that says the same of everything.
struct Fixed(i64);

impl DecisionLog for Fixed {
    fn charged<'a>(&'a self, _: &'a Site, _: &'a str, _: i64) -> Charged<'a> {
        Box::pin(async { Ok(Some(self.0)) })
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
    all.map(|each| (each.what, each.first.as_str(), each.second.as_str())).collect()
}

pub async fn log_ledger_and_entitlement_are_compared(place: Place) {
    let (_, subscription, mut report_use) = quota::node(&place).await;
    report_use(500, Some(Some(1_005))).await;
    let early = run(&place, Box::new(Fixed(1)), None).await;
    assert_eq!(found(&early), [], "use of this minute is on its way");
    settle(&place).await;
    let clean = run(&place, Box::new(Fixed(500)), None).await;
    assert_eq!((found(&clean).len(), clean.count, clean.checked), (0, 0, 1), "{clean:?}");
    assert!(clean.unavailable.iter().any(|what| what.contains("Stripe")));
    for (charged, cause) in [(400, "not shipped"), (600, "has not heard")] {
        let report = run(&place, Box::new(Fixed(charged)), None).await;
        assert_eq!(found(&report), [("log/ledger", charged.to_string().as_str(), "500")]);
        assert!(report.differences[0].cause.contains(cause), "{report:?}");
        assert_eq!(report.differences[0].subscription, subscription);
    }
    // Nobody knows what the log has: said, and no difference.
    for decisions in [
        Box::new(NoDecisions) as Box<dyn DecisionLog>,
        Box::new(SummedDecisions(place.store.clone())),
    ] {
        let report = run(&place, decisions, None).await;
        assert_eq!(report.count, 0, "{report:?}");
        assert!(report.unavailable.iter().any(|what| what.contains("decision log")));
    }
    let of = |site: &str| Scope { site: Some(site.to_owned()), period: Some(1) };
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
