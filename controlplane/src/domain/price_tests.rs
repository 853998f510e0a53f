//! Which prices are taken, and which of their fields is said to be wrong.

use serde_json::{Value as Json, json};

use super::{OveragePrice, PriceDraft};
use crate::domain::site::{OverageRule, PlanDraft};

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

#[test]
fn nodes_admit_what_caps_pay_for() {
    let plan = |overage: Json, cap: Json| -> PlanDraft {
        let price =
            json!({ "amount": 1900, "currency": "eur", "interval": "month", "overage": overage });
        let mut plan = json!({ "quota": { "requests": 1000, "per": "month" }, "overage": "allow", "price": price });
        if !cap.is_null() {
            plan["overage_cap"] = cap;
        }
        serde_json::from_value(plan).unwrap()
    };
    let money = |amount: &str, per: u64, cap: i64| json!({ "unit_amount_decimal": amount, "per": per, "cap_amount": cap });
    for (overage, cap, expected) in [
        (money("3", 1, 1_000), Json::Null, json!(333)),
        (money("3", 1, 1_000), json!(400), json!(333)),
        (money("3", 1, 1_000), json!(200), json!(200)),
        (money("3", 100, 1_000), Json::Null, json!(33_300)),
        (money("0.05", 1, 0), Json::Null, json!(0)),
        (money("0", 1, 1_000), Json::Null, Json::Null),
        (
            money("0.000000000001", 1_000_000_000, 99_999_999),
            Json::Null,
            json!(999_999_999_999_999_u64),
        ),
        (json!({ "unit_amount_decimal": "3" }), Json::Null, Json::Null),
        (json!({ "unit_amount_decimal": "3" }), json!(200), json!(200)),
        (Json::Null, json!(200), json!(200)),
    ] {
        let keys = plan(overage.clone(), cap.clone()).policy_keys("pro");
        let told = format!("{overage} {cap}");
        assert_eq!(keys.get("overage_cap").cloned().unwrap_or_default(), expected, "{told}");
        assert!(!keys.contains_key("price"), "{told}");
    }
}

#[test]
fn what_units_cost_and_amounts_pay_for_is_the_same() {
    let overage = |amount: &str, per| OveragePrice {
        unit_amount_decimal: amount.to_owned(),
        per,
        cap_amount: None,
    };
    for price in [overage("3", 1), overage("0.05", 100), overage("12.345678901234", 7)] {
        for amount in [0, 1, 99, 1_000, 99_999_999] {
            let units = price.units_for(amount, 0).unwrap();
            let money = i128::from(amount) * 1_000_000_000_000;
            let told = format!("{price:?} {amount}");
            assert!(price.cost(units) <= money, "{told}");
            assert!(price.cost(units + 1) > money, "{told}");
            assert_eq!(price.units_for(amount, money), Some(0), "{told}");
        }
        let terms = json!({ "overage": { "amount": price.unit_amount_decimal, "per": price.per } });
        assert_eq!(OveragePrice::of_terms(&terms.to_string()), Some(price));
    }
    assert_eq!(OveragePrice::of_terms("{\"overage\":null}"), None);
    assert_eq!(OveragePrice::of_terms("nonsense"), None);
}
