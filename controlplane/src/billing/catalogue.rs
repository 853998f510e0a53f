//! Plans as Stripe's products and prices.
//!
//! In: a plan's price. Out: a product with an id of our choosing, a price, and for overage a meter and a metered price; a row
//! that says which.
//! Always holds: however often it breaks off and is done again, a plan is one product and its price in force one price; the
//! row is written when all of it is there, so that what a row names can be bought. A price cannot be changed: another takes
//! its lookup key, the old one can no longer be bought, and subscriptions keep it until they are moved.

pub mod drift;
pub mod make;
pub mod mend;
pub mod sync;

pub use make::ensure;
pub use sync::{Depth, SyncAction, SyncEntry, sweep, sweep_once, sync};

use sea_orm::{ColumnTrait as _, QueryFilter as _, QueryOrder as _};
use sha2::{Digest as _, Sha256};

use super::stripe::{Mode, Scope};
use super::{BillingError, BillingResult};
use crate::domain::price::PriceDraft;
use crate::domain::site::PlanDraft;
use crate::storage::{Actor, Change, Plan, PlanPrice, Site, StorageResult, Tenant, Window, column};

/// Rows of one plan at most: a price a day for years.
const ROWS_MAX: u64 = 10_000;

/// What a plan is called by itself and by people, and what it costs.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The row.
    pub plan: Plan,
    /// What buyers see.
    pub name: String,
    /// What it costs.
    pub price: PriceDraft,
}

/// A plan's price in our words; `None` where it is not for sale.
///
/// # Errors
/// When the row cannot be read.
pub fn offer_of(plan: &Plan) -> BillingResult<Option<Offer>> {
    let draft: PlanDraft = serde_json::from_str(&plan.settings).map_err(BillingError::damaged)?;
    let name = draft.name.unwrap_or_else(|| plan.reference.clone());
    Ok(draft.price.map(|price| Offer { plan: plan.clone(), name, price }))
}

/// What is sold of a site, cheapest first.
///
/// # Errors
/// When the database cannot be asked, or a row cannot be read.
pub async fn offers(tenant: &Tenant<'_>, site: &Site) -> BillingResult<Vec<Offer>> {
    let plans = tenant
        .all::<Plan>(crate::api::endpoints::plans::PLANS_MAX, |query| {
            query
                .filter(column::Plan::SiteId.eq(site.id.as_str()))
                .filter(column::Plan::ArchivedAtMs.is_null())
        })
        .await?;
    let mut offers = Vec::new();
    for plan in &plans {
        offers.extend(offer_of(plan)?);
    }
    offers.sort_by(|one, other| one.price.monthly().total_cmp(&other.price.monthly()));
    Ok(offers)
}

/// The rows of a plan, oldest first.
///
/// # Errors
/// When the database cannot be asked.
pub async fn rows(tenant: &Tenant<'_>, plan_id: &str, mode: Mode) -> StorageResult<Vec<PlanPrice>> {
    tenant
        .all::<PlanPrice>(ROWS_MAX, |query| {
            query
                .filter(column::PlanPrice::PlanId.eq(plan_id))
                .filter(column::PlanPrice::Mode.eq(mode.as_str()))
                .order_by_asc(column::PlanPrice::Key)
        })
        .await
}

/// The rows of a plan that one connected account has: one that takes another's place has nothing of it.
///
/// # Errors
/// When the database cannot be asked.
pub async fn rows_of(
    tenant: &Tenant<'_>,
    plan_id: &str,
    scope: &Scope,
) -> StorageResult<Vec<PlanPrice>> {
    let mut found = rows(tenant, plan_id, scope.mode).await?;
    found.retain(|row| Some(&row.stripe_account) == scope.stripe_account.as_ref());
    Ok(found)
}

/// The row that says what a plan is now.
#[must_use]
pub fn in_force(rows: &[PlanPrice]) -> Option<&PlanPrice> {
    rows.iter().rev().find(|row| row.retired_at_ms.is_none())
}

/// Says with an account's loss that nothing of what was made there is in force: another account has none of it, and the same one, connected
/// again, gets it anew. What runs is still known by its price.
///
/// # Errors
/// When the database cannot be asked.
pub async fn withdraw_all(change: &mut Change, mode: Mode) -> StorageResult<()> {
    let now_ms = change.now_ms();
    loop {
        let tenant = change.tenant();
        let some = Window { limit: ROWS_MAX, starting_after: None };
        let rows = tenant.page::<PlanPrice>(some, |query| {
            query
                .filter(column::PlanPrice::Mode.eq(mode.as_str()))
                .filter(column::PlanPrice::RetiredAtMs.is_null())
        });
        let rows = rows.await?.map(|page| page.rows).unwrap_or_default();
        if rows.is_empty() {
            return Ok(());
        }
        for row in &rows {
            let after = PlanPrice { retired_at_ms: Some(now_ms), ..row.clone() };
            change.update(row, after).await?;
        }
    }
}

/// Which plan a price of Stripe's is, in force or not: how a subscription is known by what it pays.
///
/// # Errors
/// When the database cannot be asked.
pub async fn plan_of_price(
    tenant: &Tenant<'_>,
    price_id: &str,
    mode: Mode,
) -> StorageResult<Option<PlanPrice>> {
    tenant
        .one::<PlanPrice>(|query| {
            query
                .filter(column::PlanPrice::PriceId.eq(price_id))
                .filter(column::PlanPrice::Mode.eq(mode.as_str()))
                .order_by_desc(column::PlanPrice::Key)
        })
        .await
}

/// Short and the same for the same terms.
fn hash_of(terms: &str) -> String {
    Sha256::digest(terms.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Who makes what nobody asked for by name.
pub(super) fn system() -> Actor {
    Actor { kind: "system", id: "billing".to_owned(), request_id: None }
}
