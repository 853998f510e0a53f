//! What the owner changed in Stripe's dashboard behind our back.
//!
//! In: a row, a plan's offer, what Stripe has. Out: differences, kept in the row.
//! Always holds: a difference is shown and never mended by itself: the owner may have meant it. What Stripe leaves out of an answer
//! is no difference. Whoever looks, looks at the same: somebody who asks, an event, the schedule.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Offer, SyncAction, in_force, rows_of, sync};
use crate::billing::stripe::{Meter, Price, Product, Scope, Stripe, StripeError};
use crate::billing::{Billing, BillingResult};
use crate::domain::price::OveragePrice;
use crate::storage::{Change, Plan, PlanPrice, StorageResult, Store};

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

/// What Stripe has of a plan; none of what is not there.
#[derive(Clone, Debug, Default)]
struct Seen {
    product: Option<Product>,
    price: Option<Price>,
    overage: Option<Price>,
    meter: Option<Meter>,
}

/// The row in force of a plan and what differs from it at Stripe; `None` of one that is not there as it should be, which is not for
/// its owner to have changed.
///
/// # Errors
/// When Stripe or the database cannot be asked, or the plan cannot be read.
pub async fn look(
    store: &Store,
    stripe: &Stripe,
    scope: &Scope,
    plan: &Plan,
) -> BillingResult<Option<(PlanPrice, Vec<Difference>)>> {
    let known = rows_of(&store.tenant(&plan.account_id), &plan.id, scope).await?;
    let offer = match sync::sold(plan)? {
        Some(offer) if sync::wanted(Some(&offer), &known) == SyncAction::Nothing => offer,
        _ => return Ok(None),
    };
    let Some(row) = in_force(&known) else { return Ok(None) };
    let found = find(stripe, scope, &offer, row).await?;
    Ok(Some((row.clone(), found)))
}

/// The differences between a plan and what Stripe has of it.
///
/// # Errors
/// When Stripe cannot be asked.
pub async fn find(
    stripe: &Stripe,
    scope: &Scope,
    offer: &Offer,
    row: &PlanPrice,
) -> Result<Vec<Difference>, StripeError> {
    let price_id = row.price_id.as_deref().unwrap_or_default();
    let mut seen = Seen {
        product: there(stripe.product(scope, &row.product_id).await)?,
        price: there(stripe.price(scope, price_id).await)?,
        ..Seen::default()
    };
    if let Some(id) = &row.metered_price_id {
        seen.overage = there(stripe.price(scope, id).await)?;
    }
    if let Some(id) = &row.meter_id {
        seen.meter = there(stripe.meter(scope, id).await)?;
    }
    Ok(compare(offer, row, &seen))
}

/// What was found; none where Stripe has no such thing.
fn there<T>(found: Result<T, StripeError>) -> Result<Option<T>, StripeError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
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
    if marks(found) == row.drift {
        return Ok(());
    }
    let mut change = billing.store.change(account_id, super::system()).await?;
    mark(&mut change, row, found).await?;
    Ok(change.commit().await?)
}

/// The same with other changes; says whether it was kept otherwise.
///
/// # Errors
/// When the row was changed meanwhile, or the database cannot be asked.
pub async fn mark(
    change: &mut Change,
    row: &PlanPrice,
    found: &[Difference],
) -> StorageResult<bool> {
    let drift = marks(found);
    if drift == row.drift {
        return Ok(false);
    }
    let after = PlanPrice { drift, ..row.clone() };
    change.update(row, after).await?;
    Ok(true)
}

/// Differences as a row keeps them.
fn marks(found: &[Difference]) -> Option<String> {
    let told = |one: &Difference| {
        let text = format!("{} here, {} at Stripe", one.ours, one.theirs);
        (one.field.clone(), serde_json::Value::from(text))
    };
    let marks: serde_json::Map<_, _> = found.iter().map(told).collect();
    (!marks.is_empty()).then(|| serde_json::Value::Object(marks).to_string())
}

/// Differences that are being gathered.
#[derive(Default)]
struct Found(Vec<Difference>);

impl Found {
    fn check(&mut self, field: &str, ours: impl Into<String>, theirs: impl Into<String>) {
        let (ours, theirs) = (ours.into(), theirs.into());
        if ours != theirs {
            self.0.push(Difference { field: field.to_owned(), ours, theirs });
        }
    }

    /// One that Stripe may leave out of an answer.
    fn check_told(&mut self, field: &str, ours: &str, theirs: Option<&String>) {
        if let Some(theirs) = theirs {
            self.check(field, ours, theirs.as_str());
        }
    }
}

fn compare(offer: &Offer, row: &PlanPrice, seen: &Seen) -> Vec<Difference> {
    let mut found = Found::default();
    match &seen.product {
        None => found.check("product", "there", "missing"),
        Some(product) => {
            found.check("product.active", true.to_string(), product.active.to_string());
            found.check("product.name", offer.name.as_str(), product.name.as_str());
        }
    }
    match &seen.price {
        None => found.check("price", "there", "missing"),
        Some(price) => {
            compare_price(offer, row, "price", price, &mut found);
            let theirs = price.unit_amount.map_or_else(String::new, |amount| amount.to_string());
            found.check("price.amount", offer.price.amount.to_string(), theirs);
        }
    }
    if let Some(ours) = &offer.price.overage {
        match &seen.overage {
            None => found.check("overage", "there", "missing"),
            Some(price) => {
                compare_price(offer, row, "overage", price, &mut found);
                compare_overage(ours, row, price, &mut found);
            }
        }
        match &seen.meter {
            None => found.check("meter", "there", "missing"),
            Some(meter) => compare_meter(row, meter, &mut found),
        }
    }
    found.0
}

/// What the price of a plan and that of its overage have in common.
fn compare_price(offer: &Offer, row: &PlanPrice, part: &str, price: &Price, found: &mut Found) {
    let ours = &offer.price;
    let of = |field: &str| format!("{part}.{field}");
    let (suffix, usage) = if part == "price" { ("", "licensed") } else { ("_overage", "metered") };
    let recurring = price.recurring.clone().unwrap_or_default();
    let count = recurring.interval_count.unwrap_or(1);
    let tax = price.tax_behavior.as_deref().unwrap_or("unspecified");
    let key = format!("payfence_{}{suffix}", offer.plan.id);
    found.check(&of("active"), true.to_string(), price.active.to_string());
    found.check_told(&of("product"), &row.product_id, price.product.as_ref());
    found.check(&of("currency"), ours.currency.as_str(), price.currency.as_str());
    found.check(&of("interval"), ours.interval.as_str(), recurring.interval);
    found.check(&of("interval_count"), "1", count.to_string());
    found.check_told(&of("usage_type"), usage, recurring.usage_type.as_ref());
    found.check(&of("tax_behavior"), ours.tax_behavior.as_str(), tax);
    found.check(&of("lookup_key"), key, price.lookup_key.clone().unwrap_or_default());
}

/// What is said of overage alone.
fn compare_overage(ours: &OveragePrice, row: &PlanPrice, price: &Price, found: &mut Found) {
    let recurring = price.recurring.clone().unwrap_or_default();
    let theirs = price.unit_amount_decimal.as_deref().unwrap_or_default();
    found.check("overage.unit_amount", plain(&ours.unit_amount_decimal), plain(theirs));
    let meter = row.meter_id.as_deref().unwrap_or_default();
    found.check("overage.meter", meter, recurring.meter.unwrap_or_default());
    found.check_told("overage.billing_scheme", "per_unit", price.billing_scheme.as_ref());
    let (per, round) = match &price.transform_quantity {
        None => (1, "up"),
        Some(transform) => (transform.divide_by, transform.round.as_str()),
    };
    found.check("overage.per", ours.per.to_string(), per.to_string());
    found.check("overage.round", "up", round);
}

fn compare_meter(row: &PlanPrice, meter: &Meter, found: &mut Found) {
    let name = row.meter_event_name.as_deref().unwrap_or_default();
    found.check_told("meter.status", "active", meter.status.as_ref());
    found.check("meter.event_name", name, meter.event_name.as_str());
    let formula = meter.default_aggregation.as_ref().map(|all| &all.formula);
    found.check_told("meter.aggregation", "sum", formula);
    let whose = meter.customer_mapping.as_ref();
    let key = whose.map(|mapping| &mapping.event_payload_key);
    found.check_told("meter.customer", "stripe_customer_id", key);
    found.check_told("meter.customer_by", "by_id", whose.map(|mapping| &mapping.kind));
    let value = meter.value_settings.as_ref().map(|settings| &settings.event_payload_key);
    found.check_told("meter.value", "value", value);
}

/// A decimal without zeros that say nothing.
fn plain(amount: &str) -> String {
    let amount = match amount.split_once('.') {
        Some((whole, fraction)) => format!("{whole}.{}", fraction.trim_end_matches('0')),
        None => amount.to_owned(),
    };
    let amount = amount.trim_end_matches('.').trim_start_matches('0');
    match amount.strip_prefix('.') {
        Some(fraction) => format!("0.{fraction}"),
        None if amount.is_empty() => "0".to_owned(),
        None => amount.to_owned(),
    }
}
