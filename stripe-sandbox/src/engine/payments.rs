//! Payments: intents, charges, cards and how they behave.
//!
//! In: an open invoice and a card. Out: a charge, succeeded or failed, and the intent's new state.
//! Always holds: a failed attempt leaves a failed charge; a payment of a connected account gives the platform its fee.

use super::money;
use crate::api::refunds;
use crate::error::StripeError;
use crate::json::{at, int, or_null, text};
use crate::state::{PLATFORM, State};
use serde_json::{Value, json};

/// How a card behaves when it is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// It pays.
    Good,
    /// It is declined.
    Declined,
    /// It pays only after its holder has authenticated.
    NeedsAction,
    /// It pays, and its holder disputes that at once.
    Disputed,
    /// It pays, and its bank asks about that at once.
    Inquired,
}

impl Card {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Declined => "declined",
            Self::NeedsAction => "needs_action",
            Self::Disputed => "disputed",
            Self::Inquired => "inquired",
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is paid.
    Paid,
    /// The card was refused.
    Declined,
    /// The buyer must authenticate.
    NeedsAction,
    /// There is nothing to charge.
    NoMethod,
}

/// A new card of a customer.
///
/// # Errors
/// A full table.
pub fn new_card(
    state: &mut State,
    account: &str,
    customer: &str,
    card: Card,
) -> Result<Value, StripeError> {
    let last4 = match card {
        Card::Good => "4242",
        Card::Declined => "0341",
        Card::NeedsAction => "3155",
        Card::Disputed => "0259",
        Card::Inquired => "1976",
    };
    let method = json!({
        "id": state.ids.id("pm"), "object": "payment_method", "allow_redisplay": "unspecified",
        "billing_details": {"address": {"city": null, "country": null, "line1": null, "line2": null,
            "postal_code": null, "state": null}, "email": null, "name": null, "phone": null, "tax_id": null},
        "card": {"brand": "visa", "checks": {"address_line1_check": null, "address_postal_code_check": null,
            "cvc_check": "pass"}, "country": "US", "display_brand": "visa", "exp_month": 12, "exp_year": 2040,
            "fingerprint": "sandbox", "funding": "credit", "generated_from": null, "last4": last4,
            "networks": {"available": ["visa"], "preferred": null}, "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": true}, "wallet": null},
        "created": state.moment, "customer": or_null(customer), "customer_account": null, "livemode": false,
        "metadata": {}, "type": "card", "_card": card.word(),
    });
    state.put(account, &method)?;
    if !customer.is_empty() {
        state.emit(account, "payment_method.attached", &method)?;
    }
    Ok(method)
}

/// Sets how all cards of a customer behave; a customer without one gets one.
///
/// # Errors
/// No such customer.
pub fn set_card(
    state: &mut State,
    account: &str,
    customer: &str,
    card: Card,
) -> Result<(), StripeError> {
    let mut object = state.must(account, "customer", customer)?;
    let of_customer = |method: &&Value| text(method, "customer") == customer;
    let rows =
        state.table(account, "payment_method").into_iter().flat_map(|table| table.oldest(None));
    let methods: Vec<Value> = rows.filter(of_customer).cloned().collect();
    if methods.is_empty() {
        let method = new_card(state, account, customer, card)?;
        object["invoice_settings"]["default_payment_method"] = at(&method, "id").clone();
        return state.change(account, "customer.updated", &object);
    }
    for mut method in methods {
        method["_card"] = json!(card.word());
        state.put(account, &method)?;
    }
    Ok(())
}

/// The payment method that an invoice would be charged to, or `null`.
pub fn method_for(state: &State, account: &str, subscription: &Value, customer: &str) -> Value {
    let customer = state.get(account, "customer", customer).unwrap_or_default();
    let ids = [
        at(subscription, "default_payment_method"),
        at(&customer, "invoice_settings.default_payment_method"),
    ];
    let id = ids.into_iter().find_map(Value::as_str).unwrap_or("");
    state.get(account, "payment_method", id).unwrap_or_default()
}

/// The payment intent of an invoice that becomes open, and the `invoice_payment` between them.
///
/// # Errors
/// A full table.
pub fn prepare(state: &mut State, account: &str, invoice: &mut Value) -> Result<(), StripeError> {
    let id = state.ids.id("pi");
    let due = int(invoice, "amount_due");
    let secret = format!("{id}_secret_{}", state.ids.letters(24));
    let fee = fee_of(invoice, account, due);
    let intent = json!({
        "id": id, "object": "payment_intent", "amount": due, "amount_capturable": 0,
        "amount_details": {"tip": {}}, "amount_received": 0, "application": null,
        "application_fee_amount": fee, "automatic_payment_methods": null, "canceled_at": null,
        "cancellation_reason": null, "capture_method": "automatic", "client_secret": secret,
        "confirmation_method": "automatic", "created": state.moment, "currency": at(invoice, "currency"),
        "customer": at(invoice, "customer"), "customer_account": null, "description": "Subscription payment",
        "excluded_payment_method_types": null, "last_payment_error": null, "latest_charge": null, "livemode": false,
        "metadata": {}, "next_action": null, "on_behalf_of": null, "payment_method": null,
        "payment_method_configuration_details": null, "payment_method_options": {}, "payment_method_types": ["card"],
        "processing": null, "receipt_email": null, "review": null, "setup_future_usage": "off_session",
        "shipping": null, "source": null, "statement_descriptor": null, "statement_descriptor_suffix": null,
        "status": "requires_payment_method", "transfer_data": null, "transfer_group": null,
    });
    state.create(account, "payment_intent.created", &intent)?;
    let payment = json!({
        "id": state.ids.id("inpay"), "object": "invoice_payment", "amount_paid": null, "amount_requested": due,
        "created": state.moment, "currency": at(invoice, "currency"), "invoice": at(invoice, "id"), "is_default": true,
        "livemode": false, "payment": {"payment_intent": id, "type": "payment_intent"}, "status": "open",
        "status_transitions": {"canceled_at": null, "paid_at": null},
    });
    state.put(account, &payment)?;
    invoice["_payments"]["data"] = json!([payment]);
    invoice["_payment_intent"] = json!(id);
    invoice["_confirmation_secret"] = json!({"client_secret": secret, "type": "payment_intent"});
    Ok(())
}

fn fee_of(invoice: &Value, account: &str, due: i64) -> Value {
    match at(invoice, "_fee_percent") {
        percent if account != PLATFORM && !percent.is_null() => {
            json!(money::percent_of(due, percent))
        }
        _ => Value::Null,
    }
}

/// Charges an open invoice to a method. The invoice itself is left as it is: see [`super::settle`].
///
/// # Errors
/// A full table.
pub fn attempt(
    state: &mut State,
    account: &str,
    invoice: &Value,
    method: &Value,
    authenticated: bool,
) -> Result<Attempt, StripeError> {
    if method.is_null() {
        return Ok(Attempt::NoMethod);
    }
    let mut intent = state.must(account, "payment_intent", text(invoice, "_payment_intent"))?;
    intent["payment_method"] = at(method, "id").clone();
    let outcome = match text(method, "_card") {
        "declined" => Attempt::Declined,
        "needs_action" if !authenticated => Attempt::NeedsAction,
        _ => Attempt::Paid,
    };
    if outcome == Attempt::NeedsAction {
        intent["status"] = json!("requires_action");
        intent["next_action"] = json!({"type": "use_stripe_sdk", "use_stripe_sdk": {}});
        state.change(account, "payment_intent.requires_action", &intent)?;
        return Ok(outcome);
    }
    let charge = charge(state, account, &intent, outcome == Attempt::Paid)?;
    intent["latest_charge"] = at(&charge, "id").clone();
    intent["next_action"] = Value::Null;
    if outcome == Attempt::Paid {
        intent["status"] = json!("succeeded");
        intent["amount_received"] = at(&intent, "amount").clone();
        intent["last_payment_error"] = Value::Null;
        state.change(account, "payment_intent.succeeded", &intent)?;
        match text(method, "_card") {
            "disputed" => {
                drop(refunds::dispute(state, account, text(&charge, "id"), "fraudulent")?)
            }
            "inquired" => drop(refunds::inquire(state, account, text(&charge, "id"))?),
            _ => {}
        }
    } else {
        intent["status"] = json!("requires_payment_method");
        intent["last_payment_error"] = json!({
            "type": "card_error", "code": "card_declined", "decline_code": "generic_decline",
            "message": "Your card was declined.", "charge": at(&charge, "id"),
        });
        state.change(account, "payment_intent.payment_failed", &intent)?;
    }
    Ok(outcome)
}

fn charge(
    state: &mut State,
    account: &str,
    intent: &Value,
    paid: bool,
) -> Result<Value, StripeError> {
    let id = state.ids.id("ch");
    let amount = int(intent, "amount");
    let fee = int(intent, "application_fee_amount");
    let mut charge = json!({
        "id": id, "object": "charge", "amount": amount, "amount_captured": if paid { amount } else { 0 },
        "amount_refunded": 0, "application": null, "application_fee": null,
        "application_fee_amount": at(intent, "application_fee_amount"),
        "balance_transaction": if paid { json!(state.ids.id("txn")) } else { Value::Null },
        "billing_details": {"address": {"city": null, "country": null, "line1": null, "line2": null,
            "postal_code": null, "state": null}, "email": null, "name": null, "phone": null, "tax_id": null},
        "calculated_statement_descriptor": "SANDBOX", "captured": paid, "created": state.moment,
        "currency": at(intent, "currency"), "customer": at(intent, "customer"), "description": at(intent, "description"),
        "disputed": false, "failure_balance_transaction": null,
        "failure_code": if paid { Value::Null } else { json!("card_declined") },
        "failure_message": if paid { Value::Null } else { json!("Your card was declined.") },
        "fraud_details": {}, "livemode": false, "metadata": {}, "on_behalf_of": null,
        "outcome": {"advice_code": null, "network_advice_code": null, "network_decline_code": null,
            "network_status": if paid { "approved_by_network" } else { "declined_by_network" },
            "reason": if paid { Value::Null } else { json!("generic_decline") }, "risk_level": "normal",
            "seller_message": if paid { "Payment complete." } else { "The bank did not return any further details." },
            "type": if paid { "authorized" } else { "issuer_declined" }},
        "paid": paid, "payment_intent": at(intent, "id"), "payment_method": at(intent, "payment_method"),
        "payment_method_details": {"type": "card", "card": {"brand": "visa", "country": "US", "exp_month": 12,
            "exp_year": 2040, "funding": "credit", "last4": "4242", "network": "visa"}},
        "radar_options": {}, "receipt_email": null, "receipt_number": null, "receipt_url": null, "refunded": false,
        "review": null, "shipping": null, "source": null, "source_transfer": null, "statement_descriptor": null,
        "statement_descriptor_suffix": null, "status": if paid { "succeeded" } else { "failed" },
        "transfer_data": null, "transfer_group": null,
    });
    if paid && fee > 0 && account != PLATFORM {
        let fee_id = state.ids.id("fee");
        charge["application_fee"] = json!(fee_id);
        let object = json!({
            "id": fee_id, "object": "application_fee", "account": account, "amount": fee, "amount_refunded": 0,
            "application": state.config.client_id, "balance_transaction": state.ids.id("txn"), "charge": id,
            "created": state.moment, "currency": at(intent, "currency"),
            "fee_source": {"charge": id, "type": "charge"}, "livemode": false, "originating_transaction": null,
            "refunded": false,
            "refunds": {"object": "list", "data": [], "has_more": false, "url": format!("/v1/application_fees/{fee_id}/refunds")},
        });
        state.create(PLATFORM, "application_fee.created", &object)?;
    }
    state.create(account, if paid { "charge.succeeded" } else { "charge.failed" }, &charge)?;
    Ok(charge)
}

/// Ends the payment intent of a voided invoice.
///
/// # Errors
/// A full table.
pub fn cancel(state: &mut State, account: &str, invoice: &Value) -> Result<(), StripeError> {
    let Some(mut intent) = state.get(account, "payment_intent", text(invoice, "_payment_intent"))
    else {
        return Ok(());
    };
    if text(&intent, "status") != "succeeded" {
        intent["status"] = json!("canceled");
        intent["canceled_at"] = json!(state.moment);
        intent["cancellation_reason"] = json!("void_invoice");
        state.change(account, "payment_intent.canceled", &intent)?;
    }
    Ok(())
}
