//! What owners changed of their products and prices in Stripe's own dashboard: marked, not fought.
//!
//! In: events of products and prices. Out: the mark on our rows, which REST shows and a sync can mend.
//! Always holds: the mark is what differs now, and goes when nothing does.

use sea_orm::{ColumnTrait as _, Condition, QueryFilter as _};
use serde_json::json;

use super::{Owner, SettleError, Settled, Settler, Under, is_missing};
use crate::storage::{Change, Job, PlanPrice, column};

/// Prices of a product that are looked at.
const PRICES_MAX: u64 = 1_000;

impl Settler {
    pub(super) async fn price(
        &self,
        owner: &Owner,
        id: &str,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        let is_active = match self.stripe.price(&owner.scope(), id).await {
            Ok(price) => price.active,
            Err(error) if is_missing(&error) => false,
            Err(error) => return Err(error.into()),
        };
        let of = Condition::any()
            .add(column::PlanPrice::PriceId.eq(id))
            .add(column::PlanPrice::MeteredPriceId.eq(id));
        self.mark(owner, job, of, (!is_active).then(|| format!("price {id} is not active"))).await
    }

    pub(super) async fn product(
        &self,
        owner: &Owner,
        id: &str,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        let is_active = match self.stripe.product(&owner.scope(), id).await {
            Ok(product) => product.active,
            Err(error) if is_missing(&error) => false,
            Err(error) => return Err(error.into()),
        };
        let of = Condition::all().add(column::PlanPrice::ProductId.eq(id));
        self.mark(owner, job, of, (!is_active).then(|| format!("product {id} is not active"))).await
    }

    async fn mark(
        &self,
        owner: &Owner,
        job: &Job,
        of: Condition,
        what: Option<String>,
    ) -> Result<Settled, SettleError> {
        let subject = job.subject.clone();
        let mut change = self.change(owner).await?;
        let rows = prices(&change, owner, of).await?;
        for before in rows {
            let drift = with(before.drift.as_deref(), &subject, what.as_deref());
            let after = PlanPrice { drift, ..before.clone() };
            if after != before {
                change.update(&before, after).await?;
            }
        }
        Under { subscription: None, job: Some(job) }.commit(change).await?;
        Ok(Settled::Written)
    }
}

async fn prices(
    change: &Change,
    owner: &Owner,
    of: Condition,
) -> Result<Vec<PlanPrice>, SettleError> {
    let tenant = change.tenant();
    let rows = tenant.all::<PlanPrice>(PRICES_MAX, |query| {
        query
            .filter(of)
            .filter(column::PlanPrice::Mode.eq(owner.mode.as_str()))
            .filter(column::PlanPrice::RetiredAtMs.is_null())
    });
    Ok(rows.await?)
}

/// The marks with that of one subject set or taken away; `None` where none is left.
fn with(drift: Option<&str>, subject: &str, what: Option<&str>) -> Option<String> {
    let marks = drift.and_then(|text| serde_json::from_str(text).ok());
    let mut marks: serde_json::Map<String, serde_json::Value> = marks.unwrap_or_default();
    marks.remove(subject);
    if let Some(what) = what {
        marks.insert(subject.to_owned(), what.into());
    }
    (!marks.is_empty()).then(|| json!(marks).to_string())
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
