//! Which of a buyer's customers at Stripe pays for what.
//!
//! In: a buyer, a plan; a subscription. Out: whether a customer at Stripe has a subscription that the plan's meter counts; the account
//! that has what is paid.
//! Always holds: Stripe's meters count by customer and bill the sum to each subscription on them, so no customer at Stripe may have
//! two on one meter. Whoever buys a plan with overage a second time becomes another customer there, and the same one here. Whatever others
//! buy meanwhile keeps nobody waiting: only what is this buyer's is looked at.

use sea_orm::{ColumnTrait as _, Condition, QueryFilter as _, QuerySelect as _, QueryTrait as _};
use serde_json::Value as Json;

use super::checkout::may_be_paid;
use super::stripe::{Mode, Scope};
use crate::storage::{
    Checkout, StorageResult, StripeAccount, StripeSubscription, Subscription, Tenant, column,
};

/// Stripe's words for subscriptions that are billed no more.
pub const OVER: &[&str] = &["canceled", "incomplete_expired"];

/// A customer at Stripe, as a buyer of a plan with overage.
#[derive(Clone, Copy, Debug)]
pub struct Payer<'a> {
    /// Which world.
    pub mode: Mode,
    /// The buyer.
    pub customer_id: &'a str,
    /// One of their customers at Stripe.
    pub stripe_id: &'a str,
    /// The plan, whose meter it is about.
    pub plan_id: &'a str,
}

impl Payer<'_> {
    /// Whether the plan's meter counts another subscription of this customer than the one named.
    ///
    /// # Errors
    /// When the database cannot be asked; so for all below.
    pub async fn has_another(
        &self,
        tenant: &Tenant<'_>,
        except: Option<&str>,
    ) -> StorageResult<bool> {
        let of_buyer = || {
            tenant
                .select::<Subscription>()
                .filter(column::Subscription::CustomerId.eq(self.customer_id))
                .filter(column::Subscription::ArchivedAtMs.is_null())
                .filter(column::Subscription::Id.ne(except.unwrap_or_default()))
                .select_only()
                .column(column::Subscription::Id)
        };
        let on_plan = of_buyer().filter(column::Subscription::PlanId.eq(self.plan_id));
        let id = column::StripeSubscription::SubscriptionId;
        let is_on_plan = Condition::any()
            .add(id.in_subquery(on_plan.into_query()))
            .add(column::StripeSubscription::PendingPlanId.eq(self.plan_id));
        // One that nobody knows the payer of may be this one's.
        let facts = column::StripeSubscription::Facts;
        let is_theirs = Condition::any()
            .add(facts.contains(named("customer", self.stripe_id)))
            .add(facts.not_like("%\"customer\":\"%"));
        let others = tenant.count::<StripeSubscription>(|query| {
            query
                .filter(id.in_subquery(of_buyer().into_query()))
                .filter(column::StripeSubscription::Mode.eq(self.mode.as_str()))
                .filter(column::StripeSubscription::StripeStatus.is_not_in(OVER.iter().copied()))
                .filter(is_on_plan)
                .filter(is_theirs)
        });
        Ok(others.await? > 0)
    }

    /// Whether a checkout of the plan that may still be paid is for this customer.
    pub async fn is_buying(&self, tenant: &Tenant<'_>, now_ms: i64) -> StorageResult<bool> {
        let theirs = tenant.count::<Checkout>(|query| {
            query
                .filter(column::Checkout::PlanId.eq(self.plan_id))
                .filter(column::Checkout::Mode.eq(self.mode.as_str()))
                .filter(
                    column::Checkout::Settings.contains(named("stripe_customer", self.stripe_id)),
                )
                .filter(may_be_paid(now_ms))
        });
        Ok(theirs.await? > 0)
    }
}

/// A field of text as rows have it in their JSON.
fn named(field: &str, value: &str) -> String {
    format!("\"{field}\":\"{value}\"")
}

/// Whether Stripe charges no more for it, as far as is known.
#[must_use]
pub fn is_over(paid: &StripeSubscription) -> bool {
    OVER.contains(&paid.stripe_status.as_str())
}

/// The customer at Stripe that pays for a subscription, as far as it is known.
#[must_use]
pub fn stripe_customer(paid: &StripeSubscription) -> Option<String> {
    let facts: Json = serde_json::from_str(&paid.facts).unwrap_or_default();
    facts["customer"].as_str().map(ToOwned::to_owned)
}

/// The connected account that a subscription was sold through, as calls name it; none where it is not connected any more, whichever other
/// one took its place.
///
/// # Errors
/// When the database cannot be asked, or the row's mode is none.
pub async fn scope_of(
    tenant: &Tenant<'_>,
    paid: &StripeSubscription,
) -> StorageResult<Option<Scope>> {
    let mode = Mode::stored(&paid.mode)?;
    let own = tenant.one::<StripeAccount>(|query| {
        query
            .filter(column::StripeAccount::Mode.eq(mode.as_str()))
            .filter(column::StripeAccount::StripeId.eq(paid.stripe_account.as_str()))
            .filter(column::StripeAccount::LostAtMs.is_null())
    });
    Ok(own.await?.map(|own| Scope::connected(mode, &own.stripe_id)))
}
