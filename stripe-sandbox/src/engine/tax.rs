//! Taxes, where a session or a subscription has them computed: one rate for everybody, wherever they live.
//!
//! In: prices with their `tax_behavior`, amounts after discounts. Out: the tax that comes on top, and the one that is in them.
//! Always holds: an inclusive amount stays what it is; a price that does not say is taken as Stripe's default setting does, by its
//! currency.

use super::money::rounded;
use crate::json::{at, entries, flag, int, text};
use crate::state::State;
use serde_json::{Value, json};

/// Percent of what is taxed.
pub const PERCENT: i128 = 20;
/// The rate's name.
const RATE: &str = "txr_sandbox";

/// What is to be paid to a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tax {
    /// On top of the amount.
    pub exclusive: i64,
    /// Within it.
    pub inclusive: i64,
}

impl Tax {
    /// Both.
    pub fn whole(self) -> i64 {
        self.exclusive + self.inclusive
    }
}

/// Whether a price's tax is in its amount. Stripe's default: on top for dollars of the United States and Canada, else within.
pub fn is_inclusive(price: &Value) -> bool {
    match text(price, "tax_behavior") {
        "inclusive" => true,
        "exclusive" => false,
        _ => !matches!(text(price, "currency"), "usd" | "cad"),
    }
}

/// The tax of `left` minor units, which is what discounts leave of these amounts.
pub fn of(amounts: &[(i64, bool)], left: i64) -> Tax {
    let sum = |wanted: bool| -> i128 {
        let of = amounts.iter().filter(|(_, inclusive)| *inclusive == wanted);
        of.map(|(amount, _)| i128::from(*amount)).sum()
    };
    let (inclusive, exclusive) = (sum(true), sum(false));
    let (whole, left) = (inclusive + exclusive, i128::from(left));
    Tax {
        exclusive: rounded(exclusive * left * PERCENT, whole * 100),
        inclusive: rounded(inclusive * left * PERCENT, whole * (100 + PERCENT)),
    }
}

/// Writes the taxes of an invoice, and says what comes on top of what its lines leave.
pub fn write(
    state: &State,
    account: &str,
    subscription: &Value,
    invoice: &mut Value,
    left: i64,
) -> i64 {
    if !flag(subscription, "automatic_tax.enabled") {
        return 0;
    }
    let amount = |row: &Value| {
        let price = state.get(account, "price", text(row, "pricing.price_details.price"));
        (int(row, "amount"), is_inclusive(&price.unwrap_or_default()))
    };
    let amounts: Vec<(i64, bool)> = entries(invoice, "lines.data").iter().map(amount).collect();
    let subtotal = int(invoice, "subtotal");
    let (tax, whole) = (of(&amounts, left), of(&amounts, subtotal));
    let gross = left + tax.exclusive;
    let named = [("exclusive", tax.exclusive), ("inclusive", tax.inclusive)];
    let rows = named.into_iter().filter(|(_, amount)| *amount != 0).map(|(behavior, amount)| {
        json!({
            "amount": amount, "tax_behavior": behavior, "tax_rate_details": {"tax_rate": RATE},
            "taxability_reason": "standard_rated", "taxable_amount": gross - tax.whole(), "type": "tax_rate_details",
        })
    });
    invoice["total_taxes"] = rows.collect();
    invoice["subtotal_excluding_tax"] = json!(subtotal - whole.inclusive);
    invoice["total"] = json!(gross);
    invoice["total_excluding_tax"] = json!(gross - tax.whole());
    tax.exclusive
}

/// Adds the tax to a session, once its page knows where the buyer lives.
pub fn write_session(session: &mut Value) {
    if !flag(session, "automatic_tax.enabled") {
        return;
    }
    let amount = |line: &Value| (int(line, "amount_subtotal"), is_inclusive(at(line, "price")));
    let amounts: Vec<(i64, bool)> =
        entries(session, "_line_items.data").iter().map(amount).collect();
    let left = int(session, "amount_total");
    let tax = of(&amounts, left);
    session["amount_total"] = json!(left + tax.exclusive);
    session["total_details"]["amount_tax"] = json!(tax.whole());
    session["automatic_tax"]["status"] = json!("complete");
}
