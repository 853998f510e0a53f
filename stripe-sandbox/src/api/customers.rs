//! `customer`.
//!
//! In: name, address, e-mail, what they pay with. Out: the object, `customer.*` events.
//! Always holds: a deleted customer's subscriptions are canceled at once.

use crate::call::{Answer, Call};
use crate::engine::cycle;
use crate::error::StripeError;
use crate::json::{at, text};
use crate::routes::{Route, route};
use crate::state::State;
use serde_json::{Value, json};

/// Calls on customers.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/customers", CREATE, create),
    route("GET", "/v1/customers", LIST, list),
    route("GET", "/v1/customers/{id}", &[], retrieve),
    route("POST", "/v1/customers/{id}", UPDATE, update),
    route("DELETE", "/v1/customers/{id}", &[], delete),
];

const CREATE: &[&str] = &[
    "name",
    "email",
    "description",
    "phone",
    "metadata{}",
    "address[city]",
    "address[country]",
    "address[line1]",
    "address[line2]",
    "address[postal_code]",
    "address[state]",
    "balance",
    "payment_method",
    "invoice_settings[default_payment_method]",
    "preferred_locales[]",
    "test_clock",
];
const UPDATE: &[&str] = &[
    "name",
    "email",
    "description",
    "phone",
    "metadata{}",
    "address[city]",
    "address[country]",
    "address[line1]",
    "address[line2]",
    "address[postal_code]",
    "address[state]",
    "balance",
    "invoice_settings[default_payment_method]",
    "preferred_locales[]",
];
const LIST: &[&str] = &[
    "email",
    "test_clock",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];

/// A customer as it is made.
pub fn new(state: &mut State) -> Value {
    let prefix = state.ids.letters(8).to_uppercase();
    json!({
        "id": state.ids.id("cus"), "object": "customer", "address": null, "balance": 0, "created": state.moment,
        "currency": null, "customer_account": null, "default_source": null, "delinquent": false, "description": null,
        "discount": null, "email": null, "invoice_prefix": prefix,
        "invoice_settings": {"custom_fields": null, "default_payment_method": null, "footer": null,
            "rendering_options": null},
        "livemode": false, "metadata": {}, "name": null, "next_invoice_sequence": 1, "phone": null,
        "preferred_locales": [], "shipping": null, "tax_exempt": "none", "test_clock": null,
    })
}

fn create(call: &mut Call<'_>) -> Answer {
    let mut customer = new(call.state);
    if let Some(clock) = call.named("test_helpers.test_clock", "test_clock")? {
        customer["test_clock"] = at(&clock, "id").clone();
        customer["created"] = at(&clock, "frozen_time").clone();
    }
    let method = call.params.text("payment_method")?;
    set(call, &mut customer)?;
    call.state.create(&call.account, "customer.created", &customer)?;
    if let Some(method) = method {
        let id = text(&customer, "id").to_owned();
        super::payment_methods::attach(call.state, &call.account, &method, &id)?;
    }
    Ok(customer)
}

fn set(call: &mut Call<'_>, customer: &mut Value) -> Result<(), StripeError> {
    let params = &call.params;
    for name in ["name", "email", "description", "phone"] {
        if let Some(text) = params.text(name)? {
            customer[name] = json!(text);
        } else if params.unsets(name) {
            customer[name] = Value::Null;
        }
    }
    if params.has("address") {
        let mut address = json!({"city": null, "country": null, "line1": null, "line2": null, "postal_code": null,
            "state": null});
        for name in ["city", "country", "line1", "line2", "postal_code", "state"] {
            address[name] = json!(params.text(&format!("address.{name}"))?);
        }
        customer["address"] = if params.unsets("address") { Value::Null } else { address };
    }
    if let Some(balance) = params.int("balance")? {
        customer["balance"] = json!(balance);
    }
    if params.has("preferred_locales") {
        customer["preferred_locales"] = json!(params.texts("preferred_locales")?);
    }
    if params.has("metadata") {
        customer["metadata"] = params.metadata("metadata", at(customer, "metadata"))?;
    }
    let path = "invoice_settings.default_payment_method";
    if let Some(method) = params.text(path)? {
        let id = text(customer, "id").to_owned();
        let method = super::payment_methods::of_customer(call.state, &call.account, &method, &id)
            .ok_or_else(|| {
            StripeError::missing("payment_method", &method)
                .with_status(400)
                .at(call.params.name(path))
        })?;
        customer["invoice_settings"]["default_payment_method"] = at(&method, "id").clone();
    } else if params.unsets(path) {
        customer["invoice_settings"]["default_payment_method"] = Value::Null;
    }
    Ok(())
}

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch("customer")
}

fn update(call: &mut Call<'_>) -> Answer {
    let mut customer = call.fetch("customer")?;
    set(call, &mut customer)?;
    call.state.change(&call.account, "customer.updated", &customer)?;
    Ok(customer)
}

fn list(call: &mut Call<'_>) -> Answer {
    let (email, clock) = (call.filter("email")?, call.filter("test_clock")?);
    call.list("customer", |customer| email(customer, "email") && clock(customer, "test_clock"))
}

fn delete(call: &mut Call<'_>) -> Answer {
    let customer = call.fetch("customer")?;
    let id = text(&customer, "id").to_owned();
    let rows = call
        .state
        .table(&call.account, "subscription")
        .into_iter()
        .flat_map(|table| table.oldest(None));
    let running: Vec<Value> = rows
        .filter(|subscription| {
            text(subscription, "customer") == id
                && !matches!(text(subscription, "status"), "canceled" | "incomplete_expired")
        })
        .cloned()
        .collect();
    for subscription in running {
        cycle::cancel(call.state, &call.account, &subscription, "cancellation_requested")?;
    }
    if let Some(room) = call.state.rooms.get_mut(&call.account) {
        room.table_mut("customer").remove(&id);
    }
    call.state.emit(&call.account, "customer.deleted", &customer)?;
    Ok(json!({"id": id, "object": "customer", "deleted": true}))
}
