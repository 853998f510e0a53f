//! Which of a buyer's customers at Stripe pays for what.
//!
//! In: a buyer, a plan; a subscription. Out: whether a customer at Stripe has a subscription that the plan's meter counts; the account
//! that has what is paid.
//! Always holds: Stripe's meters count by customer and bill the sum to each subscription on them, so no customer at Stripe may have
//! two on one meter. Whoever buys a plan with overage a second time becomes another customer there, and the same one here.

use sea_orm::{ColumnTrait as _, QueryFilter as _, QueryOrder as _};
use serde_json::Value as Json;

use super::checkout::CheckoutStatus;
use super::stripe::{Mode, Scope};
use crate::storage::{
    Checkout, StorageResult, StripeAccount, StripeSubscription, Subscription, Tenant, column,
};

/// Subscriptions of one buyer, and checkouts of one plan, that are looked at.
const ROWS_MAX: u64 = 1_000;
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
        let of_buyer = tenant.all::<Subscription>(ROWS_MAX, |query| {
            query
                .filter(column::Subscription::CustomerId.eq(self.customer_id))
                .filter(column::Subscription::ArchivedAtMs.is_null())
                .order_by_desc(column::Subscription::Key)
        });
        let others = of_buyer.await?;
        let others: Vec<_> =
            others.into_iter().filter(|row| Some(row.id.as_str()) != except).collect();
        let ids: Vec<&str> = others.iter().map(|row| row.id.as_str()).collect();
        let paid = tenant.all::<StripeSubscription>(ROWS_MAX, |query| {
            query
                .filter(column::StripeSubscription::SubscriptionId.is_in(ids))
                .filter(column::StripeSubscription::Mode.eq(self.mode.as_str()))
                .filter(column::StripeSubscription::StripeStatus.is_not_in(OVER.iter().copied()))
        });
        let is_counted = |paid: &StripeSubscription| {
            let row = others.iter().find(|row| row.id == paid.subscription_id);
            let is_on_plan = row.is_some_and(|row| row.plan_id == self.plan_id)
                || paid.pending_plan_id.as_deref() == Some(self.plan_id);
            is_on_plan && stripe_customer(paid).is_none_or(|id| id == self.stripe_id)
        };
        Ok(paid.await?.iter().any(is_counted))
    }

    /// Whether a checkout of the plan that may still be paid is for this customer.
    pub async fn is_buying(&self, tenant: &Tenant<'_>, now_ms: i64) -> StorageResult<bool> {
        let open = [CheckoutStatus::New, CheckoutStatus::Open, CheckoutStatus::Waiting];
        let open = tenant.all::<Checkout>(ROWS_MAX, |query| {
            query
                .filter(column::Checkout::PlanId.eq(self.plan_id))
                .filter(column::Checkout::Mode.eq(self.mode.as_str()))
                .filter(column::Checkout::Status.is_in(open.map(CheckoutStatus::as_str)))
                .order_by_desc(column::Checkout::Key)
        });
        let is_for = |row: &Checkout| {
            let settings: Json = serde_json::from_str(&row.settings).unwrap_or_default();
            let is_over = row.status == CheckoutStatus::Open.as_str()
                && row.expires_at_ms.is_some_and(|at_ms| at_ms < now_ms);
            !is_over && settings["stripe_customer"] == self.stripe_id
        };
        Ok(open.await?.iter().any(is_for))
    }
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
