//! `webhook_endpoint`.
//!
//! In: addresses and the types they want. Out: the object; its secret once, when it is made.
//! Always holds: an endpoint of another API version is refused, since the sandbox speaks one.

use crate::call::{Answer, Call};
use crate::config::{API_VERSION, WebhookEndpoint};
use crate::error::StripeError;
use crate::json::{at, text};
use crate::routes::{Route, route};
use crate::state::State;
use serde_json::{Value, json};

/// Calls on endpoints.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/webhook_endpoints", CREATE, create),
    route("GET", "/v1/webhook_endpoints", &["limit", "starting_after", "ending_before"], list),
    route("GET", "/v1/webhook_endpoints/{id}", &[], retrieve),
    route("POST", "/v1/webhook_endpoints/{id}", UPDATE, update),
    route("DELETE", "/v1/webhook_endpoints/{id}", &[], delete),
];

const CREATE: &[&str] =
    &["api_version", "connect", "description", "enabled_events[]", "metadata{}", "url"];
const UPDATE: &[&str] = &["description", "disabled", "enabled_events[]", "metadata{}", "url"];
/// Endpoints of one account at most.
const ENDPOINTS_MAX: usize = 16;
const KIND: &str = "webhook_endpoint";

/// Puts an endpoint down, with a secret of the caller's choice.
///
/// # Errors
/// Too many of them, or no `http` address.
pub fn insert(
    state: &mut State,
    account: &str,
    endpoint: &WebhookEndpoint,
) -> Result<Value, StripeError> {
    if !endpoint.url.starts_with("http://") && !endpoint.url.starts_with("https://") {
        return Err(
            StripeError::coded("url_invalid", format!("Invalid URL: {}", endpoint.url)).at("url")
        );
    }
    if state.table(account, KIND).is_some_and(|table| table.len() >= ENDPOINTS_MAX) {
        return Err(StripeError::invalid(
            "You have reached the maximum of 16 test webhook endpoints.",
        ));
    }
    let object = json!({
        "id": state.ids.id("we"), "object": KIND, "api_version": API_VERSION, "application": null,
        "created": state.moment, "description": null, "enabled_events": endpoint.enabled_events, "livemode": false,
        "metadata": {}, "status": "enabled", "url": endpoint.url, "_secret": endpoint.secret,
        "_connect": endpoint.connect,
    });
    state.put(account, &object)?;
    Ok(object)
}

fn create(call: &mut Call<'_>) -> Answer {
    if let Some(version) = call.params.text("api_version")?.filter(|version| version != API_VERSION)
    {
        return Err(call.params.refused("api_version", &format!("Invalid API version: {version}")));
    }
    let enabled_events = call.params.texts("enabled_events")?;
    if enabled_events.is_empty() {
        return Err(StripeError::required("enabled_events"));
    }
    let endpoint = WebhookEndpoint {
        url: call.params.required("url")?,
        secret: format!("whsec_{}", call.state.ids.letters(32)),
        connect: call.params.flag("connect")?.unwrap_or(false),
        enabled_events,
    };
    let mut object = insert(call.state, &call.account, &endpoint)?;
    set(call, &mut object)?;
    call.state.put(&call.account, &object)?;
    let mut shown = object.clone();
    shown["secret"] = json!(endpoint.secret);
    Ok(shown)
}

fn set(call: &Call<'_>, object: &mut Value) -> Result<(), StripeError> {
    let params = &call.params;
    for name in ["description", "url"] {
        if let Some(text) = params.text(name)? {
            object[name] = json!(text);
        }
    }
    if params.has("enabled_events") {
        object["enabled_events"] = json!(params.texts("enabled_events")?);
    }
    if let Some(disabled) = params.flag("disabled")? {
        object["status"] = json!(if disabled { "disabled" } else { "enabled" });
    }
    if params.has("metadata") {
        object["metadata"] = params.metadata("metadata", at(object, "metadata"))?;
    }
    Ok(())
}

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch(KIND)
}

fn list(call: &mut Call<'_>) -> Answer {
    call.list(KIND, |_| true)
}

fn update(call: &mut Call<'_>) -> Answer {
    let mut object = call.fetch(KIND)?;
    set(call, &mut object)?;
    call.state.put(&call.account, &object)?;
    Ok(object)
}

fn delete(call: &mut Call<'_>) -> Answer {
    let object = call.fetch(KIND)?;
    let id = text(&object, "id").to_owned();
    if let Some(room) = call.state.rooms.get_mut(&call.account) {
        room.table_mut(KIND).remove(&id);
    }
    Ok(json!({"id": id, "object": KIND, "deleted": true}))
}
