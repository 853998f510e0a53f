//! `price`.
//!
//! In: amounts, intervals, meters, lookup keys. Out: the object, `price.*` events.
//! Always holds: an amount never changes; a lookup key belongs to one active price of an account, and moves only with
//! `transfer_lookup_key`.

use crate::call::{Answer, Call};
use crate::engine::money;
use crate::error::StripeError;
use crate::json::{at, int, text};
use crate::params::Params;
use crate::routes::{Route, route};
use serde_json::{Value, json};

/// Calls on prices.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/prices", CREATE, create),
    route("GET", "/v1/prices", LIST, list),
    route("GET", "/v1/prices/{id}", &[], retrieve),
    route("POST", "/v1/prices/{id}", UPDATE, update),
];

const CREATE: &[&str] = &[
    "active",
    "billing_scheme",
    "currency",
    "lookup_key",
    "metadata{}",
    "nickname",
    "product",
    "product_data[name]",
    "product_data[id]",
    "product_data[metadata]{}",
    "recurring[interval]",
    "recurring[interval_count]",
    "recurring[meter]",
    "recurring[usage_type]",
    "tax_behavior",
    "transfer_lookup_key",
    "transform_quantity[divide_by]",
    "transform_quantity[round]",
    "unit_amount",
    "unit_amount_decimal",
];
const UPDATE: &[&str] =
    &["active", "lookup_key", "metadata{}", "nickname", "tax_behavior", "transfer_lookup_key"];
const LIST: &[&str] = &[
    "active",
    "currency",
    "lookup_keys[]",
    "product",
    "type",
    "recurring[interval]",
    "recurring[meter]",
    "recurring[usage_type]",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];
const TAX: &[&str] = &["exclusive", "inclusive", "unspecified"];

fn create(call: &mut Call<'_>) -> Answer {
    let currency = currency(&call.params, "currency")?;
    let amount = unit_amount(&call.params)?;
    let recurring = recurring(call)?;
    let transform = transform(&call.params)?;
    let product = product(call)?;
    let params = &call.params;
    let tax = params.choice("tax_behavior", TAX)?.unwrap_or_else(|| "unspecified".to_owned());
    params.choice("billing_scheme", &["per_unit"])?;
    let (active, nickname) = (params.flag("active")?.unwrap_or(true), params.text("nickname")?);
    let metadata = params.metadata("metadata", &json!({}))?;
    let lookup_key = lookup_key(call, None)?;
    let whole: Option<i64> = amount.parse().ok();
    let id = call.state.ids.id("price");
    let price = json!({
        "id": id, "object": "price", "active": active, "billing_scheme": "per_unit", "created": call.now(),
        "currency": currency, "custom_unit_amount": null, "livemode": false, "lookup_key": lookup_key,
        "metadata": metadata, "nickname": nickname, "product": product, "recurring": recurring, "tax_behavior": tax,
        "tiers_mode": null, "transform_quantity": transform,
        "type": if recurring.is_null() { "one_time" } else { "recurring" }, "unit_amount": whole,
        "unit_amount_decimal": amount,
    });
    call.state.create(&call.account, "price.created", &price)?;
    Ok(price)
}

/// Three letters, in lower case.
pub fn currency(params: &Params, path: &str) -> Result<String, StripeError> {
    let currency = params.required(path)?.to_lowercase();
    if currency.len() == 3 && currency.bytes().all(|letter| letter.is_ascii_lowercase()) {
        return Ok(currency);
    }
    Err(params.refused(path, &format!("Invalid currency: {currency}")))
}

fn unit_amount(params: &Params) -> Result<String, StripeError> {
    match (params.int("unit_amount")?, params.text("unit_amount_decimal")?) {
        (Some(_), Some(_)) => Err(params.refused(
            "unit_amount",
            "You may only specify one of these parameters: unit_amount, unit_amount_decimal.",
        )),
        (Some(amount), None) if amount >= 0 => Ok(amount.to_string()),
        (None, Some(amount)) => {
            money::decimal_text(&amount).filter(|amount| !amount.starts_with('-')).ok_or_else(
                || params.refused("unit_amount_decimal", &format!("Invalid decimal: {amount}")),
            )
        }
        (None, None) => Err(StripeError::required("unit_amount")),
        (Some(_), None) => {
            Err(params.refused("unit_amount", "This value must be greater than or equal to 0."))
        }
    }
}

fn recurring(call: &Call<'_>) -> Result<Value, StripeError> {
    let params = &call.params;
    if !params.has("recurring") {
        return Ok(Value::Null);
    }
    let interval = params
        .choice("recurring.interval", &["day", "month", "week", "year"])?
        .ok_or_else(|| StripeError::required("recurring[interval]"))?;
    let count = params.int_within("recurring.interval_count", 1, 1095)?.unwrap_or(1);
    let usage = params.choice("recurring.usage_type", &["licensed", "metered"])?;
    let usage = usage.unwrap_or_else(|| "licensed".to_owned());
    let meter = call.named("billing.meter", "recurring.meter")?;
    match (usage.as_str(), &meter) {
        ("metered", None) => {
            return Err(StripeError::invalid(
                "Metered prices must be backed by a meter. Set `recurring[meter]`.",
            )
            .at("recurring[meter]"));
        }
        ("licensed", Some(_)) => {
            return Err(params.refused(
                "recurring.meter",
                "A meter belongs to `recurring[usage_type]=metered`.",
            ));
        }
        (_, Some(meter)) if text(meter, "status") != "active" => {
            return Err(params.refused("recurring.meter", "The meter is not active."));
        }
        _ => {}
    }
    Ok(json!({
        "interval": interval, "interval_count": count, "meter": meter.map(|meter| meter["id"].clone()),
        "trial_period_days": null, "usage_type": usage,
    }))
}

fn transform(params: &Params) -> Result<Value, StripeError> {
    if !params.has("transform_quantity") {
        return Ok(Value::Null);
    }
    let by = params.int_within("transform_quantity.divide_by", 1, i64::MAX)?;
    let round = params.choice("transform_quantity.round", &["up", "down"])?;
    match (by, round) {
        (Some(by), Some(round)) => Ok(json!({"divide_by": by, "round": round})),
        _ => Err(StripeError::required("transform_quantity[divide_by]")),
    }
}

fn product(call: &mut Call<'_>) -> Result<Value, StripeError> {
    if let Some(product) = call.named("product", "product")? {
        return Ok(product["id"].clone());
    }
    if !call.params.has("product_data") {
        return Err(StripeError::required("product"));
    }
    let name = call.params.required("product_data.name")?;
    let id = match call.params.text("product_data.id")? {
        Some(id) => id,
        None => call.state.ids.id("prod"),
    };
    let metadata = call.params.metadata("product_data.metadata", &json!({}))?;
    let now = call.now();
    let product = json!({
        "id": id, "object": "product", "active": true, "created": now, "default_price": null, "description": null,
        "images": [], "livemode": false, "marketing_features": [], "metadata": metadata, "name": name,
        "package_dimensions": null, "shippable": null, "statement_descriptor": null, "tax_code": null,
        "type": "service", "unit_label": null, "updated": now, "url": null,
    });
    call.state.create(&call.account, "product.created", &product)?;
    Ok(json!(id))
}

/// The lookup key asked for; taken from the price that has it if that is allowed.
fn lookup_key(call: &mut Call<'_>, own: Option<&str>) -> Result<Value, StripeError> {
    let Some(key) = call.params.text("lookup_key")? else { return Ok(Value::Null) };
    let transfer = call.params.flag("transfer_lookup_key")?.unwrap_or(false);
    let holds = |price: &&Value| text(price, "lookup_key") == key && own != Some(text(price, "id"));
    let rows =
        call.state.table(&call.account, "price").into_iter().flat_map(|table| table.newest(None));
    let Some(mut holder) = rows.into_iter().find(holds).cloned() else { return Ok(json!(key)) };
    if !transfer {
        return Err(StripeError::invalid(format!(
            "A price (`{}`) already uses that lookup key.",
            text(&holder, "id")
        ))
        .at("lookup_key"));
    }
    holder["lookup_key"] = Value::Null;
    call.state.change(&call.account, "price.updated", &holder)?;
    Ok(json!(key))
}

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch("price")
}

fn update(call: &mut Call<'_>) -> Answer {
    let mut price = call.fetch("price")?;
    let id = text(&price, "id").to_owned();
    if let Some(active) = call.params.flag("active")? {
        price["active"] = json!(active);
    }
    if let Some(tax) = call.params.choice("tax_behavior", TAX)? {
        if text(&price, "tax_behavior") != "unspecified" && text(&price, "tax_behavior") != tax {
            return Err(call
                .params
                .refused("tax_behavior", "Once specified, tax_behavior cannot be changed."));
        }
        price["tax_behavior"] = json!(tax);
    }
    if call.params.has("metadata") {
        price["metadata"] = call.params.metadata("metadata", at(&price, "metadata"))?;
    }
    if call.params.has("nickname") {
        price["nickname"] = json!(call.params.text("nickname")?);
    }
    if call.params.has("lookup_key") {
        price["lookup_key"] = lookup_key(call, Some(&id))?;
    }
    call.state.change(&call.account, "price.updated", &price)?;
    Ok(price)
}

fn list(call: &mut Call<'_>) -> Answer {
    let active = call.params.flag("active")?;
    let keys = call.params.texts("lookup_keys")?;
    let filters = [
        (call.filter("product")?, "product"),
        (call.filter("currency")?, "currency"),
        (call.filter("type")?, "type"),
        (call.filter("recurring.interval")?, "recurring.interval"),
        (call.filter("recurring.meter")?, "recurring.meter"),
        (call.filter("recurring.usage_type")?, "recurring.usage_type"),
    ];
    call.list("price", |price| {
        active.is_none_or(|active| price["active"] == json!(active))
            && (keys.is_empty() || keys.iter().any(|key| key == text(price, "lookup_key")))
            && filters.iter().all(|(filter, path)| filter(price, path))
    })
}

/// The `plan` that older clients read from a subscription item.
pub fn plan(price: &Value) -> Value {
    json!({
        "id": at(price, "id"), "object": "plan", "active": at(price, "active"), "amount": at(price, "unit_amount"),
        "amount_decimal": at(price, "unit_amount_decimal"), "billing_scheme": at(price, "billing_scheme"),
        "created": at(price, "created"), "currency": at(price, "currency"),
        "interval": at(price, "recurring.interval"), "interval_count": int(price, "recurring.interval_count"),
        "livemode": false, "metadata": at(price, "metadata"), "meter": at(price, "recurring.meter"),
        "nickname": at(price, "nickname"), "product": at(price, "product"), "tiers_mode": null,
        "transform_usage": at(price, "transform_quantity"), "trial_period_days": null,
        "usage_type": at(price, "recurring.usage_type"),
    })
}
