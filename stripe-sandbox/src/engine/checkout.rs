//! Payments that a bank decides on later.
//!
//! In: an open invoice. Out: its intent `processing`, then succeeded or failed by the bank's word.
//! Always holds: until the bank has spoken the invoice is open.

use super::settle;
use crate::error::StripeError;
use crate::json::{at, text};
use crate::state::State;
use serde_json::{Value, json};

/// The payment of an invoice is under way at a bank.
///
/// # Errors
/// No such invoice.
pub fn processing(state: &mut State, account: &str, invoice: &str) -> Result<(), StripeError> {
    let invoice = state.must(account, "invoice", invoice)?;
    let mut intent = state.must(account, "payment_intent", text(&invoice, "_payment_intent"))?;
    intent["status"] = json!("processing");
    state.change(account, "payment_intent.processing", &intent)
}

/// The bank has spoken.
///
/// # Errors
/// A full table.
pub fn bank_says(
    state: &mut State,
    account: &str,
    invoice: &str,
    method: &Value,
    paid: bool,
) -> Result<(), StripeError> {
    let mut method = method.clone();
    method["_card"] = json!(if paid { "good" } else { "declined" });
    let object = state.must(account, "invoice", invoice)?;
    if let Some(mut intent) = state.get(account, "payment_intent", text(&object, "_payment_intent"))
    {
        intent["payment_method"] = at(&method, "id").clone();
        state.put(account, &intent)?;
    }
    settle::collect_with(state, account, invoice, &method, true)?;
    if !paid {
        let mut subscription = super::invoicing::subscription_of(state, account, &object);
        if text(&subscription, "status") == "active" {
            subscription["status"] = json!("past_due");
            state.change(account, "customer.subscription.updated", &subscription)?;
        }
    }
    Ok(())
}
