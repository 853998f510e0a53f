//! `charge`, `payment_intent`, `application_fee`: looked at and listed.
//!
//! In: ids and filters. Out: the objects.
//! Always holds: they come about by invoices alone.

use crate::call::{Answer, Call};
use crate::routes::{Route, route};

/// Calls on charges and what belongs to them.
pub const ROUTES: &[Route] = &[
    route("GET", "/v1/charges", CHARGES, list_charges),
    route("GET", "/v1/charges/{id}", &[], |call| call.fetch("charge")),
    route("GET", "/v1/payment_intents", INTENTS, list_intents),
    route("GET", "/v1/payment_intents/{id}", &["client_secret"], |call| {
        call.fetch("payment_intent")
    }),
    route("GET", "/v1/application_fees", FEES, list_fees),
    route("GET", "/v1/application_fees/{id}", &[], |call| call.fetch("application_fee")),
];

const CHARGES: &[&str] = &[
    "customer",
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
const INTENTS: &[&str] = &[
    "customer",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];
const FEES: &[&str] = &[
    "charge",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];

fn list_charges(call: &mut Call<'_>) -> Answer {
    let (customer, intent) = (call.filter("customer")?, call.filter("payment_intent")?);
    call.list("charge", |charge| customer(charge, "customer") && intent(charge, "payment_intent"))
}

fn list_intents(call: &mut Call<'_>) -> Answer {
    let customer = call.filter("customer")?;
    call.list("payment_intent", |intent| customer(intent, "customer"))
}

fn list_fees(call: &mut Call<'_>) -> Answer {
    let charge = call.filter("charge")?;
    call.list("application_fee", |fee| charge(fee, "charge"))
}
