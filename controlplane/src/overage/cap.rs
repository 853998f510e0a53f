//! What a plan's spend cap comes to in units.
//!
//! In: the price of overage as the plan has it. Out: units past the limit that may be charged in a period.
//! Always holds: reckoned in whole numbers; of units that are sold by the hundred, whole hundreds alone fit a cap, since Stripe
//! rounds up to them.

use serde_json::Value as Json;

/// Digits after the point that Stripe's decimal amounts have at most.
const PLACES: u32 = 12;

/// Units that a plan's `price.overage.cap_amount` pays for; none where there is no such cap.
#[must_use]
pub fn units(plan: &Json) -> Option<i64> {
    let overage = &plan["price"]["overage"];
    let cap = i128::from(overage["cap_amount"].as_i64()?.max(0));
    let per = i128::from(overage["per"].as_u64().unwrap_or(1).max(1));
    let amount = decimal(overage["unit_amount_decimal"].as_str()?)?;
    if amount == 0 {
        return None;
    }
    let blocks = cap.checked_mul(10_i128.pow(PLACES))? / amount;
    Some(i64::try_from(blocks.saturating_mul(per)).unwrap_or(i64::MAX))
}

/// An amount such as `0.05`, in units of its last possible place.
fn decimal(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > PLACES as usize || whole.len() > 12 {
        return None;
    }
    let digits = format!("{whole}{fraction:0<width$}", width = PLACES as usize);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}
