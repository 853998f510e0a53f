//! Metered use: events summed up for a customer and a period.
//!
//! In: `billing.meter_event` rows. Out: quantities of invoice lines and summaries.
//! Always holds: an event counts once, in the period its timestamp lies in; one that was adjusted away does not count.

use super::money;
use crate::json::{at, entries, flag, int, text};
use crate::state::State;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The table of a customer's events.
pub fn table_of(customer: &str) -> String {
    format!("billing.meter_event of {customer}")
}

/// What a meter says of a customer from `start` to before `end`.
pub fn measured(
    state: &State,
    account: &str,
    meter: &Value,
    customer: &str,
    start: i64,
    end: i64,
) -> i64 {
    let what = text(meter, "value_settings.event_payload_key");
    let mut sum: i64 = 0;
    let mut latest = i64::MIN;
    let formula = text(meter, "default_aggregation.formula");
    let rows = state.table(account, &table_of(customer)).into_iter();
    let rows = rows.flat_map(|table| table.oldest(None));
    let of_customer = |event: &&Value| {
        text(event, "event_name") == text(meter, "event_name")
            && (start..end).contains(&int(event, "timestamp"))
            && !flag(event, "_cancelled")
    };
    for event in rows.filter(of_customer) {
        let value = at(event, "payload")
            .get(what)
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok());
        match formula {
            "count" => sum += 1,
            "last" if int(event, "timestamp") >= latest => {
                latest = int(event, "timestamp");
                sum = value.unwrap_or(0);
            }
            "last" => {}
            _ => sum = sum.saturating_add(value.unwrap_or(0)),
        }
    }
    sum
}

/// Counts the metered lines of a draft anew.
pub fn recount(state: &State, account: &str, invoice: &mut Value) {
    let customer = text(invoice, "customer").to_owned();
    let rows = entries(invoice, "lines.data").to_vec();
    let mut prices: BTreeMap<String, Value> = BTreeMap::new();
    let mut counted = Vec::with_capacity(rows.len());
    for mut row in rows {
        if flag(&row, "_metered") {
            let id = text(&row, "pricing.price_details.price").to_owned();
            let price = prices
                .entry(id.clone())
                .or_insert_with(|| state.get(account, "price", &id).unwrap_or_default());
            let quantity = of_price(
                state,
                account,
                price,
                &customer,
                int(&row, "period.start"),
                int(&row, "period.end"),
            );
            let amount = money::amount(price, quantity);
            row["quantity"] = json!(quantity);
            row["quantity_decimal"] = json!(quantity.to_string());
            row["amount"] = json!(amount);
            row["subtotal"] = json!(amount);
        }
        counted.push(row);
    }
    invoice["lines"]["data"] = Value::Array(counted);
}

/// What the meter of a price says.
pub fn of_price(
    state: &State,
    account: &str,
    price: &Value,
    customer: &str,
    start: i64,
    end: i64,
) -> i64 {
    match state.get(account, "billing.meter", text(price, "recurring.meter")) {
        Some(meter) => measured(state, account, &meter, customer, start, end).max(0),
        None => 0,
    }
}
