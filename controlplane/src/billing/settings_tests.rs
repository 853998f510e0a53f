//! Which percentages are taken, and what is shown of settings.

use super::{BillingSettings, Percent};
use crate::billing::stripe::{Mode, SecretKey, SecretKeys, StripeSettings};

#[test]
fn percentages_have_two_digits_at_most() {
    for (text, shown, for_stripe) in [
        ("0", Some("0.00"), None),
        ("2.5", Some("2.50"), Some(2.5)),
        ("2.05", Some("2.05"), Some(2.05)),
        ("100", Some("100.00"), Some(100.0)),
        ("100.01", None, None),
        ("1.234", None, None),
        ("-1", None, None),
        ("1,5", None, None),
        ("", None, None),
        (".5", None, None),
        ("5.", None, None),
    ] {
        let read = text.parse::<Percent>().ok();
        assert_eq!(read.map(|percent| percent.to_string()).as_deref(), shown, "{text}");
        assert_eq!(read.and_then(Percent::for_stripe), for_stripe, "{text}");
    }
}

#[test]
fn settings_show_no_key() {
    let test = SecretKey::parse("sk_test_0123456789", Mode::Test).ok();
    let stripe =
        StripeSettings { keys: SecretKeys { test, live: None }, ..StripeSettings::default() };
    let shown = format!("{:?}", BillingSettings { stripe, ..BillingSettings::default() });
    assert!(shown.contains("SecretKey") && !shown.contains("0123456789"), "{shown}");
}
