//! A subscription's going on and its end: trials that end, renewals, cancellations.
//!
//! In: a period's end, or a wish to cancel. Out: the next period with its draft invoice, or `canceled`.
//! Always holds: the period moves on before its invoice is paid; what is licensed is billed ahead, what is metered
//! afterwards; a canceled subscription never changes again.

use super::invoicing::{self, Draft};
use super::lines::Line;
use super::{money, payments, subscribe, usage};
use crate::agenda::Due;
use crate::error::StripeError;
use crate::json::{at, entries, flag, int, text};
use crate::state::State;
use serde_json::{Value, json};

/// The period of a subscription may be over.
///
/// # Errors
/// A full table.
pub fn period_end(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let now = state.moment;
    let Some(mut subscription) = state.get(account, "subscription", id) else { return Ok(()) };
    let (_, end) = subscribe::period_of(&subscription);
    let stands = matches!(
        text(&subscription, "status"),
        "canceled" | "incomplete" | "incomplete_expired" | "paused"
    );
    if stands || now < end {
        return Ok(());
    }
    if flag(&subscription, "cancel_at_period_end") {
        final_usage(state, account, &subscription)?;
        return cancel(state, account, &subscription, "cancellation_requested").map(drop);
    }
    let was_trial = text(&subscription, "status") == "trialing";
    if was_trial && int(&subscription, "trial_end") <= now {
        match trial_end(state, account, &subscription)? {
            Some(going_on) => subscription = going_on,
            None => return Ok(()),
        }
    }
    renew(state, account, subscription, was_trial)
}

/// A trial is over; `None` if the subscription does not go on.
fn trial_end(
    state: &mut State,
    account: &str,
    subscription: &Value,
) -> Result<Option<Value>, StripeError> {
    let mut subscription = subscription.clone();
    let method =
        payments::method_for(state, account, &subscription, text(&subscription, "customer"));
    if method.is_null() {
        match text(&subscription, "trial_settings.end_behavior.missing_payment_method") {
            "cancel" => {
                cancel(state, account, &subscription, "payment_failed")?;
                return Ok(None);
            }
            "pause" => {
                subscription["status"] = json!("paused");
                state.put(account, &subscription)?;
                state.emit(account, "customer.subscription.paused", &subscription)?;
                return Ok(None);
            }
            _ => {}
        }
    }
    Ok(Some(subscription))
}

/// The next period, with its draft.
fn renew(
    state: &mut State,
    account: &str,
    mut subscription: Value,
    was_trial: bool,
) -> Result<(), StripeError> {
    let (start, end) = subscribe::period_of(&subscription);
    let next = subscribe::interval_of(&subscription)
        .next_after(int(&subscription, "billing_cycle_anchor"), end);
    let lines = cycle_lines(state, account, &subscription, (start, end), (end, next), was_trial);
    set_period(&mut subscription, (end, next));
    if was_trial {
        subscription["status"] = json!("active");
    }
    let unpaid = text(&subscription, "status") == "unpaid";
    let behavior = text(&subscription, "pause_collection.behavior").to_owned();
    let draft = Draft {
        lines,
        reason: "subscription_cycle",
        period: (start, end),
        auto_advance: !unpaid && behavior != "keep_as_draft",
        with_pending: true,
    };
    let mut invoice = invoicing::draw_up(state, account, &subscription, draft)?;
    subscription["latest_invoice"] = at(&invoice, "id").clone();
    state.change(account, "customer.subscription.updated", &subscription)?;
    subscribe::schedule_period(state, account, &subscription);
    match behavior.as_str() {
        "keep_as_draft" => Ok(()),
        "void" => invoicing::give_up(state, account, text(&invoice, "id"), "void").map(drop),
        "mark_uncollectible" => {
            invoicing::give_up(state, account, text(&invoice, "id"), "uncollectible").map(drop)
        }
        _ if unpaid => Ok(()),
        _ => invoicing::schedule(state, account, &mut invoice),
    }
}

/// Sets the period of all items.
pub fn set_period(subscription: &mut Value, period: (i64, i64)) {
    if let Some(items) = subscription["items"]["data"].as_array_mut() {
        for item in items {
            item["current_period_start"] = json!(period.0);
            item["current_period_end"] = json!(period.1);
        }
    }
}

/// What a renewal bills: licensed items ahead, metered ones for the period that is over.
pub fn cycle_lines(
    state: &State,
    account: &str,
    subscription: &Value,
    past: (i64, i64),
    ahead: (i64, i64),
    was_trial: bool,
) -> Vec<Line> {
    let mut lines = Vec::new();
    let customer = text(subscription, "customer");
    for item in entries(subscription, "items.data") {
        let price = at(item, "price");
        if text(price, "recurring.usage_type") == "metered" {
            let line = metered_line(state, account, item, customer, past);
            lines.extend(line.filter(|_| !was_trial));
            continue;
        }
        let quantity = int(item, "quantity");
        lines.push(Line {
            amount: money::amount(price, quantity),
            price: price.clone(),
            item: text(item, "id").to_owned(),
            quantity,
            period: ahead,
            description: format!("{quantity} × {}", text(price, "product")),
            proration: false,
            metered: false,
        });
    }
    lines
}

/// What was used of a metered item in a period, less what is settled already; none of a licensed one.
pub fn metered_line(
    state: &State,
    account: &str,
    item: &Value,
    customer: &str,
    past: (i64, i64),
) -> Option<Line> {
    let price = at(item, "price");
    if text(price, "recurring.usage_type") != "metered" {
        return None;
    }
    let past = (past.0.max(int(item, "_used_from")).min(past.1), past.1);
    let quantity = usage::of_price(state, account, price, customer, past.0, past.1);
    Some(Line {
        amount: money::amount(price, quantity),
        price: price.clone(),
        item: text(item, "id").to_owned(),
        quantity,
        period: past,
        description: format!("{quantity} × {}", text(price, "product")),
        proration: false,
        metered: true,
    })
}

/// Bills metered use of the period that ends with the subscription.
fn final_usage(state: &mut State, account: &str, subscription: &Value) -> Result<(), StripeError> {
    let past = subscribe::period_of(subscription);
    let mut lines = cycle_lines(state, account, subscription, past, past, false);
    lines.retain(|line| line.metered);
    let waiting = super::lines::pending_of(state, account, text(subscription, "id"));
    if lines.is_empty() && waiting.is_empty() {
        return Ok(());
    }
    let draft = Draft {
        lines,
        reason: "subscription_cycle",
        period: past,
        auto_advance: true,
        with_pending: true,
    };
    let mut invoice = invoicing::draw_up(state, account, subscription, draft)?;
    let mut subscription = subscription.clone();
    subscription["latest_invoice"] = at(&invoice, "id").clone();
    state.put(account, &subscription)?;
    invoicing::schedule(state, account, &mut invoice)
}

/// Ends a subscription now; its open invoices are collected no more.
///
/// # Errors
/// It has ended already, or a full table.
pub fn cancel(
    state: &mut State,
    account: &str,
    subscription: &Value,
    reason: &str,
) -> Result<Value, StripeError> {
    let id = text(subscription, "id").to_owned();
    let mut subscription = state.must(account, "subscription", &id)?;
    if matches!(text(&subscription, "status"), "canceled" | "incomplete_expired") {
        return Err(StripeError::missing("subscription", &id));
    }
    let now = state.moment;
    subscription["status"] = json!("canceled");
    subscription["ended_at"] = json!(now);
    if at(&subscription, "canceled_at").is_null() {
        subscription["canceled_at"] = json!(now);
    }
    if at(&subscription, "cancellation_details.reason").is_null() {
        subscription["cancellation_details"]["reason"] = json!(reason);
    }
    subscription["pending_update"] = Value::Null;
    state.put(account, &subscription)?;
    if let Some(mut invoice) = state.get(account, "invoice", text(&subscription, "latest_invoice"))
        && text(&invoice, "status") == "open"
    {
        invoice["auto_advance"] = json!(false);
        invoice["next_payment_attempt"] = Value::Null;
        state.change(account, "invoice.updated", &invoice)?;
    }
    state.emit(account, "customer.subscription.deleted", &subscription)?;
    Ok(subscription)
}

/// A first payment has not come in 23 hours.
///
/// # Errors
/// A full table.
pub fn incomplete_expires(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let Some(mut subscription) = state.get(account, "subscription", id) else { return Ok(()) };
    if text(&subscription, "status") != "incomplete" {
        return Ok(());
    }
    subscription["status"] = json!("incomplete_expired");
    subscription["ended_at"] = json!(state.moment);
    let invoice = text(&subscription, "latest_invoice").to_owned();
    state.change(account, "customer.subscription.updated", &subscription)?;
    invoicing::give_up(state, account, &invoice, "void").map(drop)
}

/// Puts down that a subscription ends at a second of the caller's choice.
pub fn schedule_cancel(state: &mut State, account: &str, subscription: &Value) {
    if let Some(end) = at(subscription, "cancel_at").as_i64() {
        let clock = text(subscription, "test_clock").to_owned();
        state.agenda.put(&clock, end, account, Due::CancelAt(text(subscription, "id").to_owned()));
    }
}
