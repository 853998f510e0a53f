//! `refund` and `dispute`.
//!
//! In: a payment intent or a charge; a dispute's evidence. Out: the objects, `refund.*`, `charge.*` events.
//! Always holds: no more is refunded than was paid; a disputed charge cannot be refunded; a dispute that is lost or won
//! stays so.

use crate::call::{Answer, Call};
use crate::error::StripeError;
use crate::json::{at, flag, int, text};
use crate::routes::{Route, route};
use crate::state::{PLATFORM, State};
use serde_json::{Value, json};

/// Calls on refunds and disputes.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/refunds", CREATE, create),
    route("GET", "/v1/refunds", LIST, list),
    route("GET", "/v1/refunds/{id}", &[], |call| call.fetch("refund")),
    route("POST", "/v1/refunds/{id}", &["metadata{}"], update),
    route("GET", "/v1/disputes", LIST, list_disputes),
    route("GET", "/v1/disputes/{id}", &[], |call| call.fetch("dispute")),
    route("POST", "/v1/disputes/{id}", UPDATE_DISPUTE, update_dispute),
    route("POST", "/v1/disputes/{id}/close", &[], close),
];

const CREATE: &[&str] =
    &["amount", "charge", "payment_intent", "reason", "metadata{}", "refund_application_fee"];
const UPDATE_DISPUTE: &[&str] = &["evidence[uncategorized_text]", "metadata{}", "submit"];
const LIST: &[&str] = &[
    "charge",
    "payment_intent",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];

fn create(call: &mut Call<'_>) -> Answer {
    let charge = charge_of(call)?;
    let left = int(&charge, "amount_captured") - int(&charge, "amount_refunded");
    if left == 0 {
        return Err(StripeError::coded(
            "charge_already_refunded",
            format!("Charge {} has already been refunded.", text(&charge, "id")),
        ));
    }
    if flag(&charge, "disputed") {
        return Err(StripeError::coded(
            "charge_disputed",
            format!("Charge {} has been charged back; cannot issue a refund.", text(&charge, "id")),
        ));
    }
    let amount = call.params.int("amount")?.unwrap_or(left);
    if amount <= 0 || amount > left {
        return Err(call.params.refused(
            "amount",
            &format!(
                "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
            ),
        ));
    }
    let reason =
        call.params.choice("reason", &["duplicate", "fraudulent", "requested_by_customer"])?;
    let metadata = call.params.metadata("metadata", &json!({}))?;
    let with_fee = call.params.flag("refund_application_fee")?.unwrap_or(false);
    let refund = refund(call.state, &call.account, charge, amount, json!(reason), metadata)?;
    if with_fee {
        refund_fee(call, &refund)?;
    }
    Ok(refund)
}

fn charge_of(call: &Call<'_>) -> Answer {
    if let Some(charge) = call.named("charge", "charge")? {
        return Ok(charge);
    }
    let intent = call.named("payment_intent", "payment_intent")?.ok_or_else(|| {
        StripeError::invalid("One of the following params should be provided for this request: payment_intent or charge.")
            .at("payment_intent")
    })?;
    let charge = call.state.get(&call.account, "charge", text(&intent, "latest_charge"));
    charge.filter(|charge| flag(charge, "paid")).ok_or_else(|| {
        StripeError::invalid("This PaymentIntent does not have a successful charge to refund.")
            .at("payment_intent")
    })
}

/// Refunds a part of a charge.
///
/// # Errors
/// A full table.
pub fn refund(
    state: &mut State,
    account: &str,
    mut charge: Value,
    amount: i64,
    reason: Value,
    metadata: Value,
) -> Result<Value, StripeError> {
    let refund = json!({
        "id": state.ids.id("re"), "object": "refund", "amount": amount, "balance_transaction": state.ids.id("txn"),
        "charge": at(&charge, "id"), "created": state.moment, "currency": at(&charge, "currency"),
        "destination_details": {"card": {"reference_status": "pending", "reference_type": "acquirer_reference_number",
            "type": "refund"}, "type": "card"},
        "metadata": metadata, "payment_intent": at(&charge, "payment_intent"), "reason": reason,
        "receipt_number": null, "source_transfer_reversal": null, "status": "succeeded", "transfer_reversal": null,
    });
    let refunded = int(&charge, "amount_refunded") + amount;
    charge["amount_refunded"] = json!(refunded);
    charge["refunded"] = json!(refunded == int(&charge, "amount_captured"));
    state.create(account, "refund.created", &refund)?;
    state.change(account, "charge.refunded", &charge)?;
    state.emit(account, "refund.updated", &refund)?;
    Ok(refund)
}

/// Gives the platform's fee back in the same share.
fn refund_fee(call: &mut Call<'_>, refund: &Value) -> Result<(), StripeError> {
    let charge = call.state.must(&call.account, "charge", text(refund, "charge"))?;
    let Some(mut fee) =
        call.state.get(PLATFORM, "application_fee", text(&charge, "application_fee"))
    else {
        return Ok(());
    };
    let share = crate::engine::money::share(
        int(&fee, "amount"),
        int(&charge, "amount_refunded"),
        int(&charge, "amount"),
    );
    fee["amount_refunded"] = json!(share);
    fee["refunded"] = json!(share == int(&fee, "amount"));
    call.state.change(PLATFORM, "application_fee.refunded", &fee)
}

fn list(call: &mut Call<'_>) -> Answer {
    let (charge, intent) = (call.filter("charge")?, call.filter("payment_intent")?);
    call.list("refund", |refund| charge(refund, "charge") && intent(refund, "payment_intent"))
}

fn update(call: &mut Call<'_>) -> Answer {
    let mut refund = call.fetch("refund")?;
    refund["metadata"] = call.params.metadata("metadata", at(&refund, "metadata"))?;
    call.state.change(&call.account, "refund.updated", &refund)?;
    Ok(refund)
}

fn list_disputes(call: &mut Call<'_>) -> Answer {
    let (charge, intent) = (call.filter("charge")?, call.filter("payment_intent")?);
    call.list("dispute", |dispute| charge(dispute, "charge") && intent(dispute, "payment_intent"))
}

/// Evidence decides at once where it is one of the words that Stripe's test mode has for that.
fn update_dispute(call: &mut Call<'_>) -> Answer {
    let mut dispute = call.fetch("dispute")?;
    dispute["metadata"] = call.params.metadata("metadata", at(&dispute, "metadata"))?;
    let evidence = call.params.text("evidence.uncategorized_text")?;
    let is_submitted = call.params.flag("submit")?.unwrap_or(true);
    if let Some(evidence) = &evidence {
        dispute["evidence"]["uncategorized_text"] = json!(evidence);
        dispute["evidence_details"]["has_evidence"] = json!(true);
    }
    call.state.put(&call.account, &dispute)?;
    let id = text(&dispute, "id").to_owned();
    match evidence.as_deref().filter(|_| is_submitted) {
        Some("winning_evidence") => decide(call.state, &call.account, &id, true),
        Some("losing_evidence") => decide(call.state, &call.account, &id, false),
        _ => {
            call.state.change(&call.account, "charge.dispute.updated", &dispute)?;
            Ok(dispute)
        }
    }
}

fn close(call: &mut Call<'_>) -> Answer {
    let id = call.id().to_owned();
    decide(call.state, &call.account, &id, false)
}

/// A buyer disputes a charge: the money is taken until it is decided.
///
/// # Errors
/// No such charge, or one that is disputed already.
pub fn dispute(
    state: &mut State,
    account: &str,
    charge: &str,
    reason: &str,
) -> Result<Value, StripeError> {
    let dispute = open(state, account, charge, (reason, "needs_response"))?;
    state.emit(account, "charge.dispute.funds_withdrawn", &dispute)?;
    Ok(dispute)
}

/// A buyer's bank asks about a charge: no money is taken unless it becomes a dispute.
///
/// # Errors
/// No such charge, or one that is disputed already.
pub fn inquire(state: &mut State, account: &str, charge: &str) -> Result<Value, StripeError> {
    open(state, account, charge, ("general", "warning_needs_response"))
}

/// What becomes of an inquiry: a dispute, or nothing.
///
/// # Errors
/// No such inquiry.
pub fn settle_inquiry(
    state: &mut State,
    account: &str,
    id: &str,
    is_disputed: bool,
) -> Result<Value, StripeError> {
    let mut dispute = state.must(account, "dispute", id)?;
    if !text(&dispute, "status").starts_with("warning_") {
        return Err(StripeError::invalid("This dispute is no inquiry."));
    }
    dispute["status"] = json!(if is_disputed { "needs_response" } else { "warning_closed" });
    if is_disputed {
        dispute["payment_method_details"]["card"]["case_type"] = json!("chargeback");
        state.change(account, "charge.dispute.updated", &dispute)?;
        state.emit(account, "charge.dispute.funds_withdrawn", &dispute)?;
    } else {
        state.change(account, "charge.dispute.closed", &dispute)?;
    }
    Ok(dispute)
}

fn open(
    state: &mut State,
    account: &str,
    charge: &str,
    (reason, status): (&str, &str),
) -> Result<Value, StripeError> {
    let mut charge = state.must(account, "charge", charge)?;
    state.enter_clock_of(account, text(&charge, "customer"));
    if flag(&charge, "disputed") || !flag(&charge, "paid") {
        return Err(StripeError::invalid("This charge cannot be disputed."));
    }
    let due = state.moment + 7 * 86_400;
    let dispute = json!({
        "id": state.ids.id("du"), "object": "dispute", "amount": at(&charge, "amount"), "balance_transactions": [],
        "charge": at(&charge, "id"), "created": state.moment, "currency": at(&charge, "currency"),
        "enhanced_eligibility_types": [], "evidence": {"enhanced_evidence": {}},
        "evidence_details": {"due_by": due, "enhanced_eligibility": {}, "has_evidence": false, "past_due": false,
            "submission_count": 0, "submission_method": "not_submitted"},
        "is_charge_refundable": false, "livemode": false, "metadata": {},
        "payment_intent": at(&charge, "payment_intent"),
        "payment_method_details": {"card": {"brand": "visa",
            "case_type": if status.starts_with("warning_") { "inquiry" } else { "chargeback" },
            "network": "visa", "network_reason_code": "10.4"}, "type": "card"},
        "reason": reason, "status": status,
    });
    charge["disputed"] = json!(true);
    state.put(account, &charge)?;
    state.create(account, "charge.dispute.created", &dispute)?;
    Ok(dispute)
}

/// A dispute is decided.
///
/// # Errors
/// No such dispute, or one that is decided.
pub fn decide(state: &mut State, account: &str, id: &str, won: bool) -> Result<Value, StripeError> {
    let mut dispute = state.must(account, "dispute", id)?;
    if matches!(text(&dispute, "status"), "won" | "lost") {
        return Err(StripeError::invalid("This dispute is already closed."));
    }
    dispute["status"] = json!(if won { "won" } else { "lost" });
    state.put(account, &dispute)?;
    if won {
        state.emit(account, "charge.dispute.funds_reinstated", &dispute)?;
    }
    state.emit(account, "charge.dispute.closed", &dispute)?;
    Ok(dispute)
}
