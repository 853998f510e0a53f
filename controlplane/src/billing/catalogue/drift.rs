//! What the owner changed in Stripe's dashboard behind our back.
//!
//! In: a row, a plan's offer, what Stripe has. Out: differences.
//! Always holds: a difference is shown and never mended by itself: the owner may have meant it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Offer;
use crate::billing::stripe::{Price, Product, Scope};
use crate::billing::{Billing, BillingResult};
use crate::storage::PlanPrice;

/// Something that is otherwise in Stripe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// What: `price.amount`, `product.active`, …
    pub field: String,
    /// What the plan says.
    pub ours: String,
    /// What Stripe says.
    pub theirs: String,
}

/// The differences between a plan and what Stripe has of it.
///
/// # Errors
/// When Stripe cannot be asked.
pub async fn find(
    billing: &Billing,
    scope: &Scope,
    offer: &Offer,
    row: &PlanPrice,
) -> BillingResult<Vec<Difference>> {
    let product = match billing.stripe.product(scope, &row.product_id).await {
        Ok(product) => Some(product),
        Err(error) if error.is_missing() => None,
        Err(error) => return Err(error.into()),
    };
    let price_id = row.price_id.as_deref().unwrap_or_default();
    let price = match billing.stripe.price(scope, price_id).await {
        Ok(price) => Some(price),
        Err(error) if error.is_missing() => None,
        Err(error) => return Err(error.into()),
    };
    Ok(compare(offer, product.as_ref(), price.as_ref()))
}

/// Keeps what was found in the row, or that nothing was.
///
/// # Errors
/// When the database cannot be asked.
pub async fn keep(
    billing: &Billing,
    account_id: &str,
    row: &PlanPrice,
    found: &[Difference],
) -> BillingResult<()> {
    let told = |one: &Difference| {
        let text = format!("{} here, {} at Stripe", one.ours, one.theirs);
        (one.field.clone(), serde_json::Value::from(text))
    };
    let marks: serde_json::Map<_, _> = found.iter().map(told).collect();
    let drift = (!marks.is_empty()).then(|| serde_json::Value::Object(marks).to_string());
    if drift == row.drift {
        return Ok(());
    }
    let mut change = billing.store.change(account_id, super::system()).await?;
    let after = PlanPrice { drift, ..row.clone() };
    change.update(row, after).await?;
    Ok(change.commit().await?)
}

fn compare(offer: &Offer, product: Option<&Product>, price: Option<&Price>) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut check = |field: &str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(Difference { field: field.to_owned(), ours, theirs });
        }
    };
    match product {
        None => check("product", "there".to_owned(), "missing".to_owned()),
        Some(product) => {
            check("product.active", true.to_string(), product.active.to_string());
            check("product.name", offer.name.clone(), product.name.clone());
        }
    }
    let Some(price) = price else {
        check("price", "there".to_owned(), "missing".to_owned());
        return found;
    };
    let ours = &offer.price;
    let recurring = price.recurring.clone().unwrap_or_default();
    let theirs = price.unit_amount.map_or_else(String::new, |amount| amount.to_string());
    check("price.active", true.to_string(), price.active.to_string());
    check("price.amount", ours.amount.to_string(), theirs);
    check("price.currency", ours.currency.clone(), price.currency.clone());
    check("price.interval", ours.interval.as_str().to_owned(), recurring.interval);
    let tax = price.tax_behavior.clone().unwrap_or_else(|| "unspecified".to_owned());
    check("price.tax_behavior", ours.tax_behavior.as_str().to_owned(), tax);
    let key = format!("payfence_{}", offer.plan.id);
    check("price.lookup_key", key, price.lookup_key.clone().unwrap_or_default());
    found
}
