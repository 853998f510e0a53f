//! What owners changed of their products and prices in Stripe's own dashboard: marked, not fought.
//!
//! In: events of products and prices, the schedule. Out: what differs now, in the rows of the plans, which REST shows and a sync can mend.
//! Always holds: plans alone are asked about, whatever else the owner sells; however many events of a product wait, its plan is
//! compared once for all of them.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait as _, Condition, QueryFilter as _};

use super::{Owner, SettleError, Settled, Settler, Under};
use crate::billing::BillingError;
use crate::billing::catalogue::drift::{self, Difference};
use crate::storage::{Job, Plan, PlanPrice, column};

/// Rows of a product that are looked at.
const PRICES_MAX: u64 = 1_000;

/// A plan's row in force, and what differs at Stripe.
type Compared = (PlanPrice, Vec<Difference>);

impl Settler {
    pub(super) async fn product(
        &self,
        owner: &Owner,
        id: &str,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        let of = Condition::all().add(column::PlanPrice::ProductId.eq(id));
        self.plans_of(owner, of, job).await
    }

    /// A price whose event does not say of which product it is.
    pub(super) async fn price(
        &self,
        owner: &Owner,
        id: &str,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        let of = Condition::any()
            .add(column::PlanPrice::PriceId.eq(id))
            .add(column::PlanPrice::MeteredPriceId.eq(id));
        self.plans_of(owner, of, job).await
    }

    async fn plans_of(
        &self,
        owner: &Owner,
        of: Condition,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        let tenant = self.store.tenant(&owner.account_id);
        let rows = tenant.all::<PlanPrice>(PRICES_MAX, |query| {
            query
                .filter(of)
                .filter(column::PlanPrice::Mode.eq(owner.mode.as_str()))
                .filter(column::PlanPrice::StripeAccount.eq(owner.stripe_account.as_str()))
                .filter(column::PlanPrice::RetiredAtMs.is_null())
        });
        let plans: BTreeSet<String> = rows.await?.into_iter().map(|row| row.plan_id).collect();
        if plans.is_empty() {
            return Ok(Settled::Nothing("no plan is sold by it"));
        }
        let mut compared = Vec::new();
        for id in &plans {
            if let Some(plan) = tenant.get::<Plan>(id).await? {
                compared.extend(self.compare(owner, &plan).await?);
            }
        }
        let mut change = self.change(owner).await?;
        for (row, found) in &compared {
            drift::mark(&mut change, row, found).await?;
        }
        Under { subscription: None, job: Some(job) }.commit(change).await?;
        Ok(Settled::Written)
    }

    async fn compare(&self, owner: &Owner, plan: &Plan) -> Result<Option<Compared>, SettleError> {
        let looked = drift::look(&self.store, &self.stripe, &owner.scope(), plan).await;
        looked.map_err(|error| match error {
            BillingError::Storage(error) => error.into(),
            BillingError::Stripe(error) => error.into(),
            error => SettleError::Permanent(format!("the plan {}: {error}", plan.id)),
        })
    }

    /// Compares a plan with what its owner's account has of it, though nobody told of a change; says whether it was compared, and whether
    /// it is marked otherwise since.
    ///
    /// # Errors
    /// As [`Settler::settle`].
    pub async fn compare_plan(
        &self,
        owner: &Owner,
        plan: &Plan,
    ) -> Result<(bool, bool), SettleError> {
        let Some((row, found)) = self.compare(owner, plan).await? else {
            return Ok((false, false));
        };
        let mut change = self.change(owner).await?;
        let is_marked = drift::mark(&mut change, &row, &found).await?;
        if is_marked {
            change.commit().await?;
        }
        Ok((true, is_marked))
    }
}
