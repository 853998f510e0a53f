//! Spend caps in units, and what Stripe's refusals mean.

use serde_json::json;

use super::*;
use crate::billing::stripe::Refusal;

#[test]
fn caps_are_reckoned_in_whole_blocks() {
    let check = |overage: serde_json::Value, expected: Option<i64>| {
        let plan = json!({ "price": { "overage": overage } });
        assert_eq!(cap::units(&plan), expected, "{plan}");
    };
    check(json!({ "unit_amount_decimal": "0.05", "cap_amount": 100 }), Some(2_000));
    check(json!({ "unit_amount_decimal": "3", "cap_amount": 100 }), Some(33));
    check(json!({ "unit_amount_decimal": "3", "per": 1_000, "cap_amount": 100 }), Some(33_000));
    check(
        json!({ "unit_amount_decimal": "0.000000000001", "cap_amount": 1 }),
        Some(1_000_000_000_000),
    );
    check(json!({ "unit_amount_decimal": "5", "cap_amount": 0 }), Some(0));
    check(json!({ "unit_amount_decimal": "0", "cap_amount": 5 }), None);
    check(json!({ "unit_amount_decimal": "0.05" }), None);
    check(json!({ "unit_amount_decimal": "-1", "cap_amount": 5 }), None);
    check(json!({ "unit_amount_decimal": "0.0000000000001", "cap_amount": 5 }), None);
    check(serde_json::Value::Null, None);
}

#[test]
fn an_identifier_that_stripe_has_is_an_increment_that_it_took() {
    let refused = |code: Option<&str>, message: &str| {
        StripeError::Refused(Box::new(Refusal {
            status: 400,
            code: code.map(ToOwned::to_owned),
            message: message.to_owned(),
            ..Refusal::default()
        }))
    };
    assert!(is_known(&refused(Some("duplicate_meter_event"), "no")));
    assert!(is_known(&refused(None, "An event already exists with identifier sub_1_2_3.")));
    assert!(!is_known(&refused(Some("no_meter"), "No such meter")));
    assert!(!is_known(&refused(None, "The identifier has 100 characters at most.")));
    assert!(!is_known(&StripeError::Busy));
}
