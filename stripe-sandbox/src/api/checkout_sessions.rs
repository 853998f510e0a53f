//! `checkout.session`: looked at, listed, changed, expired.
//!
//! In: ids. Out: the object, its lines, `checkout.session.expired`.
//! Always holds: a session that is complete or expired stays so.

use super::session_create;
use crate::call::{Answer, Call};
use crate::error::StripeError;
use crate::json::{at, entries, int, text};
use crate::routes::{Route, route};
use crate::state::State;
use serde_json::json;

/// Calls on sessions.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/checkout/sessions", session_create::CREATE, session_create::create),
    route("GET", "/v1/checkout/sessions", LIST, list),
    route("GET", "/v1/checkout/sessions/{id}", &[], retrieve),
    route("POST", "/v1/checkout/sessions/{id}", &["metadata{}"], update),
    route("POST", "/v1/checkout/sessions/{id}/expire", &[], expire),
    route(
        "GET",
        "/v1/checkout/sessions/{id}/line_items",
        &["limit", "starting_after", "ending_before"],
        lines,
    ),
];

const LIST: &[&str] = &[
    "customer",
    "payment_intent",
    "status",
    "subscription",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];
/// What these are called.
pub const KIND: &str = "checkout.session";

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch(KIND)
}

fn list(call: &mut Call<'_>) -> Answer {
    let filters = [
        (call.filter("customer")?, "customer"),
        (call.filter("payment_intent")?, "payment_intent"),
        (call.filter("status")?, "status"),
        (call.filter("subscription")?, "subscription"),
    ];
    call.list(KIND, |session| filters.iter().all(|(filter, path)| filter(session, path)))
}

fn update(call: &mut Call<'_>) -> Answer {
    let mut session = call.fetch(KIND)?;
    session["metadata"] = call.params.metadata("metadata", at(&session, "metadata"))?;
    call.state.put(&call.account, &session)?;
    Ok(session)
}

fn expire(call: &mut Call<'_>) -> Answer {
    let id = call.id().to_owned();
    let session = call.fetch(KIND)?;
    if text(&session, "status") != "open" {
        return Err(StripeError::invalid(format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of \
             \"{}\".",
            text(&session, "status")
        )));
    }
    end(call.state, &call.account, &id)?;
    call.fetch(KIND)
}

fn end(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let mut session = state.must(account, KIND, id)?;
    session["status"] = json!("expired");
    session["url"] = json!(null);
    state.put(account, &session)?;
    state.emit(account, "checkout.session.expired", &session)
}

/// A session's time may be over.
///
/// # Errors
/// A full table.
pub fn expire_due(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    match state.get(account, KIND, id) {
        Some(session)
            if text(&session, "status") == "open"
                && int(&session, "expires_at") <= state.moment =>
        {
            end(state, account, id)
        }
        _ => Ok(()),
    }
}

fn lines(call: &mut Call<'_>) -> Answer {
    let session = call.fetch(KIND)?;
    Ok(call.page(entries(&session, "_line_items.data").to_vec(), false))
}
