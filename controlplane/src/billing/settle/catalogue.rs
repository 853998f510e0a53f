//! What owners changed of their products and prices in Stripe's own dashboard: marked, not fought.
//!
//! In: events of products and prices. Out: the differences in our rows, which REST shows and a sync can mend.
//! Always holds: what is marked is what differs now, and the mark goes when nothing does.

use sea_orm::{ColumnTrait as _, Condition, QueryFilter as _};

use super::{Owner, SettleError, Settled, Settler};
use crate::billing::catalogue::drift;
use crate::storage::{PlanPrice, column};

/// Prices of a product that are looked at.
const PRICES_MAX: u64 = 1_000;

impl Settler {
    pub(super) async fn price(&self, owner: &Owner, id: &str) -> Result<Settled, SettleError> {
        let of = Condition::any()
            .add(column::PlanPrice::PriceId.eq(id))
            .add(column::PlanPrice::MeteredPriceId.eq(id));
        self.look_again(owner, of).await
    }

    pub(super) async fn product(&self, owner: &Owner, id: &str) -> Result<Settled, SettleError> {
        self.look_again(owner, Condition::all().add(column::PlanPrice::ProductId.eq(id))).await
    }

    async fn look_again(&self, owner: &Owner, of: Condition) -> Result<Settled, SettleError> {
        let tenant = self.store.tenant(&owner.account_id);
        let rows = tenant.all::<PlanPrice>(PRICES_MAX, |query| {
            query
                .filter(of)
                .filter(column::PlanPrice::Mode.eq(owner.mode.as_str()))
                .filter(column::PlanPrice::RetiredAtMs.is_null())
        });
        let rows = rows.await?;
        for row in &rows {
            drift::look_again(&self.billing, &owner.account_id, row).await?;
        }
        Ok(Settled::Nothing(if rows.is_empty() { "it is none of ours" } else { "looked at again" }))
    }
}
