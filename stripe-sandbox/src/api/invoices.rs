//! `invoice` and `invoice_payment`.
//!
//! In: ids and filters. Out: the objects; an invoice paid, finalised or given up.
//! Always holds: an invoice is found from its payment intent by `invoice_payment` alone.

use super::subscription_update;
use crate::call::{Answer, Call};
use crate::engine::payments::Attempt;
use crate::engine::{invoicing, payments, settle};
use crate::error::StripeError;
use crate::json::{at, entries, text};
use crate::routes::{Route, route};
use serde_json::{Value, json};

/// Calls on invoices and their payments.
pub const ROUTES: &[Route] = &[
    route(
        "POST",
        "/v1/invoices/create_preview",
        subscription_update::PREVIEW,
        subscription_update::preview,
    ),
    route("GET", "/v1/invoices", LIST, list),
    route("GET", "/v1/invoices/{id}", &[], retrieve),
    route("GET", "/v1/invoices/{id}/lines", &["limit", "starting_after", "ending_before"], lines),
    route("POST", "/v1/invoices/{id}/finalize", &["auto_advance"], finalize),
    route("POST", "/v1/invoices/{id}/pay", &["off_session", "payment_method"], pay),
    route("POST", "/v1/invoices/{id}/void", &[], void),
    route("POST", "/v1/invoices/{id}/mark_uncollectible", &[], uncollectible),
    route("GET", "/v1/invoice_payments", PAYMENTS, list_payments),
    route("GET", "/v1/invoice_payments/{id}", &[], retrieve_payment),
];

const LIST: &[&str] = &[
    "customer",
    "status",
    "subscription",
    "collection_method",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];
const PAYMENTS: &[&str] = &[
    "invoice",
    "payment[type]",
    "payment[payment_intent]",
    "status",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];
const KIND: &str = "invoice";

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch(KIND)
}

fn list(call: &mut Call<'_>) -> Answer {
    let filters = [
        (call.filter("customer")?, "customer"),
        (call.filter("status")?, "status"),
        (call.filter("collection_method")?, "collection_method"),
        (call.filter("subscription")?, "parent.subscription_details.subscription"),
    ];
    call.list(KIND, |invoice| filters.iter().all(|(filter, path)| filter(invoice, path)))
}

fn lines(call: &mut Call<'_>) -> Answer {
    let invoice = call.fetch(KIND)?;
    let limit =
        usize::try_from(call.params.int_within("limit", 1, 100)?.unwrap_or(10)).unwrap_or(10);
    let after = call.params.text("starting_after")?;
    let rows = entries(&invoice, "lines.data");
    let start = after
        .and_then(|after| rows.iter().position(|row| text(row, "id") == after))
        .map_or(0, |at| at + 1);
    let rest = rows.get(start..).unwrap_or(&[]);
    Ok(call.page(rest.iter().take(limit).cloned().collect(), rest.len() > limit))
}

/// The invoice of the path; the work is done by its customer's time.
fn at_work(call: &mut Call<'_>) -> Answer {
    let invoice = call.fetch(KIND)?;
    call.state.enter_clock_of(&call.account, text(&invoice, "customer"));
    Ok(invoice)
}

fn finalize(call: &mut Call<'_>) -> Answer {
    let mut invoice = at_work(call)?;
    if let Some(advance) = call.params.flag("auto_advance")? {
        invoice["auto_advance"] = json!(advance);
        call.state.put(&call.account, &invoice)?;
    }
    invoicing::finalize(call.state, &call.account, text(&invoice, "id"))
}

fn pay(call: &mut Call<'_>) -> Answer {
    let mut invoice = at_work(call)?;
    let id = text(&invoice, "id").to_owned();
    call.params.flag("off_session")?;
    if text(&invoice, "status") == "draft" {
        invoice = invoicing::finalize(call.state, &call.account, &id)?;
    }
    if text(&invoice, "status") != "open" && text(&invoice, "status") != "uncollectible" {
        return Err(
            StripeError::coded("invoice_already_paid", "Invoice is already paid").at("invoice")
        );
    }
    let customer = text(&invoice, "customer").to_owned();
    let method = match call.params.text("payment_method")? {
        Some(method) => {
            super::payment_methods::of_customer(call.state, &call.account, &method, &customer)
                .ok_or_else(|| {
                    StripeError::missing("payment_method", &method)
                        .with_status(400)
                        .at("payment_method")
                })?
        }
        None => {
            let subscription = invoicing::subscription_of(call.state, &call.account, &invoice);
            payments::method_for(call.state, &call.account, &subscription, &customer)
        }
    };
    match settle::collect_with(call.state, &call.account, &id, &method, false)? {
        Attempt::Paid => call.fetch(KIND),
        Attempt::Declined => Err(StripeError::card(
            "card_declined",
            "Your card was declined.",
            json!({"decline_code": "generic_decline"}),
        )),
        Attempt::NeedsAction => Err(StripeError::card(
            "invoice_payment_intent_requires_action",
            "This payment requires additional user action before it can be completed successfully.",
            json!({}),
        )),
        Attempt::NoMethod => Err(StripeError::invalid(
            "There is no `default_payment_method` set on this Customer or Invoice.",
        )),
    }
}

fn void(call: &mut Call<'_>) -> Answer {
    let invoice = at_work(call)?;
    if text(&invoice, "status") == "draft" {
        return Err(StripeError::invalid(
            "You can only pass in open invoices. This invoice isn't open.",
        ));
    }
    invoicing::give_up(call.state, &call.account, text(&invoice, "id"), "void")
}

fn uncollectible(call: &mut Call<'_>) -> Answer {
    let invoice = at_work(call)?;
    invoicing::give_up(call.state, &call.account, text(&invoice, "id"), "uncollectible")
}

fn list_payments(call: &mut Call<'_>) -> Answer {
    call.params.choice("payment.type", &["payment_intent", "payment_record"])?;
    if call.params.has("payment") && !call.params.has("payment.type") {
        return Err(StripeError::required("payment[type]"));
    }
    let filters = [
        (call.filter("invoice")?, "invoice"),
        (call.filter("status")?, "status"),
        (call.filter("payment.payment_intent")?, "payment.payment_intent"),
    ];
    call.list("invoice_payment", |payment: &Value| {
        !at(payment, "id").is_null() && filters.iter().all(|(filter, path)| filter(payment, path))
    })
}

fn retrieve_payment(call: &mut Call<'_>) -> Answer {
    call.fetch("invoice_payment")
}
