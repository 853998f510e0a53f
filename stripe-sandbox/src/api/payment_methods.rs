//! `payment_method`: cards by Stripe's names for its test cards.
//!
//! In: `pm_card_visa` and its like. Out: a card that behaves as its name says, attached to a customer.
//! Always holds: a card that is declined can be attached, and is declined when it is charged.

use crate::call::{Answer, Call};
use crate::engine::payments::{self, Card};
use crate::error::StripeError;
use crate::json::text;
use crate::routes::{Route, route};
use crate::state::State;
use serde_json::{Value, json};

/// Calls on payment methods.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/payment_methods/{id}/attach", &["customer"], attach_call),
    route("POST", "/v1/payment_methods/{id}/detach", &[], detach),
    route(
        "GET",
        "/v1/payment_methods",
        &["customer", "type", "limit", "starting_after", "ending_before"],
        list,
    ),
    route("GET", "/v1/payment_methods/{id}", &[], retrieve),
];

/// Stripe's test cards.
const TEST_CARDS: &[(&str, Card)] = &[
    ("pm_card_visa", Card::Good),
    ("pm_card_mastercard", Card::Good),
    ("pm_card_chargeCustomerFail", Card::Declined),
    ("pm_card_visa_chargeDeclined", Card::Declined),
    ("pm_card_authenticationRequired", Card::NeedsAction),
    ("pm_card_createDispute", Card::Disputed),
    ("pm_card_createDisputeInquiry", Card::Inquired),
];

/// Attaches a test card, or a method that is there, to a customer.
///
/// # Errors
/// No such method.
pub fn attach(
    state: &mut State,
    account: &str,
    id: &str,
    customer: &str,
) -> Result<Value, StripeError> {
    if let Some((_, card)) = TEST_CARDS.iter().find(|(name, _)| *name == id) {
        return payments::new_card(state, account, customer, *card);
    }
    let mut method = state.must(account, "payment_method", id)?;
    method["customer"] = json!(customer);
    state.change(account, "payment_method.attached", &method)?;
    Ok(method)
}

/// A customer's method of this id.
pub fn of_customer(state: &State, account: &str, id: &str, customer: &str) -> Option<Value> {
    state.get(account, "payment_method", id).filter(|method| text(method, "customer") == customer)
}

fn attach_call(call: &mut Call<'_>) -> Answer {
    let customer = call.params.required("customer")?;
    call.named("customer", "customer")?;
    let id = call.id().to_owned();
    attach(call.state, &call.account, &id, &customer)
}

/// Takes a method from its customer, and from what it would have paid.
fn detach(call: &mut Call<'_>) -> Answer {
    let mut method = call.fetch("payment_method")?;
    let (id, customer) = (text(&method, "id").to_owned(), text(&method, "customer").to_owned());
    if customer.is_empty() {
        return Err(StripeError::invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible.",
        ));
    }
    method["customer"] = Value::Null;
    call.state.change(&call.account, "payment_method.detached", &method)?;
    let mut holder = call.state.must(&call.account, "customer", &customer)?;
    if text(&holder, "invoice_settings.default_payment_method") == id {
        holder["invoice_settings"]["default_payment_method"] = Value::Null;
        call.state.change(&call.account, "customer.updated", &holder)?;
    }
    let pays = |row: &&Value| text(row, "default_payment_method") == id;
    let table = call.state.table(&call.account, "subscription").into_iter();
    let paid: Vec<Value> =
        table.flat_map(|table| table.oldest(None)).filter(pays).cloned().collect();
    for mut subscription in paid {
        subscription["default_payment_method"] = Value::Null;
        call.state.change(&call.account, "customer.subscription.updated", &subscription)?;
    }
    Ok(method)
}

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch("payment_method")
}

fn list(call: &mut Call<'_>) -> Answer {
    let (customer, kind) = (call.filter("customer")?, call.filter("type")?);
    call.list("payment_method", |method| customer(method, "customer") && kind(method, "type"))
}
