//! How amounts are shown, by currency.

use super::{is_chargeable, is_currency, is_decimal, shown, shown_decimal};

#[test]
fn amounts_have_the_digits_of_their_currency() {
    for (amount, currency, expected) in [
        (1250, "eur", "12.50 EUR"),
        (5, "usd", "0.05 USD"),
        (0, "usd", "0.00 USD"),
        (-1999, "gbp", "-19.99 GBP"),
        (500, "jpy", "500 JPY"),
        (0, "jpy", "0 JPY"),
        (5_000, "kwd", "5.000 KWD"),
        (10, "bhd", "0.010 BHD"),
        (10_000, "isk", "100.00 ISK"),
        (i64::MAX, "eur", "92233720368547758.07 EUR"),
    ] {
        assert_eq!(shown(amount, currency), expected);
    }
    for (amount, currency, expected) in [
        ("0.5", "usd", Some("0.005 USD")),
        ("0.05", "eur", Some("0.0005 EUR")),
        ("1.50", "jpy", Some("1.5 JPY")),
        ("12", "usd", Some("0.12 USD")),
        ("", "usd", None),
        (".5", "usd", None),
        ("1e3", "usd", None),
    ] {
        assert_eq!(shown_decimal(amount, currency).as_deref(), expected, "{amount} {currency}");
    }
}

#[test]
fn amounts_that_stripe_refuses_are_known() {
    for (amount, currency, expected) in [
        (1, "usd", true),
        (1, "jpy", true),
        (5, "kwd", false),
        (10, "kwd", true),
        (150, "isk", false),
    ] {
        assert_eq!(is_chargeable(amount, currency), expected, "{amount} {currency}");
    }
    for (text, expected) in [
        ("0.1", true),
        ("1", true),
        ("0.000000000001", true),
        ("0.0000000000001", false),
        ("-1", false),
        ("1.", false),
        (".1", false),
        ("1,5", false),
        ("", false),
    ] {
        assert_eq!(is_decimal(text), expected, "{text}");
    }
    for (text, expected) in
        [("eur", true), ("EUR", false), ("eu", false), ("euro", false), ("e1r", false)]
    {
        assert_eq!(is_currency(text), expected, "{text}");
    }
}
