//! Amounts: whole minor units, prices with up to 12 decimals, shares of a period, percentages.
//!
//! In: prices, quantities, seconds. Out: minor units, rounded half away from zero.
//! Always holds: no floating point.

use crate::json::{at, int, text};
use serde_json::{Value, json};

/// Decimals a price may have.
const DECIMALS: usize = 12;
const ONE: i128 = 1_000_000_000_000;

/// A decimal number of at most `decimals` decimals, as a whole number of its last place.
pub fn parse_decimal(text: &str, decimals: usize) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.chars().all(|digit| digit.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !all_digits(whole) || !all_digits(part) {
        return None;
    }
    let part = part.trim_end_matches('0');
    if part.len() > decimals || whole.len() > 15 {
        return None;
    }
    let number: i128 = format!("{whole}{part:0<decimals$}").parse().ok()?;
    Some(if negative { -number } else { number })
}

/// A price's decimal, as Stripe writes it: no zeros at its end.
pub fn decimal_text(text: &str) -> Option<String> {
    let number = parse_decimal(text, DECIMALS)?;
    let (whole, part) = (number / ONE, (number % ONE).abs());
    let sign = if number < 0 && whole == 0 { "-" } else { "" };
    let part = format!("{part:012}");
    let part = part.trim_end_matches('0');
    Some(if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
}

/// `numerator / denominator`, rounded half away from zero.
pub fn rounded(numerator: i128, denominator: i128) -> i64 {
    if denominator == 0 {
        return 0;
    }
    let (magnitude, unit) = (numerator.abs(), denominator.abs());
    let quotient = (magnitude * 2 + unit) / (unit * 2);
    let signed = if (numerator < 0) == (denominator < 0) { quotient } else { -quotient };
    i64::try_from(signed).unwrap_or(if signed < 0 { i64::MIN } else { i64::MAX })
}

/// What `quantity` of a price costs.
pub fn amount(price: &Value, quantity: i64) -> i64 {
    let quantity = match at(price, "transform_quantity") {
        Value::Null => quantity,
        transform => {
            let by = int(transform, "divide_by").max(1);
            if text(transform, "round") == "up" {
                (quantity + by - 1).div_euclid(by)
            } else {
                quantity.div_euclid(by)
            }
        }
    };
    let unit = parse_decimal(text(price, "unit_amount_decimal"), DECIMALS).unwrap_or(0);
    rounded(unit * i128::from(quantity), ONE)
}

/// The share of an amount that belongs to `part` of `whole` seconds.
pub fn share(amount: i64, part: i64, whole: i64) -> i64 {
    rounded(i128::from(amount) * i128::from(part), i128::from(whole))
}

/// A percentage of an amount; `percent` is JSON's number with at most two decimals.
pub fn percent_of(amount: i64, percent: &Value) -> i64 {
    let hundredths = parse_decimal(&percent.to_string(), 4).unwrap_or(0);
    rounded(i128::from(amount) * hundredths, 1_000_000)
}

/// A percentage of 0 to 100 with at most two decimals, as a JSON number.
pub fn percent(text: &str) -> Option<Value> {
    let hundredths = parse_decimal(text, 2).filter(|number| (0..=10_000).contains(number))?;
    let number: f64 = text.parse().ok()?;
    Some(if hundredths % 100 == 0 {
        json!(i64::try_from(hundredths / 100).ok()?)
    } else {
        json!(number)
    })
}

#[cfg(test)]
#[path = "money_tests.rs"]
mod tests;
