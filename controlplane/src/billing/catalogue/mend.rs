//! Making what the owner changed at Stripe what the plan says again, where somebody asks for it.
//!
//! In: what differs. Out: what still does.
//! Always holds: what Stripe lets be changed is changed in place, and running subscriptions have it, too; where it does not,
//! another price takes the old one's place, as with a plan that costs otherwise now, and running subscriptions keep theirs.

use serde::Serialize;

use super::drift::{self, Difference};
use super::make::{self, settle};
use super::{Offer, hash_of};
use crate::billing::stripe::{MeterReactivation, PriceUpdate, ProductUpdate, Scope};
use crate::billing::{Billing, BillingResult, calls};
use crate::storage::PlanPrice;

/// One plan's mending.
struct Mender<'a> {
    billing: &'a Billing,
    account_id: &'a str,
    scope: &'a Scope,
    offer: &'a Offer,
}

/// Mends what was found of a plan; what is left is kept in its row, and said.
///
/// # Errors
/// When Stripe or the database cannot be asked; done again, it goes on.
pub async fn mend(
    billing: &Billing,
    account_id: &str,
    scope: &Scope,
    offer: &Offer,
    (row, found): (&PlanPrice, &[Difference]),
) -> BillingResult<Vec<Difference>> {
    let mender = Mender { billing, account_id, scope, offer };
    mender.in_place(row, found).await?;
    let mut left = drift::find(&billing.stripe, scope, offer, row).await?;
    let mut row = row.clone();
    if !left.is_empty() {
        row = make::anew(billing, account_id, offer, scope.mode).await?;
        left = drift::find(&billing.stripe, scope, offer, &row).await?;
    }
    drift::keep(billing, account_id, &row, &left).await?;
    Ok(left)
}

impl Mender<'_> {
    async fn in_place(&self, row: &PlanPrice, found: &[Difference]) -> BillingResult<()> {
        let is_otherwise = |field: &str| found.iter().any(|one| one.field == field);
        let stripe = &self.billing.stripe;
        if is_otherwise("product.active") || is_otherwise("product.name") {
            let name = Some(self.offer.name.clone());
            let request = ProductUpdate { name, active: Some(true) };
            let (purpose, key) = self.key(&row.product_id, &request).await?;
            let outcome = stripe.update_product(self.scope, &row.product_id, &request, &key).await;
            settle(self.billing, self.account_id, &purpose, outcome).await?;
        }
        if is_otherwise("meter.status")
            && let Some(meter) = &row.meter_id
        {
            let (purpose, key) = self.key(meter, &MeterReactivation {}).await?;
            let outcome = stripe.reactivate_meter(self.scope, meter, &key).await;
            settle(self.billing, self.account_id, &purpose, outcome).await?;
        }
        let prices = [("price", &row.price_id), ("overage", &row.metered_price_id)];
        for (part, id) in prices {
            let Some(id) = id else { continue };
            let request = self.price_update(part, found);
            if request == PriceUpdate::default() {
                continue;
            }
            let (purpose, key) = self.key(id, &request).await?;
            let outcome = stripe.update_price(self.scope, id, &request, &key).await;
            settle(self.billing, self.account_id, &purpose, outcome).await?;
            // It may be taken out of the shop once more.
            let off = make::off(id, self.scope.mode);
            calls::forget(&self.billing.store, self.account_id, &off).await?;
        }
        Ok(())
    }

    /// What can be changed of a price, of what differs.
    fn price_update(&self, part: &str, found: &[Difference]) -> PriceUpdate {
        let of = |field: &str| found.iter().find(|one| one.field == format!("{part}.{field}"));
        let key = of("lookup_key").map(|one| one.ours.clone());
        // It can be said once, and not otherwise after that.
        let tax = of("tax_behavior").filter(|one| one.theirs == "unspecified");
        PriceUpdate {
            active: of("active").map(|_| true),
            transfer_lookup_key: key.as_ref().map(|_| true),
            lookup_key: key,
            tax_behavior: tax.map(|one| one.ours.clone()),
        }
    }

    /// A key of this call alone: it says how something is to be, and an earlier one that said the same is no bar.
    async fn key<R: Serialize>(&self, id: &str, request: &R) -> BillingResult<(String, String)> {
        let text = serde_json::to_string(request).unwrap_or_default();
        let purpose = format!("mend/{id}/{}/{}", hash_of(&text), self.scope.mode);
        calls::forget(&self.billing.store, self.account_id, &purpose).await?;
        let call = calls::once(&self.billing.store, self.account_id, &purpose, request).await?;
        Ok((purpose, call.key))
    }
}
