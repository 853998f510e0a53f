//! Making a `checkout.session`.
//!
//! In: `mode=subscription`, prices, a customer or an e-mail, where to return to. Out: the session with its page.
//! Always holds: what cannot be paid for is refused here and not on the page: prices that do not exist or do not go
//! together, an account that may not take cards.

use crate::agenda::Due;
use crate::call::{Answer, Call};
use crate::engine::{money, subscribe};
use crate::error::StripeError;
use crate::json::{at, flag, text};
use crate::params::Params;
use crate::state::PLATFORM;
use serde_json::{Map, Value, json};

/// Parameters of the call.
pub const CREATE: &[&str] = &[
    "mode",
    "line_items[][price]",
    "line_items[][quantity]",
    "customer",
    "customer_email",
    "client_reference_id",
    "metadata{}",
    "allow_promotion_codes",
    "automatic_tax[enabled]",
    "billing_address_collection",
    "tax_id_collection[enabled]",
    "customer_update[address]",
    "customer_update[name]",
    "locale",
    "payment_method_collection",
    "success_url",
    "cancel_url",
    "return_url",
    "expires_at",
    "ui_mode",
    "allowed_payment_method_types[]",
    "excluded_payment_method_types[]",
    "discounts[][coupon]",
    "discounts[][promotion_code]",
    "subscription_data[application_fee_percent]",
    "subscription_data[metadata]{}",
    "subscription_data[description]",
    "subscription_data[trial_period_days]",
    "subscription_data[trial_end]",
    "subscription_data[trial_settings][end_behavior][missing_payment_method]",
    "subscription_data[billing_cycle_anchor]",
    "subscription_data[proration_behavior]",
];

/// Seconds a session may live: 30 minutes to 24 hours.
const LIFE_S: (i64, i64) = (30 * 60, 24 * 3600);
/// Lines of a session at most.
const LINES_MAX: usize = 20;

/// Makes a session.
///
/// # Errors
/// What Stripe refuses.
pub fn create(call: &mut Call<'_>) -> Answer {
    let mode = call.params.required("mode")?;
    if mode != "subscription" {
        return Err(call.params.refused("mode", "The sandbox knows mode=subscription only"));
    }
    call.params.choice("ui_mode", &["hosted_page"])?;
    call.params.choice("billing_address_collection", &["auto", "required"])?;
    let success = call.params.required("success_url")?;
    let cancel = call.params.text("cancel_url")?;
    let customer = call.named("customer", "customer")?;
    if customer.is_some() && call.params.has("customer_email") {
        return Err(StripeError::invalid(
            "You may only specify one of these parameters: customer, customer_email.",
        ));
    }
    let keeps_address = customer_update(call, customer.as_ref())?;
    if let Some(customer) = &customer {
        call.state.enter_clock_of(&call.account, text(customer, "id"));
    }
    let lines = line_items(call)?;
    let expires = expires_at(call)?;
    let subscription = subscription_data(call)?;
    let discounts = discounts(call)?;
    if !call.state.may_sell(&call.account) {
        return Err(StripeError::invalid(
            "No valid payment method types for this Checkout Session. Please ensure that you have activated payment \
             methods compatible with your chosen currency in your dashboard, and that the account has completed \
             onboarding.",
        ));
    }
    let id = format!("cs_test_{}", call.state.ids.letters(58));
    let mut session =
        session(call, &id, customer, (&success, cancel), &lines, expires, subscription, discounts)?;
    session["_keeps_address"] = json!(keeps_address);
    call.state.put(&call.account, &session)?;
    let clock = text(&session, "_clock").to_owned();
    call.state.agenda.put(&clock, expires, &call.account, Due::SessionExpires(id));
    Ok(session)
}

/// Whether what the buyer enters becomes the customer's address; with taxes, a customer who has none needs it.
fn customer_update(call: &Call<'_>, customer: Option<&Value>) -> Result<bool, StripeError> {
    let params = &call.params;
    let address = params.choice("customer_update.address", &["auto", "never"])?;
    params.choice("customer_update.name", &["auto", "never"])?;
    let Some(customer) = customer else {
        if params.has("customer_update") {
            return Err(params.refused(
                "customer_update",
                "`customer_update` can only be used with `customer`.",
            ));
        }
        return Ok(true);
    };
    let keeps = address.as_deref() == Some("auto");
    let is_taxed = params.flag("automatic_tax.enabled")?.unwrap_or(false);
    if is_taxed && !keeps && at(customer, "address").is_null() {
        return Err(StripeError::coded(
            "customer_tax_location_invalid",
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address to the \
             Customer or set either `customer_update[address]` to 'auto' or `customer_update[shipping]` to 'auto' to \
             save the address entered in Checkout to the Customer.",
        ));
    }
    Ok(keeps)
}

fn line_items(call: &mut Call<'_>) -> Result<Vec<(Value, Option<i64>)>, StripeError> {
    let entries = call.params.list("line_items")?;
    if entries.is_empty() {
        return Err(StripeError::required("line_items"));
    }
    if entries.len() > LINES_MAX {
        return Err(call
            .params
            .refused("line_items", "You may pass up to 20 recurring line items"));
    }
    let mut lines = Vec::with_capacity(entries.len());
    for entry in entries {
        let id = entry.required("price")?;
        let price = call.state.named(&call.account, "price", &id, &entry.name("price"))?;
        if !flag(&price, "active") {
            return Err(entry.refused(
                "price",
                &format!(
                    "The price specified is inactive: {id}. This field only accepts active prices."
                ),
            ));
        }
        let product =
            call.state.get(&call.account, "product", text(&price, "product")).unwrap_or_default();
        if !flag(&product, "active") {
            return Err(entry.refused("price", "The product of the price specified is not active."));
        }
        let metered = text(&price, "recurring.usage_type") == "metered";
        let quantity = entry.int_within("quantity", 1, 1_000_000)?;
        match (metered, quantity) {
            (true, Some(_)) => {
                return Err(
                    entry.refused("quantity", "Quantity cannot be specified for metered prices.")
                );
            }
            (false, None) => return Err(StripeError::required(&entry.name("quantity"))),
            _ => lines.push((price, quantity)),
        }
    }
    subscribe::common_interval(lines.iter().map(|(price, _)| price))?;
    Ok(lines)
}

fn expires_at(call: &Call<'_>) -> Result<i64, StripeError> {
    let now = call.now();
    let Some(at) = call.params.int("expires_at")? else { return Ok(now + LIFE_S.1) };
    // Half a minute of grace for clocks that differ.
    if at < now + LIFE_S.0 - 30 || at > now + LIFE_S.1 + 30 {
        return Err(call.params.refused(
            "expires_at",
            "The `expires_at` timestamp must be between 30 minutes and 24 hours after Checkout Session creation.",
        ));
    }
    Ok(at)
}

/// `subscription_data` as members of the subscription to be, with `_trial_end` and `_trial_days`.
fn subscription_data(call: &Call<'_>) -> Result<Value, StripeError> {
    let data = call.params.hash("subscription_data")?;
    let mut members = Map::new();
    if let Some(percent) = fee_percent(&data, &call.account)? {
        members.insert("application_fee_percent".to_owned(), percent);
    }
    members.insert("metadata".to_owned(), data.metadata("metadata", &json!({}))?);
    if let Some(description) = data.text("description")? {
        members.insert("description".to_owned(), json!(description));
    }
    if let Some(settings) = trial_settings(&data)? {
        members.insert("trial_settings".to_owned(), settings);
    }
    if call.params.flag("automatic_tax.enabled")?.unwrap_or(false) {
        let tax = json!({"disabled_reason": null, "enabled": true, "liability": {"type": "self"}});
        members.insert("automatic_tax".to_owned(), tax);
    }
    let days = data.int_within("trial_period_days", 1, 730)?;
    let end = data.int("trial_end")?;
    if days.is_some() && end.is_some() {
        return Err(data.refused(
            "trial_end",
            "You may only specify one of these: trial_end, trial_period_days.",
        ));
    }
    if end.is_some_and(|end| end < call.now() + 48 * 3600) {
        return Err(data.refused(
            "trial_end",
            "The `trial_end` date has to be at least 2 days in the future.",
        ));
    }
    let anchor = data.int("billing_cycle_anchor")?;
    data.choice("proration_behavior", &["create_prorations", "none"])?;
    Ok(json!({"members": members, "trial_days": days, "trial_end": end, "anchor": anchor}))
}

/// `application_fee_percent`: 0 to 100, two decimals at most, on a connected account only.
///
/// # Errors
/// Another number, or the platform's own account.
pub fn fee_percent(data: &Params, account: &str) -> Result<Option<Value>, StripeError> {
    let Some(given) = data.text("application_fee_percent")? else { return Ok(None) };
    let percent = money::percent(&given).ok_or_else(|| {
        data.refused(
            "application_fee_percent",
            "This value must be between 0 and 100, with up to two decimal places.",
        )
    })?;
    if account == PLATFORM {
        return Err(data.refused(
            "application_fee_percent",
            "You can only apply an application_fee_percent when the request is made on behalf of another account.",
        ));
    }
    Ok(Some(percent))
}

/// `trial_settings`, if they are there.
///
/// # Errors
/// Another word.
pub fn trial_settings(data: &Params) -> Result<Option<Value>, StripeError> {
    let path = "trial_settings.end_behavior.missing_payment_method";
    let behavior = data.choice(path, &["cancel", "create_invoice", "pause"])?;
    Ok(behavior.map(|behavior| {
        json!({"end_behavior": {"billing_cycle_anchor": "now", "missing_payment_method": behavior}})
    }))
}

/// `discounts` as coupons with their promotion codes.
fn discounts(call: &Call<'_>) -> Result<Vec<Value>, StripeError> {
    if call.params.has("discounts") && call.params.flag("allow_promotion_codes")?.unwrap_or(false) {
        return Err(call.params.refused(
            "discounts",
            "You may only specify one of these parameters: allow_promotion_codes, discounts.",
        ));
    }
    let mut found = Vec::new();
    for entry in call.params.list("discounts")? {
        found.push(discount(call, &entry)?);
    }
    Ok(found)
}

/// One entry of `discounts`.
///
/// # Errors
/// No such coupon or promotion code, or one that is not valid any more.
pub fn discount(call: &Call<'_>, entry: &Params) -> Result<Value, StripeError> {
    if let Some(code) = entry.text("promotion_code")? {
        let code = call.state.named(
            &call.account,
            "promotion_code",
            &code,
            &entry.name("promotion_code"),
        )?;
        if !flag(&code, "active") {
            return Err(
                entry.refused("promotion_code", "This promotion code is inactive or expired.")
            );
        }
        let coupon = call.state.must(&call.account, "coupon", text(&code, "promotion.coupon"))?;
        return Ok(json!({"coupon": coupon, "code": at(&code, "id")}));
    }
    let coupon = entry.required("coupon")?;
    let coupon = call.state.named(&call.account, "coupon", &coupon, &entry.name("coupon"))?;
    Ok(json!({"coupon": coupon, "code": null}))
}

fn session(
    call: &mut Call<'_>,
    id: &str,
    customer: Option<Value>,
    (success, cancel): (&str, Option<String>),
    lines: &[(Value, Option<i64>)],
    expires: i64,
    subscription: Value,
    discounts: Vec<Value>,
) -> Answer {
    let trial =
        !at(&subscription, "trial_days").is_null() || !at(&subscription, "trial_end").is_null();
    let due =
        |(price, quantity): &(Value, Option<i64>)| money::amount(price, quantity.unwrap_or(0));
    let total: i64 = if trial { 0 } else { lines.iter().map(due).sum() };
    let currency = lines.first().map_or(Value::Null, |(price, _)| at(price, "currency").clone());
    let items = lines
        .iter()
        .map(|(price, quantity)| line(call, price, *quantity, trial))
        .collect::<Vec<_>>();
    let params = &call.params;
    let collection = params.choice("payment_method_collection", &["always", "if_required"])?;
    let clock = customer.as_ref().map_or("", |customer| text(customer, "test_clock")).to_owned();
    let tax = params.flag("automatic_tax.enabled")?.unwrap_or(false);
    Ok(json!({
        "id": id, "object": "checkout.session", "adaptive_pricing": null, "after_expiration": null,
        "allow_promotion_codes": params.flag("allow_promotion_codes")?, "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": tax, "liability": if tax { json!({"type": "self"}) } else { Value::Null },
            "provider": if tax { json!("stripe") } else { Value::Null },
            "status": if tax { json!("requires_location_inputs") } else { Value::Null }},
        "billing_address_collection": params.text("billing_address_collection")?, "cancel_url": cancel,
        "client_reference_id": params.text("client_reference_id")?, "client_secret": null,
        "collected_information": null, "consent": null, "consent_collection": null, "created": call.now(),
        "currency": currency, "currency_conversion": null, "custom_fields": [],
        "custom_text": {"after_submit": null, "shipping_address": null, "submit": null,
            "terms_of_service_acceptance": null},
        "customer": customer.as_ref().map(|customer| customer["id"].clone()), "customer_account": null,
        "customer_creation": if customer.is_some() { Value::Null } else { json!("always") },
        "customer_details": null, "customer_email": params.text("customer_email")?, "discounts": [],
        "excluded_payment_method_types": params.texts("excluded_payment_method_types")?, "expires_at": expires,
        "invoice": null, "invoice_creation": null, "livemode": false, "locale": params.text("locale")?,
        "metadata": params.metadata("metadata", &json!({}))?, "mode": "subscription", "origin_context": null,
        "payment_intent": null, "payment_link": null,
        "payment_method_collection": collection.unwrap_or_else(|| "always".to_owned()),
        "payment_method_configuration_details": null,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"], "payment_status": "unpaid", "permissions": null,
        "phone_number_collection": {"enabled": false}, "recovered_from": null,
        "saved_payment_method_options": null, "setup_intent": null, "shipping_address_collection": null,
        "shipping_cost": null, "shipping_options": [], "status": "open", "submit_type": null, "subscription": null,
        "success_url": success, "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page", "url": format!("{}/pages/checkout/{id}", call.state.base_url),
        "wallet_options": null,
        "_line_items": {"object": "list", "data": items, "has_more": false,
            "url": format!("/v1/checkout/sessions/{id}/line_items")},
        "_subscription": subscription, "_coupons": discounts, "_clock": clock,
    }))
}

fn line(call: &mut Call<'_>, price: &Value, quantity: Option<i64>, trial: bool) -> Value {
    let amount = if trial { 0 } else { money::amount(price, quantity.unwrap_or(0)) };
    let product =
        call.state.get(&call.account, "product", text(price, "product")).unwrap_or_default();
    json!({
        "id": call.state.ids.id("li"), "object": "item", "adjustable_quantity": null, "amount_discount": 0,
        "amount_subtotal": amount, "amount_tax": 0, "amount_total": amount, "currency": at(price, "currency"),
        "description": at(&product, "name"), "metadata": {}, "price": price, "quantity": quantity,
    })
}
