//! `product`.
//!
//! In: creation with an id of the caller's choosing, changes, archiving. Out: the object, `product.*` events.
//! Always holds: an id is used once; a product with prices cannot be deleted.

use crate::call::{Answer, Call};
use crate::error::StripeError;
use crate::json::text;
use crate::routes::{Route, route};
use serde_json::{Value, json};

/// Calls on products.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/products", CREATE, create),
    route("GET", "/v1/products", LIST, list),
    route("GET", "/v1/products/{id}", &[], retrieve),
    route("POST", "/v1/products/{id}", UPDATE, update),
    route("DELETE", "/v1/products/{id}", &[], delete),
];

const CREATE: &[&str] = &[
    "id",
    "name",
    "active",
    "description",
    "metadata{}",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
    "shippable",
    "images[]",
];
const UPDATE: &[&str] = &[
    "name",
    "active",
    "description",
    "metadata{}",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
    "default_price",
    "shippable",
    "images[]",
];
const LIST: &[&str] = &[
    "active",
    "ids[]",
    "url",
    "shippable",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];

fn create(call: &mut Call<'_>) -> Answer {
    let name = call.params.required("name")?;
    let id = match call.params.text("id")? {
        Some(id) => id,
        None => call.state.ids.id("prod"),
    };
    if call.state.get(&call.account, "product", &id).is_some() {
        return Err(StripeError::coded(
            "resource_already_exists",
            format!("Product already exists: {id}"),
        )
        .at("id"));
    }
    let now = call.now();
    let mut product = json!({
        "id": id, "object": "product", "active": true, "created": now, "default_price": null, "description": null,
        "images": [], "livemode": false, "marketing_features": [], "metadata": {}, "name": name,
        "package_dimensions": null, "shippable": null, "statement_descriptor": null, "tax_code": null,
        "type": "service", "unit_label": null, "updated": now, "url": null,
    });
    set(call, &mut product)?;
    call.state.create(&call.account, "product.created", &product)?;
    Ok(product)
}

fn set(call: &Call<'_>, product: &mut Value) -> Result<(), StripeError> {
    let params = &call.params;
    for name in [
        "name",
        "description",
        "statement_descriptor",
        "tax_code",
        "unit_label",
        "url",
        "default_price",
    ] {
        if let Some(text) = params.text(name)? {
            product[name] = json!(text);
        } else if params.unsets(name) {
            product[name] = Value::Null;
        }
    }
    for name in ["active", "shippable"] {
        if let Some(flag) = params.flag(name)? {
            product[name] = json!(flag);
        }
    }
    if params.has("images") {
        product["images"] = json!(params.texts("images")?);
    }
    if params.has("metadata") {
        product["metadata"] = params.metadata("metadata", &product["metadata"])?;
    }
    Ok(())
}

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch("product")
}

fn update(call: &mut Call<'_>) -> Answer {
    let mut product = call.fetch("product")?;
    call.named("price", "default_price")?;
    set(call, &mut product)?;
    product["updated"] = json!(call.now());
    call.state.change(&call.account, "product.updated", &product)?;
    Ok(product)
}

fn list(call: &mut Call<'_>) -> Answer {
    let (active, ids) = (call.params.flag("active")?, call.params.texts("ids")?);
    call.list("product", |product| {
        active.is_none_or(|active| product["active"] == json!(active))
            && (ids.is_empty() || ids.iter().any(|id| id == text(product, "id")))
    })
}

fn delete(call: &mut Call<'_>) -> Answer {
    let product = call.fetch("product")?;
    let id = text(&product, "id").to_owned();
    let priced = call
        .state
        .table(&call.account, "price")
        .is_some_and(|prices| prices.oldest(None).any(|price| text(price, "product") == id));
    if priced {
        return Err(StripeError::invalid(
            "This product cannot be deleted because it has one or more user-created prices.",
        ));
    }
    if let Some(room) = call.state.rooms.get_mut(&call.account) {
        room.table_mut("product").remove(&id);
    }
    call.state.emit(&call.account, "product.deleted", &product)?;
    Ok(json!({"id": id, "object": "product", "deleted": true}))
}
