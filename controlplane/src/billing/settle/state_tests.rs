use serde_json::json;

use super::{
    Known, PlanChoice, Terms, allows_as_much, anchor_ms, cancel_at_ms, past_due_since_ms, period,
    plan, status, upgrade_until_ms,
};
use crate::billing::stripe::Subscription as Fetched;
use crate::domain::site::PlanDraft;

fn fetched(more: serde_json::Value) -> Fetched {
    let mut object = json!({
        "id": "sub_1", "status": "active", "created": 100,
        "items": { "data": [
            { "id": "si_m", "price": { "id": "price_m", "recurring": { "interval": "month", "usage_type": "metered" } },
              "current_period_start": 1, "current_period_end": 2 },
            { "id": "si_l", "price": { "id": "price_pro", "recurring": { "interval": "month", "usage_type": "licensed" } },
              "current_period_start": 1_000, "current_period_end": 2_000 },
        ] },
    });
    for (name, value) in more.as_object().unwrap() {
        object[name] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

#[test]
fn every_status_is_stripes_own_word() {
    let words = [
        ("incomplete", Some("incomplete"), Some("incomplete")),
        ("incomplete_expired", Some("incomplete_expired"), Some("incomplete_expired")),
        ("trialing", Some("trialing"), Some("paused")),
        ("active", Some("active"), Some("paused")),
        ("past_due", Some("past_due"), Some("paused")),
        ("unpaid", Some("unpaid"), Some("unpaid")),
        ("canceled", Some("canceled"), Some("canceled")),
        ("paused", Some("paused"), Some("paused")),
        ("of_a_later_version", None, None),
    ];
    for (word, served, held) in words {
        let fetched = fetched(json!({ "status": word }));
        assert_eq!(status(&fetched, false).map(|it| it.word()).as_deref(), served, "{word}");
        assert_eq!(status(&fetched, true).map(|it| it.word()).as_deref(), held, "{word}, held");
    }
    let paused = fetched(json!({ "pause_collection": { "behavior": "void" } }));
    assert_eq!(status(&paused, false).map(|it| it.word()).as_deref(), Some("active"));
}

#[test]
fn grace_begins_with_the_invoice_that_failed_and_stays() {
    let past_due = fetched(json!({ "status": "past_due" }));
    assert_eq!(past_due_since_ms(&past_due, None, Some(1_500)), Some(1_500_000));
    assert_eq!(past_due_since_ms(&past_due, Some(7), Some(1_500)), Some(7), "a later invoice");
    assert_eq!(past_due_since_ms(&past_due, None, None), Some(1_000_000), "the period's start");
    assert_eq!(past_due_since_ms(&fetched(json!({})), Some(7), Some(1_500)), None, "paid again");
}

#[test]
fn periods_are_those_of_the_licensed_item_from_stripes_anchor() {
    let plain = fetched(json!({}));
    assert_eq!(period(&plain), (Some(1_000_000), Some(2_000_000)));
    assert_eq!(anchor_ms(&plain), Some(1_000_000));
    assert_eq!(anchor_ms(&fetched(json!({ "billing_cycle_anchor": 900 }))), Some(900_000));
    let cases = [
        (json!({}), None),
        (json!({ "cancel_at": 1_700 }), Some(1_700_000)),
        (json!({ "cancel_at_period_end": true }), Some(2_000_000)),
        (json!({ "cancel_at_period_end": true, "cancel_at": 2_000 }), Some(2_000_000)),
        (json!({ "ended_at": 1_600, "cancel_at": 1_700 }), Some(1_600_000)),
    ];
    for (more, expected) in cases {
        assert_eq!(cancel_at_ms(&fetched(more.clone())), expected, "{more}");
    }
}

#[test]
fn a_change_that_waits_is_read_by_its_prices_and_its_end() {
    assert_eq!(upgrade_until_ms(&fetched(json!({ "pending_update": null }))), None);
    let items =
        json!([{ "price": { "id": "price_1" } }, { "price": "price_2" }, { "price": null }]);
    let waits =
        fetched(json!({ "pending_update": { "expires_at": 1_900, "subscription_items": items } }));
    assert_eq!(upgrade_until_ms(&waits), Some(1_900_000));
    let pending = waits.pending_update.unwrap();
    assert_eq!(pending.price_ids().collect::<Vec<_>>(), ["price_1", "price_2"]);
    let none =
        fetched(json!({ "pending_update": { "expires_at": 1, "subscription_items": null } }));
    assert_eq!(none.pending_update.unwrap().price_ids().count(), 0);
}

fn quota(requests: u64, per: &str) -> PlanDraft {
    serde_json::from_value(json!({ "quota": { "requests": requests, "per": per } })).unwrap()
}

/// The plan in force, what waits, the price known before, the known period's end; the price's plan; what applies then.
type PlanCase = (
    (&'static str, Option<&'static str>, &'static str, Option<i64>),
    Option<&'static str>,
    (&'static str, Option<&'static str>),
);

#[test]
fn a_plan_that_allows_less_waits_for_the_periods_end() {
    const SAME: &str = "price_pro";
    const LATER: Option<i64> = Some(2_000_000);
    let (small, large) = (quota(100, "month"), quota(1_000, "month"));
    let terms = |id| Terms { id, draft: if id == "small" { &small } else { &large } };
    let cases: [PlanCase; 10] = [
        // Nothing changed; a price that is nobody's.
        (("small", None, SAME, LATER), Some("small"), ("small", None)),
        (("small", Some("x"), SAME, None), None, ("small", Some("x"))),
        // Up at once.
        (("small", None, "old", LATER), Some("large"), ("large", None)),
        // Down waits, and waits on, until the period is over, also where that is told late.
        (("large", None, "old", LATER), Some("small"), ("large", Some("small"))),
        (("large", Some("small"), SAME, LATER), Some("small"), ("large", Some("small"))),
        (("large", Some("small"), SAME, Some(1_000_000)), Some("small"), ("small", None)),
        (("large", None, "old", Some(900_000)), Some("small"), ("small", None)),
        // Back again; one whose price is not moved yet; a period that is not known.
        (("large", Some("small"), "old", LATER), Some("large"), ("large", None)),
        (("large", Some("small"), SAME, LATER), Some("large"), ("large", Some("small"))),
        (("large", None, "old", None), Some("small"), ("large", Some("small"))),
    ];
    for case in cases {
        let ((now, pending, price_id, period_end_ms), target, (plan_id, waits)) = case;
        let known = Known {
            plan: terms(now),
            pending_plan_id: pending,
            price_id: Some(price_id),
            period_end_ms,
        };
        let expected =
            PlanChoice { plan_id: plan_id.to_owned(), pending_plan_id: waits.map(str::to_owned) };
        let choice = plan(known, target.map(terms), &fetched(json!({})));
        assert_eq!(choice, expected, "{case:?}");
    }
}

#[test]
fn allowances_are_compared_over_time() {
    let unlimited = PlanDraft { quota: None, ..quota(1, "day") };
    let cases = [
        (&quota(100, "day"), &quota(3_000, "month"), true),
        (&quota(99, "day"), &quota(3_000, "month"), false),
        (&quota(36_000, "year"), &quota(3_000, "month"), true),
        (&unlimited, &quota(1, "second"), true),
        (&quota(u64::MAX, "second"), &unlimited, false),
        (&quota(u64::MAX, "second"), &quota(u64::MAX, "second"), true),
    ];
    for (new, old, expected) in cases {
        assert_eq!(allows_as_much(new, old), expected, "{:?} after {:?}", new.quota, old.quota);
    }
}
