use super::{amount, decimal_text, percent, percent_of, rounded, share};
use serde_json::json;

#[test]
fn prices_have_twelve_decimals_and_amounts_none() {
    for (unit, quantity, expected) in [
        ("1900", 1, 1900),
        ("0.05", 1, 0),
        ("0.05", 10, 1),
        ("0.05", 9, 0),
        ("0.5", 1, 1),
        ("0.000000000001", 1_000_000_000_000, 1),
        ("2.5", 3, 8),
        ("0", 5, 0),
    ] {
        assert_eq!(
            amount(&json!({"unit_amount_decimal": unit}), quantity),
            expected,
            "{quantity} × {unit}"
        );
    }
    for (round, quantity, expected) in
        [("up", 1, 7), ("up", 1000, 7), ("up", 1001, 14), ("down", 1999, 7)]
    {
        let price = json!({"unit_amount_decimal": "7", "transform_quantity": {"divide_by": 1000, "round": round}});
        assert_eq!(amount(&price, quantity), expected, "{quantity}, rounded {round}");
    }
}

#[test]
fn decimals_are_written_as_stripe_writes_them() {
    for (text, expected) in [
        ("1900", Some("1900")),
        ("1900.00", Some("1900")),
        ("0.050", Some("0.05")),
        (".5", Some("0.5")),
        ("-0.5", Some("-0.5")),
        ("1e3", None),
        ("", None),
        ("0.0000000000001", None),
    ] {
        assert_eq!(decimal_text(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn halves_go_away_from_zero() {
    for (numerator, denominator, expected) in
        [(5, 10, 1), (-5, 10, -1), (4, 10, 0), (15, 10, 2), (-14, 10, -1), (1, 0, 0)]
    {
        assert_eq!(rounded(numerator, denominator), expected, "{numerator}/{denominator}");
    }
    assert_eq!(share(1000, 15, 31), 484);
    assert_eq!(share(-1000, 15, 31), -484);
}

#[test]
fn percentages_have_two_decimals() {
    for (text, expected) in [
        ("2.5", Some(48)),
        ("2.25", Some(43)),
        ("100", Some(1900)),
        ("0", Some(0)),
        ("2.255", None),
        ("101", None),
        ("-1", None),
    ] {
        let found = percent(text).map(|percent| percent_of(1900, &percent));
        assert_eq!(found, expected, "{text} % of 1900");
    }
}
