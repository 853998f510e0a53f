//! `coupon` and `promotion_code`.
//!
//! In: percentages or amounts, codes. Out: the objects.
//! Always holds: a code is one active promotion code's of an account, whatever its letters' case.

use super::prices::currency;
use crate::call::{Answer, Call};
use crate::engine::money;
use crate::error::StripeError;
use crate::json::{at, flag, text};
use crate::routes::{Route, route};
use serde_json::{Value, json};

/// Calls on coupons and codes.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/coupons", CREATE, create),
    route("GET", "/v1/coupons", LIST, |call| call.list("coupon", |_| true)),
    route("GET", "/v1/coupons/{id}", &[], |call| call.fetch("coupon")),
    route("DELETE", "/v1/coupons/{id}", &[], delete),
    route("POST", "/v1/promotion_codes", CREATE_CODE, create_code),
    route("GET", "/v1/promotion_codes", LIST_CODES, list_codes),
    route("GET", "/v1/promotion_codes/{id}", &[], |call| call.fetch("promotion_code")),
    route("POST", "/v1/promotion_codes/{id}", &["active", "metadata{}"], update_code),
];

const CREATE: &[&str] = &[
    "id",
    "name",
    "percent_off",
    "amount_off",
    "currency",
    "duration",
    "duration_in_months",
    "max_redemptions",
    "metadata{}",
];
const LIST: &[&str] = &[
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];
const CREATE_CODE: &[&str] =
    &["promotion[type]", "promotion[coupon]", "code", "active", "max_redemptions", "metadata{}"];
const LIST_CODES: &[&str] =
    &["active", "code", "coupon", "limit", "starting_after", "ending_before"];

fn create(call: &mut Call<'_>) -> Answer {
    let params = &call.params;
    let percent = match params.text("percent_off")? {
        Some(given) => Some(
            money::percent(&given)
                .ok_or_else(|| params.refused("percent_off", "Invalid percentage"))?,
        ),
        None => None,
    };
    let amount = params.int_within("amount_off", 1, i64::MAX)?;
    if percent.is_some() == amount.is_some() {
        return Err(StripeError::required("percent_off"));
    }
    let currency = if amount.is_some() { Some(currency(params, "currency")?) } else { None };
    let duration = params
        .choice("duration", &["forever", "once", "repeating"])?
        .unwrap_or_else(|| "once".to_owned());
    let months = params.int_within("duration_in_months", 1, 120)?;
    if (duration == "repeating") != months.is_some() {
        return Err(StripeError::required("duration_in_months"));
    }
    let (name, max) = (params.text("name")?, params.int("max_redemptions")?);
    let metadata = params.metadata("metadata", &json!({}))?;
    let id = match params.text("id")? {
        Some(id) => id,
        None => call.state.ids.letters(8),
    };
    if call.state.get(&call.account, "coupon", &id).is_some() {
        return Err(StripeError::coded(
            "resource_already_exists",
            format!("Coupon already exists: {id}"),
        )
        .at("id"));
    }
    let coupon = json!({
        "id": id, "object": "coupon", "amount_off": amount, "created": call.now(), "currency": currency,
        "duration": duration, "duration_in_months": months, "livemode": false, "max_redemptions": max,
        "metadata": metadata, "name": name, "percent_off": percent, "redeem_by": null, "times_redeemed": 0,
        "valid": true,
    });
    call.state.create(&call.account, "coupon.created", &coupon)?;
    Ok(coupon)
}

fn delete(call: &mut Call<'_>) -> Answer {
    let coupon = call.fetch("coupon")?;
    let id = text(&coupon, "id").to_owned();
    if let Some(room) = call.state.rooms.get_mut(&call.account) {
        room.table_mut("coupon").remove(&id);
    }
    call.state.emit(&call.account, "coupon.deleted", &coupon)?;
    Ok(json!({"id": id, "object": "coupon", "deleted": true}))
}

fn create_code(call: &mut Call<'_>) -> Answer {
    call.params
        .choice("promotion.type", &["coupon"])?
        .ok_or_else(|| StripeError::required("promotion[type]"))?;
    let coupon = call
        .named("coupon", "promotion.coupon")?
        .ok_or_else(|| StripeError::required("promotion[coupon]"))?;
    let code = match call.params.text("code")? {
        Some(code) => code,
        None => call.state.ids.letters(8).to_uppercase(),
    };
    let same = |row: &Value| flag(row, "active") && text(row, "code").eq_ignore_ascii_case(&code);
    let taken = call
        .state
        .table(&call.account, "promotion_code")
        .is_some_and(|table| table.newest(None).any(same));
    if taken {
        return Err(StripeError::invalid(
            "An active promotion code with this code already exists.",
        )
        .at("code"));
    }
    let promotion = json!({
        "id": call.state.ids.id("promo"), "object": "promotion_code",
        "active": call.params.flag("active")?.unwrap_or(true), "code": code, "created": call.now(), "customer": null,
        "customer_account": null, "expires_at": null, "livemode": false,
        "max_redemptions": call.params.int("max_redemptions")?,
        "metadata": call.params.metadata("metadata", &json!({}))?,
        "promotion": {"coupon": at(&coupon, "id"), "type": "coupon"},
        "restrictions": {"first_time_transaction": false, "minimum_amount": null, "minimum_amount_currency": null},
        "times_redeemed": 0,
    });
    call.state.create(&call.account, "promotion_code.created", &promotion)?;
    Ok(promotion)
}

fn list_codes(call: &mut Call<'_>) -> Answer {
    let active = call.params.flag("active")?;
    let (code, coupon) = (call.filter("code")?, call.filter("coupon")?);
    call.list("promotion_code", |row: &Value| {
        active.is_none_or(|active| flag(row, "active") == active)
            && code(row, "code")
            && coupon(row, "promotion.coupon")
    })
}

fn update_code(call: &mut Call<'_>) -> Answer {
    let mut promotion = call.fetch("promotion_code")?;
    if let Some(active) = call.params.flag("active")? {
        promotion["active"] = json!(active);
    }
    promotion["metadata"] = call.params.metadata("metadata", at(&promotion, "metadata"))?;
    call.state.change(&call.account, "promotion_code.updated", &promotion)?;
    Ok(promotion)
}
