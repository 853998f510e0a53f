//! Making a `subscription` without a checkout.
//!
//! In: customer, items, trial, how the first payment is made. Out: the subscription.
//! Always holds: a refused first payment leaves `incomplete`, or nothing with `error_if_incomplete`.

use super::session_create::{discount, fee_percent, trial_settings};
use super::subscriptions;
use crate::call::{Answer, Call};
use crate::engine::subscribe::{self, FirstPayment, Spec};
use crate::error::StripeError;
use crate::json::{at, flag, text};
use serde_json::{Map, Value, json};

/// Parameters of the call.
pub const CREATE: &[&str] = &[
    "customer",
    "items[][price]",
    "items[][quantity]",
    "items[][metadata]{}",
    "metadata{}",
    "application_fee_percent",
    "automatic_tax[enabled]",
    "billing_cycle_anchor",
    "cancel_at_period_end",
    "collection_method",
    "currency",
    "default_payment_method",
    "description",
    "discounts[][coupon]",
    "discounts[][promotion_code]",
    "off_session",
    "payment_behavior",
    "proration_behavior",
    "trial_end",
    "trial_period_days",
    "trial_settings[end_behavior][missing_payment_method]",
];

/// Makes one.
///
/// # Errors
/// What Stripe refuses.
pub fn create(call: &mut Call<'_>) -> Answer {
    let customer =
        call.named("customer", "customer")?.ok_or_else(|| StripeError::required("customer"))?;
    call.state.enter_clock_of(&call.account, text(&customer, "id"));
    let mut items = Vec::new();
    for entry in call.params.list("items")? {
        let id = entry.required("price")?;
        let price = call.state.named(&call.account, "price", &id, &entry.name("price"))?;
        if !flag(&price, "active") {
            return Err(entry.refused("price", &format!("The price specified is inactive: {id}.")));
        }
        let quantity = entry.int_within("quantity", 0, 1_000_000)?;
        items.push((price, quantity, entry.metadata("metadata", &json!({}))?));
    }
    let mut coupons = Vec::new();
    for entry in call.params.list("discounts")? {
        let found = discount(call, &entry)?;
        coupons.push((at(&found, "coupon").clone(), at(&found, "code").clone()));
    }
    let spec = Spec {
        customer: text(&customer, "id").to_owned(),
        items,
        trial_end: trial(call)?,
        anchor: call.params.int("billing_cycle_anchor")?,
        members: members(call, text(&customer, "id"))?,
        coupons,
        payment: payment(call)?,
    };
    let cancel = call.params.flag("cancel_at_period_end")?.unwrap_or(false);
    let mut subscription = subscribe::subscribe(call.state, &call.account, spec)?;
    if cancel {
        let now = call.now();
        subscriptions::set_cancel_at_period_end(&mut subscription, true, now);
        call.state.put(&call.account, &subscription)?;
    }
    Ok(subscription)
}

fn trial(call: &Call<'_>) -> Result<Option<i64>, StripeError> {
    let days = call.params.int_within("trial_period_days", 1, 730)?;
    match (call.params.text("trial_end")?, days) {
        (Some(_), Some(_)) => Err(call.params.refused(
            "trial_end",
            "You may only specify one of these: trial_end, trial_period_days.",
        )),
        (Some(end), None) => {
            subscriptions::trial_end(&end, call.now()).map(Some).ok_or_else(|| {
                call.params.refused("trial_end", "Invalid timestamp: must be in the future")
            })
        }
        (None, days) => Ok(days.map(|days| call.now() + days * 86_400)),
    }
}

fn members(call: &Call<'_>, customer: &str) -> Result<Value, StripeError> {
    let params = &call.params;
    let mut members = Map::new();
    members.insert("metadata".to_owned(), params.metadata("metadata", &json!({}))?);
    if let Some(percent) = fee_percent(params, &call.account)? {
        members.insert("application_fee_percent".to_owned(), percent);
    }
    if let Some(settings) = trial_settings(params)? {
        members.insert("trial_settings".to_owned(), settings);
    }
    if let Some(description) = params.text("description")? {
        members.insert("description".to_owned(), json!(description));
    }
    params.choice("collection_method", &["charge_automatically"])?;
    params.choice("proration_behavior", &["create_prorations", "none"])?;
    params.flag("off_session")?;
    if let Some(method) = params.text("default_payment_method")? {
        let found =
            super::payment_methods::of_customer(call.state, &call.account, &method, customer)
                .ok_or_else(|| {
                    StripeError::missing("payment_method", &method)
                        .with_status(400)
                        .at("default_payment_method")
                })?;
        members.insert("default_payment_method".to_owned(), found["id"].clone());
    }
    if params.flag("automatic_tax.enabled")?.unwrap_or(false) {
        let tax = json!({"disabled_reason": null, "enabled": true, "liability": {"type": "self"}});
        members.insert("automatic_tax".to_owned(), tax);
    }
    Ok(Value::Object(members))
}

fn payment(call: &Call<'_>) -> Result<FirstPayment, StripeError> {
    let words =
        &["allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"];
    Ok(match call.params.choice("payment_behavior", words)?.as_deref() {
        Some("default_incomplete") => FirstPayment::Wait,
        Some("error_if_incomplete") => FirstPayment::OrError,
        _ => FirstPayment::Charge { method: Value::Null, authenticated: false },
    })
}
