//! Invoices: drawn up, finalised, voided.
//!
//! In: a subscription and lines. Out: `invoice` objects and their events; `open` ones have a payment intent.
//! Always holds: draft → open → paid, uncollectible or void, never back; `total` is the sum of the lines less discounts and with the
//! taxes that are not in them; a negative total goes to the customer's balance, which the next invoice draws on.

use super::lines::{self, Line};
use super::{change, money, payments, settle, tax, usage};
use crate::agenda::Due;
use crate::error::StripeError;
use crate::json::{at, entries, flag, int, or_null, text};
use crate::state::State;
use serde_json::{Value, json};

/// A new invoice.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Lines of its own.
    pub lines: Vec<Line>,
    /// `subscription_create`, `subscription_cycle`, `subscription_update`.
    pub reason: &'static str,
    /// `period_start`, `period_end`.
    pub period: (i64, i64),
    /// Whether it goes on by itself once the draft's time is over.
    pub auto_advance: bool,
    /// Whether items that wait come onto it.
    pub with_pending: bool,
}

/// Draws up a draft and tells of it.
///
/// # Errors
/// A full table.
pub fn draw_up(
    state: &mut State,
    account: &str,
    subscription: &Value,
    draft: Draft,
) -> Result<Value, StripeError> {
    let id = state.ids.id("in");
    let mut rows: Vec<Value> = Vec::new();
    if draft.with_pending {
        for mut pending in lines::pending_of(state, account, text(subscription, "id")) {
            rows.push(lines::of_pending(state, &pending, &id));
            pending["invoice"] = json!(id);
            state.put(account, &pending)?;
        }
    }
    for line in &draft.lines {
        rows.push(line.to_json(state, subscription, &id));
    }
    let mut invoice = skeleton(state, account, subscription, &id, &draft);
    invoice["lines"]["data"] = Value::Array(rows);
    total(state, account, subscription, &mut invoice);
    state.create(account, "invoice.created", &invoice)?;
    Ok(invoice)
}

/// The same without leaving a trace: for previews.
pub fn preview(state: &mut State, account: &str, subscription: &Value, draft: Draft) -> Value {
    let id = format!("upcoming_{}", state.ids.id("in"));
    let mut rows = Vec::new();
    if draft.with_pending {
        for pending in lines::pending_of(state, account, text(subscription, "id")) {
            rows.push(lines::of_pending(state, &pending, &id));
        }
    }
    for line in &draft.lines {
        rows.push(line.to_json(state, subscription, &id));
    }
    let mut invoice = skeleton(state, account, subscription, &id, &draft);
    invoice["lines"]["data"] = Value::Array(rows);
    total(state, account, subscription, &mut invoice);
    invoice
}

fn skeleton(state: &State, account: &str, subscription: &Value, id: &str, draft: &Draft) -> Value {
    let now = state.moment;
    let customer =
        state.get(account, "customer", text(subscription, "customer")).unwrap_or_default();
    json!({
        "id": id, "object": "invoice", "account_country": "US", "account_name": null, "account_tax_ids": null,
        "amount_due": 0, "amount_overpaid": 0, "amount_paid": 0, "amount_paid_off_stripe": 0, "amount_remaining": 0,
        "amount_shipping": 0, "application": null, "attempt_count": 0, "attempted": false,
        "auto_advance": draft.auto_advance, "automatically_finalizes_at": null,
        "automatic_tax": automatic_tax(flag(subscription, "automatic_tax.enabled")),
        "billing_reason": draft.reason, "collection_method": "charge_automatically", "created": now,
        "currency": at(subscription, "currency"), "custom_fields": null, "customer": at(subscription, "customer"),
        "customer_account": null, "customer_address": at(&customer, "address"),
        "customer_email": at(&customer, "email"), "customer_name": at(&customer, "name"), "customer_phone": null,
        "customer_shipping": null, "customer_tax_exempt": "none", "customer_tax_ids": [],
        "default_payment_method": null, "default_source": null, "default_tax_rates": [],
        "description": null, "discounts": [], "due_date": null, "effective_at": null, "ending_balance": null,
        "footer": null, "from_invoice": null, "hosted_invoice_url": null, "invoice_pdf": null,
        "issuer": {"type": "self"}, "last_finalization_error": null, "latest_revision": null,
        "lines": {"object": "list", "data": [], "has_more": false, "total_count": 0, "url": format!("/v1/invoices/{id}/lines")},
        "livemode": false, "metadata": {}, "next_payment_attempt": null, "number": null, "on_behalf_of": null,
        "parent": {
            "quote_details": null, "type": "subscription_details",
            "subscription_details": {"metadata": at(subscription, "metadata"), "subscription": at(subscription, "id"),
                "subscription_proration_date": null},
        },
        "payment_settings": {"default_mandate": null, "payment_method_options": null, "payment_method_types": null},
        "period_end": draft.period.1, "period_start": draft.period.0, "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0, "receipt_number": null, "rendering": null, "shipping_cost": null,
        "shipping_details": null, "starting_balance": int(&customer, "balance"), "statement_descriptor": null,
        "status": "draft",
        "status_transitions": {"finalized_at": null, "marked_uncollectible_at": null, "paid_at": null, "voided_at": null},
        "subtotal": 0, "subtotal_excluding_tax": 0, "test_clock": or_null(text(subscription, "test_clock")),
        "threshold_reason": null, "total": 0, "total_discount_amounts": [], "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [], "total_taxes": [], "webhooks_delivered_at": now,
        "_payments": {"object": "list", "data": [], "has_more": false, "url": "/v1/invoice_payments"},
        "_fee_percent": at(subscription, "application_fee_percent"),
    })
}

fn automatic_tax(enabled: bool) -> Value {
    let status = if enabled { json!("complete") } else { Value::Null };
    let provider = if enabled { json!("stripe") } else { Value::Null };
    json!({"disabled_reason": null, "enabled": enabled, "liability": if enabled { json!({"type": "self"}) } else { Value::Null },
        "provider": provider, "status": status})
}

/// Adds up the lines, less discounts, with taxes, less the customer's balance.
fn total(state: &State, account: &str, subscription: &Value, invoice: &mut Value) {
    let rows = entries(invoice, "lines.data");
    let (count, subtotal) = (rows.len(), rows.iter().map(|row| int(row, "amount")).sum::<i64>());
    let mut left = subtotal;
    let mut discounts = Vec::new();
    for discount in entries(subscription, "_discounts") {
        let coupon = at(discount, "_coupon");
        if at(discount, "end").as_i64().is_some_and(|end| end <= state.moment) || left <= 0 {
            continue;
        }
        let off = match at(coupon, "percent_off") {
            Value::Null => int(coupon, "amount_off").min(left),
            percent => money::percent_of(left, percent),
        };
        left -= off;
        discounts.push(json!({"amount": off, "discount": at(discount, "id")}));
    }
    let ids: Vec<Value> =
        discounts.iter().map(|discount| at(discount, "discount").clone()).collect();
    let balance = state
        .get(account, "customer", text(invoice, "customer"))
        .map_or(0, |customer| int(&customer, "balance"));
    invoice["lines"]["total_count"] = json!(count);
    for name in ["subtotal", "subtotal_excluding_tax"] {
        invoice[name] = json!(subtotal);
    }
    for name in ["total", "total_excluding_tax"] {
        invoice[name] = json!(left);
    }
    left += tax::write(state, account, subscription, invoice, left);
    // A negative balance is the customer's credit.
    let applied = if left > 0 { balance.max(-left).min(0) } else { -left };
    invoice["discounts"] = Value::Array(ids);
    invoice["total_discount_amounts"] = Value::Array(discounts);
    invoice["starting_balance"] = json!(balance);
    let due = (left + applied).max(0);
    invoice["amount_due"] = json!(due);
    invoice["amount_remaining"] = json!(due);
    invoice["_balance_applied"] = json!(if left > 0 { -applied } else { left });
}

/// Makes a draft an open invoice: usage counted anew, number, page, payment intent. An invoice of nothing is paid at
/// once.
///
/// # Errors
/// No draft, or a full table.
pub fn finalize(state: &mut State, account: &str, id: &str) -> Result<Value, StripeError> {
    let mut invoice = state.must(account, "invoice", id)?;
    if text(&invoice, "status") != "draft" {
        return Err(StripeError::coded(
            "invoice_not_editable",
            format!("This invoice is already finalized, you can't re-finalize it: {id}"),
        ));
    }
    let now = state.moment;
    let subscription = subscription_of(state, account, &invoice);
    usage::recount(state, account, &mut invoice);
    total(state, account, &subscription, &mut invoice);
    let mut customer =
        state.get(account, "customer", text(&invoice, "customer")).unwrap_or_default();
    let number = int(&customer, "next_invoice_sequence").max(1);
    let balance = int(&customer, "balance") + int(&invoice, "_balance_applied");
    invoice["number"] = json!(format!("{}-{number:04}", text(&customer, "invoice_prefix")));
    invoice["ending_balance"] = json!(balance);
    invoice["status"] = json!("open");
    invoice["status_transitions"]["finalized_at"] = json!(now);
    invoice["effective_at"] = json!(now);
    invoice["automatically_finalizes_at"] = Value::Null;
    invoice["hosted_invoice_url"] = json!(format!("{}/pages/invoice/{id}", state.base_url));
    invoice["invoice_pdf"] = json!(format!("{}/pages/invoice/{id}/pdf", state.base_url));
    customer["next_invoice_sequence"] = json!(number + 1);
    customer["balance"] = json!(balance);
    state.put(account, &customer)?;
    if int(&invoice, "amount_due") > 0 {
        payments::prepare(state, account, &mut invoice)?;
    }
    state.put(account, &invoice)?;
    state.emit(account, "invoice.finalized", &invoice)?;
    if int(&invoice, "amount_due") == 0 {
        return settle::paid(state, account, id);
    }
    Ok(invoice)
}

/// The subscription an invoice is of; `null` if it is gone.
pub fn subscription_of(state: &State, account: &str, invoice: &Value) -> Value {
    let id = text(invoice, "parent.subscription_details.subscription");
    state.get(account, "subscription", id).unwrap_or_default()
}

/// A draft's way on by itself, after its hour.
pub fn schedule(state: &mut State, account: &str, invoice: &mut Value) -> Result<(), StripeError> {
    let at = state.moment + state.config.draft_s;
    invoice["automatically_finalizes_at"] = json!(at);
    let clock = text(invoice, "test_clock").to_owned();
    state.agenda.put(&clock, at, account, Due::Finalize(text(invoice, "id").to_owned()));
    state.put(account, invoice)
}

/// An invoice that will not be paid: `void` or `uncollectible`.
///
/// # Errors
/// It is not open or a draft.
pub fn give_up(
    state: &mut State,
    account: &str,
    id: &str,
    status: &'static str,
) -> Result<Value, StripeError> {
    let mut invoice = state.must(account, "invoice", id)?;
    if text(&invoice, "status") == "draft" {
        invoice = finalize(state, account, id)?;
    }
    if !matches!(text(&invoice, "status"), "open" | "uncollectible") {
        return Err(StripeError::invalid(format!(
            "This invoice cannot be made {status}: it is {}",
            text(&invoice, "status")
        )));
    }
    let (event, stamp) = match status {
        "void" => ("invoice.voided", "voided_at"),
        _ => ("invoice.marked_uncollectible", "marked_uncollectible_at"),
    };
    invoice["status"] = json!(status);
    invoice["status_transitions"][stamp] = json!(state.moment);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["auto_advance"] = json!(false);
    if status == "void" {
        invoice["amount_remaining"] = json!(0);
        payments::cancel(state, account, &invoice)?;
    }
    state.change(account, event, &invoice)?;
    if status == "void" {
        change::invoice_voided(state, account, &invoice)?;
    }
    Ok(invoice)
}
