//! `billing_portal.session`.
//!
//! In: a customer, where to return to, what to do there. Out: the session with its page.
//! Always holds: a session belongs to one customer; a subscription of several items cannot be changed there.

use crate::call::{Answer, Call};
use crate::error::StripeError;
use crate::json::{at, text};
use crate::routes::{Route, route};
use serde_json::{Value, json};

/// Calls on the portal.
pub const ROUTES: &[Route] = &[route("POST", "/v1/billing_portal/sessions", CREATE, create)];

const CREATE: &[&str] = &[
    "customer",
    "return_url",
    "locale",
    "flow_data[type]",
    "flow_data[subscription_cancel][subscription]",
    "flow_data[subscription_update][subscription]",
    "flow_data[after_completion][type]",
    "flow_data[after_completion][redirect][return_url]",
];
const FLOWS: &[&str] = &[
    "customer_update",
    "payment_method_update",
    "subscription_cancel",
    "subscription_update",
    "subscription_update_confirm",
];

fn create(call: &mut Call<'_>) -> Answer {
    let customer =
        call.named("customer", "customer")?.ok_or_else(|| StripeError::required("customer"))?;
    let flow = call.params.choice("flow_data.type", FLOWS)?;
    let mut shown = Value::Null;
    if let Some(flow) = &flow {
        let path = format!("flow_data.{flow}.subscription");
        let subscription = match flow.as_str() {
            "subscription_cancel" | "subscription_update" => {
                let found = call.named("subscription", &path)?;
                let found = found.ok_or_else(|| StripeError::required(&call.params.name(&path)))?;
                if text(&found, "customer") != text(&customer, "id") {
                    return Err(call
                        .params
                        .refused(&path, "The subscription belongs to another customer."));
                }
                json!({"subscription": at(&found, "id")})
            }
            _ => Value::Null,
        };
        let after = call.params.text("flow_data.after_completion.redirect.return_url")?;
        shown = json!({
            "after_completion": {"hosted_confirmation": null, "redirect": after.as_ref().map(|url| json!({"return_url": url})),
                "type": if after.is_some() { "redirect" } else { "portal_homepage" }},
            "subscription_cancel": null, "subscription_update": null, "subscription_update_confirm": null,
            "type": flow,
        });
        if !subscription.is_null() {
            shown[flow.as_str()] = subscription;
        }
    }
    let id = call.state.ids.id("bps");
    let session = json!({
        "id": id, "object": "billing_portal.session", "after_expiration": null, "configuration": "bpc_sandbox",
        "created": call.now(), "customer": at(&customer, "id"), "customer_account": null, "flow": shown,
        "livemode": false, "locale": call.params.text("locale")?, "on_behalf_of": null,
        "return_url": call.params.text("return_url")?, "url": format!("{}/pages/portal/{id}", call.state.base_url),
    });
    call.state.put(&call.account, &session)?;
    call.state.emit(&call.account, "billing_portal.session.created", &session)?;
    Ok(session)
}
