//! Which prices are taken, and which of their fields is said to be wrong.

use serde_json::{Value as Json, json};

use super::PriceDraft;
use crate::domain::site::OverageRule;

fn price(patch: Json) -> PriceDraft {
    let mut json = json!({ "amount": 1900, "currency": "eur", "interval": "month" });
    for (name, value) in patch.as_object().unwrap() {
        json[name] = value.clone();
    }
    serde_json::from_value(json).unwrap()
}

#[test]
fn what_stripe_would_not_take_is_said_by_field() {
    let overage = json!({ "unit_amount_decimal": "0.05", "per": 1000, "cap_amount": 5000 });
    for (patch, rule, expected) in [
        (json!({}), None, &[][..]),
        (json!({ "amount": 0 }), None, &[]),
        (json!({ "amount": -1 }), None, &["price.amount"]),
        (json!({ "amount": 100_000_000 }), None, &["price.amount"]),
        (json!({ "currency": "EUR" }), None, &["price.currency"]),
        (json!({ "currency": "kwd", "amount": 1905 }), None, &["price.amount"]),
        (json!({ "currency": "jpy", "amount": 1 }), None, &[]),
        (json!({ "trial_days": 0 }), None, &["price.trial_days"]),
        (json!({ "trial_days": 731 }), None, &["price.trial_days"]),
        (json!({ "overage": overage }), Some(OverageRule::Allow), &[]),
        (json!({ "overage": overage }), Some(OverageRule::Deny), &["price.overage"]),
        (json!({ "overage": overage }), None, &["price.overage"]),
        (
            json!({ "overage": { "unit_amount_decimal": "1,5", "per": 0, "cap_amount": -1 } }),
            Some(OverageRule::Allow),
            &["price.overage.unit_amount_decimal", "price.overage.per", "price.overage.cap_amount"],
        ),
    ] {
        let mut faults = Vec::new();
        price(patch.clone()).check(rule, &mut faults);
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, expected, "{patch}");
    }
}

#[test]
fn terms_change_with_what_a_price_is_made_of_alone() {
    let is = price(json!({})).terms();
    for (patch, is_same) in [
        (json!({ "trial_days": 14 }), true),
        (json!({ "amount": 2000 }), false),
        (json!({ "interval": "year" }), false),
        (json!({ "tax_behavior": "inclusive" }), false),
        (json!({ "overage": { "unit_amount_decimal": "1" } }), false),
    ] {
        assert_eq!(price(patch.clone()).terms() == is, is_same, "{patch}");
    }
}
