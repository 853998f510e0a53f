//! Amounts as people read them.
//!
//! In: whole numbers of a currency's smallest unit, as Stripe has them. Out: text like `12.50 EUR`.
//! Always holds: an amount is computed with as a whole number and only written with a point here; Stripe's own list says how
//! many digits a currency has, which for some differs from ISO 4217.

/// Currencies whose smallest unit is the unit (<https://docs.stripe.com/currencies#zero-decimal>).
const ZERO_DECIMAL: &[&str] = &[
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf",
    "xof", "xpf",
];
/// Currencies with a thousand to the unit (<https://docs.stripe.com/currencies#three-decimal>).
const THREE_DECIMAL: &[&str] = &["bhd", "jod", "kwd", "omr", "tnd"];
/// Digits after the point of `unit_amount_decimal` at most.
pub const DECIMAL_PLACES_MAX: usize = 12;

/// Digits after the point. ISK and UGX have none of their own, but Stripe counts them in hundredths.
#[must_use]
pub fn digits(currency: &str) -> usize {
    let currency = currency.to_ascii_lowercase();
    if ZERO_DECIMAL.contains(&currency.as_str()) {
        0
    } else if THREE_DECIMAL.contains(&currency.as_str()) {
        3
    } else {
        2
    }
}

/// Whether Stripe takes the amount: of three-decimal currencies it takes tens alone, of ISK and UGX hundreds.
#[must_use]
pub fn is_chargeable(amount: i64, currency: &str) -> bool {
    match currency.to_ascii_lowercase().as_str() {
        "isk" | "ugx" => amount % 100 == 0,
        other if THREE_DECIMAL.contains(&other) => amount % 10 == 0,
        _ => true,
    }
}

/// Whether it has the form of a currency: three letters in lower case.
#[must_use]
pub fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// An amount as people read it.
#[must_use]
pub fn shown(amount: i64, currency: &str) -> String {
    shown_decimal(&amount.to_string(), currency).unwrap_or_default()
}

/// An amount with digits after the point of the smallest unit, as `unit_amount_decimal` has it; `None` where it is none.
#[must_use]
pub fn shown_decimal(amount: &str, currency: &str) -> Option<String> {
    let (sign, plain) = match amount.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", amount),
    };
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let is_number = !whole.is_empty()
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return None;
    }
    let places = digits(currency);
    let padded = format!("{whole:0>width$}", width = places + 1);
    let (units, rest) = padded.split_at(padded.len() - places);
    let units = units.trim_start_matches('0');
    let units = if units.is_empty() { "0" } else { units };
    let fraction = fraction.trim_end_matches('0');
    let code = currency.to_ascii_uppercase();
    if places == 0 && fraction.is_empty() {
        return Some(format!("{sign}{units} {code}"));
    }
    Some(format!("{sign}{units}.{rest}{fraction} {code}"))
}

/// Whether a text is an amount with digits after the point as Stripe takes it: not negative, at most twelve digits there.
#[must_use]
pub fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    (1..=12).contains(&whole.len())
        && (1..=DECIMAL_PLACES_MAX).contains(&fraction.len())
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
#[path = "money_tests.rs"]
mod tests;
