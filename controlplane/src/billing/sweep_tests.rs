use serde_json::json;

use super::difference::is_worth_settling;
use super::{CATALOGUE_EVERY_MS, EVENTS_EVERY_MS, TYPES, is_due, kind, place};
use crate::billing::stripe::Subscription as Fetched;
use crate::billing::webhooks::envelope;
use crate::storage::{StripeSubscription, StripeSweep};

#[test]
fn sweeps_are_due_when_unfinished_asked_for_or_old() {
    const NOW_MS: i64 = 1_000_000_000;
    let finished = |ago_ms: i64| StripeSweep {
        kind: kind::EVENTS.to_owned(),
        finished_at_ms: Some(NOW_MS - ago_ms),
        ..StripeSweep::default()
    };
    let plans = |ago_ms: i64| StripeSweep { kind: kind::CATALOGUE.to_owned(), ..finished(ago_ms) };
    let cases = [
        ("never", StripeSweep::default(), true),
        ("just now", finished(1), false),
        ("long ago", finished(EVENTS_EVERY_MS), true),
        ("plans yesterday", plans(CATALOGUE_EVERY_MS), true),
        ("plans today", plans(CATALOGUE_EVERY_MS - 1), false),
        ("broke off", StripeSweep { began_at_ms: Some(NOW_MS), ..finished(1) }, true),
        ("asked", StripeSweep { asked_at_ms: Some(NOW_MS), ..finished(1) }, true),
        ("asked before", StripeSweep { asked_at_ms: Some(NOW_MS - 2), ..finished(1) }, false),
    ];
    for (name, sweep, expected) in cases {
        assert_eq!(is_due(&sweep, NOW_MS), expected, "{name}");
    }
}

#[test]
fn every_type_that_is_asked_for_leads_somewhere() {
    for kind in TYPES.into_iter().flatten() {
        let parent = json!({ "subscription_details": { "subscription": "sub_1" } });
        let object = json!({ "id": "x_1", "parent": parent });
        let event = json!({
            "id": "evt_1", "type": kind, "account": "acct_1", "livemode": false, "data": { "object": object },
        });
        let arrived = envelope::read(event.to_string().as_bytes(), "test").unwrap();
        assert!(arrived.subject.is_some(), "{kind}");
    }
    assert!(TYPES.iter().all(|types| types.len() <= 20), "Stripe takes no more in a call");
}

#[test]
fn a_place_is_read_as_it_was_kept() {
    assert_eq!(place(None), (0, None));
    assert_eq!(place(Some("0 evt_1")), (0, Some("evt_1".to_owned())));
    assert_eq!(place(Some("1 ")), (1, None));
}

#[test]
fn what_differs_is_worth_settling() {
    let object = serde_json::json!({ "id": "sub_1", "status": "active", "items": { "data": [
        { "id": "si_1", "price": { "id": "price_1" }, "current_period_start": 1, "current_period_end": 2 }] } });
    let fetched: Fetched = serde_json::from_value(object).unwrap();
    let same = StripeSubscription {
        stripe_id: "sub_1".to_owned(),
        stripe_status: "active".to_owned(),
        price_id: Some("price_1".to_owned()),
        period_start_ms: Some(1_000),
        period_end_ms: Some(2_000),
        ..StripeSubscription::default()
    };
    assert!(!is_worth_settling(Some(&same), &fetched));
    assert!(!is_worth_settling(None, &fetched), "bought elsewhere");
    let mut ours = fetched.clone();
    ours.metadata
        .insert(super::super::settle::checkout::CHECKOUT_KEY.to_owned(), "chk_1".to_owned());
    assert!(is_worth_settling(None, &ours), "bought here and not known");
    ours.status = "incomplete_expired".to_owned();
    assert!(!is_worth_settling(None, &ours), "nobody paid, and nobody can");
    let differing = [
        StripeSubscription { stripe_status: "past_due".to_owned(), ..same.clone() },
        StripeSubscription { price_id: Some("price_2".to_owned()), ..same.clone() },
        StripeSubscription { period_end_ms: Some(1), ..same.clone() },
        StripeSubscription { cancel_at_ms: Some(1), ..same.clone() },
        StripeSubscription { upgrade_until_ms: Some(1), ..same.clone() },
    ];
    for row in differing {
        assert!(is_worth_settling(Some(&row), &fetched), "{row:?}");
    }
    let mut begun = fetched.clone();
    begun.metadata.insert("payfence_waits".to_owned(), "price_0 price_1 2".to_owned());
    assert!(is_worth_settling(Some(&same), &begun), "a move that nobody ended");
    begun.status = "canceled".to_owned();
    let over = StripeSubscription { stripe_status: "canceled".to_owned(), ..same };
    assert!(!is_worth_settling(Some(&over), &begun), "of one that is over nothing can be changed");
}
