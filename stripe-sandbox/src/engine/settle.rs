//! What an invoice's payment, or its failure, does to the invoice and to its subscription.
//!
//! In: an open invoice. Out: it paid, or a retry planned; the subscription active, past due, canceled or unpaid.
//! Always holds: a subscription is active again once its latest invoice is paid; retries come as often as the
//! configuration says and then the owner's setting decides.

use super::payments::{self, Attempt};
use super::{change, cycle, invoicing};
use crate::agenda::Due;
use crate::config::Exhausted;
use crate::error::StripeError;
use crate::json::{at, entries, flag, int, text};
use crate::state::State;
use serde_json::{Value, json};

const DAY_S: i64 = 86_400;

/// Charges an open invoice to what its customer pays with, and does what follows.
///
/// # Errors
/// A full table. A refused card is no error: see what is returned.
pub fn collect(state: &mut State, account: &str, id: &str) -> Result<Attempt, StripeError> {
    let invoice = state.must(account, "invoice", id)?;
    let subscription = invoicing::subscription_of(state, account, &invoice);
    let method = payments::method_for(state, account, &subscription, text(&invoice, "customer"));
    collect_with(state, account, id, &method, false)
}

/// The same, with a method of the caller's choice.
///
/// # Errors
/// A full table.
pub fn collect_with(
    state: &mut State,
    account: &str,
    id: &str,
    method: &Value,
    authenticated: bool,
) -> Result<Attempt, StripeError> {
    let mut invoice = state.must(account, "invoice", id)?;
    if !matches!(text(&invoice, "status"), "open" | "uncollectible") {
        return Ok(Attempt::Paid);
    }
    let outcome = payments::attempt(state, account, &invoice, method, authenticated)?;
    invoice["attempted"] = json!(true);
    invoice["attempt_count"] = json!(int(&invoice, "attempt_count") + 1);
    state.put(account, &invoice)?;
    match outcome {
        Attempt::Paid => paid(state, account, id).map(drop)?,
        other => failed(state, account, id, other)?,
    }
    Ok(outcome)
}

/// An invoice is paid.
///
/// # Errors
/// A full table.
pub fn paid(state: &mut State, account: &str, id: &str) -> Result<Value, StripeError> {
    let now = state.moment;
    let mut invoice = state.must(account, "invoice", id)?;
    let due = int(&invoice, "amount_due");
    invoice["status"] = json!("paid");
    invoice["status_transitions"]["paid_at"] = json!(now);
    invoice["amount_paid"] = json!(due);
    invoice["amount_remaining"] = json!(0);
    invoice["attempted"] = json!(true);
    invoice["next_payment_attempt"] = Value::Null;
    let payments = entries(&invoice, "_payments.data").to_vec();
    let mut settled = Vec::new();
    for payment in payments {
        let mut payment =
            state.get(account, "invoice_payment", text(&payment, "id")).unwrap_or(payment);
        payment["status"] = json!("paid");
        payment["amount_paid"] = json!(due);
        payment["status_transitions"]["paid_at"] = json!(now);
        state.change(account, "invoice_payment.paid", &payment)?;
        settled.push(payment);
    }
    invoice["_payments"]["data"] = Value::Array(settled);
    state.put(account, &invoice)?;
    state.emit(account, "invoice.paid", &invoice)?;
    state.emit(account, "invoice.payment_succeeded", &invoice)?;
    let mut subscription = invoicing::subscription_of(state, account, &invoice);
    if subscription.is_null() {
        return Ok(invoice);
    }
    if text(&subscription, "pending_update._invoice") == id {
        subscription = change::apply_pending(state, account, &subscription)?;
    }
    let latest = text(&subscription, "latest_invoice") == id;
    if latest && matches!(text(&subscription, "status"), "incomplete" | "past_due" | "unpaid") {
        subscription["status"] = json!("active");
    }
    state.change(account, "customer.subscription.updated", &subscription)?;
    Ok(invoice)
}

/// An attempt failed.
fn failed(state: &mut State, account: &str, id: &str, outcome: Attempt) -> Result<(), StripeError> {
    let mut invoice = state.must(account, "invoice", id)?;
    let subscription = invoicing::subscription_of(state, account, &invoice);
    let first = text(&invoice, "billing_reason") == "subscription_create";
    let count = int(&invoice, "attempt_count");
    let retry = retry_after(state, count).filter(|_| {
        !first
            && flag(&invoice, "auto_advance")
            && !matches!(text(&subscription, "status"), "canceled" | "unpaid")
    });
    if let Some(at) = retry {
        invoice["next_payment_attempt"] = json!(at);
        let clock = text(&invoice, "test_clock").to_owned();
        state.agenda.put(&clock, at, account, Due::RetryPayment(id.to_owned()));
    } else {
        invoice["next_payment_attempt"] = Value::Null;
    }
    state.put(account, &invoice)?;
    state.emit(account, "invoice.payment_failed", &invoice)?;
    if outcome == Attempt::NeedsAction {
        state.emit(account, "invoice.payment_action_required", &invoice)?;
    }
    if first || subscription.is_null() || !at(&subscription, "pending_update").is_null() {
        return Ok(());
    }
    match (retry, text(&subscription, "status")) {
        (_, "canceled" | "incomplete_expired" | "unpaid" | "paused" | "incomplete") => Ok(()),
        (Some(_), _) => set_status(state, account, subscription, "past_due"),
        (None, _) => exhausted(state, account, subscription),
    }
}

/// When the attempt after `count` failed ones is made.
fn retry_after(state: &State, count: i64) -> Option<i64> {
    let index = usize::try_from(count - 1).ok()?;
    let days = &state.config.retry_days;
    let before = index.checked_sub(1).and_then(|before| days.get(before)).copied().unwrap_or(0);
    days.get(index).map(|day| state.moment + (day - before) * DAY_S)
}

fn exhausted(state: &mut State, account: &str, subscription: Value) -> Result<(), StripeError> {
    match state.config.exhausted {
        Exhausted::Cancel => {
            cycle::cancel(state, account, &subscription, "payment_failed").map(drop)
        }
        Exhausted::Unpaid => set_status(state, account, subscription, "unpaid"),
        Exhausted::PastDue => set_status(state, account, subscription, "past_due"),
    }
}

fn set_status(
    state: &mut State,
    account: &str,
    mut subscription: Value,
    status: &str,
) -> Result<(), StripeError> {
    subscription["status"] = json!(status);
    state.change(account, "customer.subscription.updated", &subscription)
}
