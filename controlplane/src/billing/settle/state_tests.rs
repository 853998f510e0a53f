use serde_json::json;

use super::{
    Known, PlanChoice, Terms, allows_as_much, anchor_ms, cancel_at_ms, past_due_since_ms, period,
    plan, status,
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

fn quota(requests: u64, per: &str) -> PlanDraft {
    serde_json::from_value(json!({ "quota": { "requests": requests, "per": per } })).unwrap()
}

#[test]
fn a_plan_that_allows_less_waits_for_the_periods_end() {
    let (small, large) = (quota(100, "month"), quota(1_000, "month"));
    let (free, pro) =
        (Terms { id: "plan_small", draft: &small }, Terms { id: "plan_large", draft: &large });
    let known = |plan, pending, price, end_ms| Known {
        plan,
        pending_plan_id: pending,
        price_id: price,
        period_end_ms: end_ms,
    };
    let same = Some("price_pro");
    let cases = [
        (
            "nothing changed",
            known(free, None, same, Some(2_000_000)),
            Some(free),
            "plan_small",
            None,
        ),
        (
            "a price of nobody",
            known(free, Some("plan_x"), same, None),
            None,
            "plan_small",
            Some("plan_x"),
        ),
        (
            "up at once",
            known(free, None, Some("price_old"), Some(2_000_000)),
            Some(pro),
            "plan_large",
            None,
        ),
        (
            "down waits",
            known(pro, None, Some("price_old"), Some(2_000_000)),
            Some(free),
            "plan_large",
            Some("plan_small"),
        ),
        (
            "down waits on",
            known(pro, Some("plan_small"), same, Some(2_000_000)),
            Some(free),
            "plan_large",
            Some("plan_small"),
        ),
        (
            "down when over",
            known(pro, Some("plan_small"), same, Some(1_000_000)),
            Some(free),
            "plan_small",
            None,
        ),
        (
            "down, told late",
            known(pro, None, Some("price_old"), Some(900_000)),
            Some(free),
            "plan_small",
            None,
        ),
        (
            "back again",
            known(pro, Some("plan_small"), Some("price_old"), Some(2_000_000)),
            Some(pro),
            "plan_large",
            None,
        ),
        (
            "waits for its price",
            known(pro, Some("plan_small"), same, Some(2_000_000)),
            Some(pro),
            "plan_large",
            Some("plan_small"),
        ),
        (
            "period not known",
            known(pro, None, None, None),
            Some(free),
            "plan_large",
            Some("plan_small"),
        ),
    ];
    for (name, known, target, plan_id, pending) in cases {
        let expected =
            PlanChoice { plan_id: plan_id.to_owned(), pending_plan_id: pending.map(str::to_owned) };
        assert_eq!(plan(known, target, &fetched(json!({}))), expected, "{name}");
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
