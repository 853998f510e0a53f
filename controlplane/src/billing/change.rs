//! Changes of a subscription that was bought: another plan, its end, its going on; and the customer portal.
//!
//! In: a subscription, what it is to be. Out: the same at Stripe, fetched and written down here at once.
//! Always holds: Stripe is asked what is before it is told what is to be, so that a change that was made is not made again.

mod moves;

pub use moves::{Moved, Preview};

use std::time::Duration;

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::catalogue::make::settle;
use super::error::RETRY_AFTER_S;
use super::settle::{Owner, SettleError};
use super::stripe::{
    Cancellation, Mode, PortalRequest, Scope, Subscription as Fetched, SubscriptionUpdate,
};
use super::{Billing, BillingError, BillingResult, calls, waiting};
use crate::ids::new_id;
use crate::overage::{Left, OverageTeller};
use crate::storage::{Lease, StripeSubscription, Subscription, column};

/// How often and after what pause a worker is waited for that writes down the same subscription: five seconds in all.
const BUSY_LOOKS: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// When a change counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At once.
    Now,
    /// From the end of the period that was paid.
    PeriodEnd,
}

/// A subscription that was bought, and where.
#[derive(Debug)]
pub struct Bought {
    account_id: String,
    row: Subscription,
    known: StripeSubscription,
    scope: Scope,
}

/// A subscription of the account's that was bought through Stripe.
///
/// # Errors
/// When there is none, it was not bought, or the account is not connected.
pub async fn find(billing: &Billing, account_id: &str, id: &str) -> BillingResult<Bought> {
    let tenant = billing.store.tenant(account_id);
    let row = tenant.get::<Subscription>(id).await?;
    let row = row.ok_or(BillingError::NotFound("subscription"))?;
    let known = tenant
        .one::<StripeSubscription>(|query| {
            query.filter(column::StripeSubscription::SubscriptionId.eq(id))
        })
        .await?;
    let known = known.ok_or_else(|| {
        BillingError::Conflict(
            "the subscription was not bought through Stripe; change it with PATCH".to_owned(),
        )
    })?;
    let mode = Mode::stored(&known.mode)?;
    let scope = billing.scope(account_id, mode).await?;
    if scope.stripe_account.as_ref() != Some(&known.stripe_account) {
        let text = "the subscription was sold through a Stripe account that is connected no more; its owner changes it there";
        return Err(BillingError::Conflict(text.to_owned()));
    }
    Ok(Bought { account_id: account_id.to_owned(), row, known, scope })
}

impl Bought {
    /// Ends it, at once or with the period.
    ///
    /// # Errors
    /// When Stripe or the database cannot be asked. Done again, it goes on.
    pub async fn cancel(&self, billing: &Billing, when: When) -> BillingResult<()> {
        let fetched = self.fetch(billing).await?;
        match when {
            _ if is_over(&fetched) => {}
            When::PeriodEnd if fetched.cancel_at_period_end => {}
            When::PeriodEnd => self.set_end(billing, true).await?,
            When::Now => {
                // The last invoice is made with the end, and takes what was told before it.
                let or_else = "; or cancel with the period's end";
                self.tell_before(billing, "no invoice comes after the last one", or_else).await?;
                // Nobody is to pay for a plan that they do not get any more.
                self.give_up(billing, &fetched).await?;
                let request = Cancellation { invoice_now: Some(true), prorate: None };
                let id = &self.known.stripe_id;
                match billing.stripe.cancel_subscription(&self.scope, id, request).await {
                    Err(error) if error.is_missing() => {}
                    // It may be over all the same.
                    Err(error) if error.is_uncertain() && is_over(&self.fetch(billing).await?) => {
                        tracing::debug!(%error, "a cancellation was done all the same");
                    }
                    outcome => drop(outcome?),
                }
            }
        }
        self.look(billing).await
    }

    /// Takes back that it ends with the period.
    ///
    /// # Errors
    /// When it is over, or Stripe or the database cannot be asked. Done again, it goes on.
    pub async fn resume(&self, billing: &Billing) -> BillingResult<()> {
        let fetched = self.fetch(billing).await?;
        if is_over(&fetched) {
            let text = "the subscription is over; the customer can buy again with a new checkout";
            return Err(BillingError::Conflict(text.to_owned()));
        }
        if fetched.cancel_at_period_end {
            self.set_end(billing, false).await?;
        }
        self.look(billing).await
    }

    /// A way into Stripe's portal for the customer, where they change their card and see invoices.
    ///
    /// # Errors
    /// When Stripe or the database cannot be asked.
    pub async fn portal(
        &self,
        billing: &Billing,
        return_url: Option<String>,
    ) -> BillingResult<String> {
        let facts: serde_json::Value =
            serde_json::from_str(&self.known.facts).map_err(BillingError::damaged)?;
        let customer = match facts.get("customer").and_then(|id| id.as_str()) {
            Some(id) => id.to_owned(),
            None => {
                let fetched = self.fetch(billing).await?;
                fetched.customer.ok_or(BillingError::NotFound("customer at Stripe"))?
            }
        };
        let request = PortalRequest { customer, return_url, flow_data: None };
        // It makes nothing that lasts, so its key need not be stored.
        let key = new_id("pf", &**billing.store.world());
        Ok(billing.stripe.create_portal_session(&self.scope, &request, &key).await?.url)
    }

    /// Our row as it is now.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn row(&self, billing: &Billing) -> BillingResult<Subscription> {
        let row = billing.store.tenant(&self.account_id).get(&self.row.id).await?;
        row.ok_or(BillingError::NotFound("subscription"))
    }

    async fn fetch(&self, billing: &Billing) -> BillingResult<Fetched> {
        Ok(billing.stripe.subscription(&self.scope, &self.known.stripe_id).await?)
    }

    /// Tells Stripe what was used past the limit, due or not, before a step after which it would be billed no more.
    async fn tell_before(&self, billing: &Billing, why: &str, or_else: &str) -> BillingResult<()> {
        let teller = OverageTeller::new(billing.store.clone(), billing.stripe.clone());
        match teller.tell_left(&self.account_id, &self.row.id).await? {
            Left::Nothing => Ok(()),
            Left::Waits => {
                let text = format!(
                    "{why}, and overage cannot be told to Stripe just now; nothing was changed, so send the request again, with the same \
                     Idempotency-Key if it has one"
                );
                Err(BillingError::NotNow { text, retry_after_s: RETRY_AFTER_S })
            }
            Left::MeterOff(off) => {
                let text = format!("{why}, and overage cannot be told for it: {off}{or_else}");
                Err(BillingError::Conflict(text))
            }
        }
    }

    async fn set_end(&self, billing: &Billing, is_to_end: bool) -> BillingResult<()> {
        let request = SubscriptionUpdate {
            cancel_at_period_end: Some(is_to_end),
            ..SubscriptionUpdate::default()
        };
        let is_there = |fetched: &Fetched| fetched.cancel_at_period_end == is_to_end;
        self.update(billing, &format!("end/{is_to_end}"), &request, is_there).await
    }

    /// Updates at Stripe what was looked at and is not so; where the outcome is not known, looks once more.
    async fn update(
        &self,
        billing: &Billing,
        what: &str,
        request: &SubscriptionUpdate,
        is_there: impl Fn(&Fetched) -> bool,
    ) -> BillingResult<()> {
        let (store, id) = (&billing.store, &self.known.stripe_id);
        let purpose = self.purpose(what);
        let key = calls::again_or_anew(store, &self.account_id, &purpose, request).await?;
        let outcome = billing.stripe.update_subscription(&self.scope, id, request, &key).await;
        if let Err(error) = &outcome
            && error.is_uncertain()
            && self.fetch(billing).await.is_ok_and(|fetched| is_there(&fetched))
        {
            tracing::debug!(%error, "a change was made all the same");
            return Ok(calls::done(store, &self.account_id, &purpose, id).await?);
        }
        settle(billing, &self.account_id, &purpose, outcome).await.map(drop)
    }

    /// What a call is for, as [`calls`] knows it.
    fn purpose(&self, what: &str) -> String {
        format!("{what}/{}", self.known.stripe_id)
    }

    /// Gives up a move that waits for its payment; false where it was paid just before.
    async fn give_up(&self, billing: &Billing, fetched: &Fetched) -> BillingResult<bool> {
        let key = new_id("pf", &**billing.store.world());
        Ok(waiting::give_up(&billing.stripe, &self.scope, fetched, &key).await?)
    }

    /// Writes down here what Stripe has now.
    async fn look(&self, billing: &Billing) -> BillingResult<()> {
        let lease = self.alone(billing).await?;
        self.look_under(billing, &lease).await
    }

    async fn look_under(&self, billing: &Billing, lease: &Lease) -> BillingResult<()> {
        let (owner, id) = (self.owner(), &self.known.stripe_id);
        Ok(billing.settler.look_under(&owner, id, lease).await.map(drop)?)
    }

    /// The right to be the only one who writes down, or changes, what Stripe has of it.
    async fn alone(&self, billing: &Billing) -> BillingResult<Lease> {
        let (owner, id) = (self.owner(), &self.known.stripe_id);
        for _ in 0..BUSY_LOOKS {
            match billing.settler.take(&owner, id).await {
                // What Stripe tells of the same change comes at the same time; it may have fetched just before.
                Err(SettleError::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
                outcome => return Ok(outcome?),
            }
        }
        match billing.settler.take(&owner, id).await {
            Err(SettleError::Busy) => Err(busy(billing.settler.held_ms(&owner, id).await?)),
            outcome => Ok(outcome?),
        }
    }

    fn owner(&self) -> Owner {
        Owner {
            account_id: self.account_id.clone(),
            mode: self.scope.mode,
            stripe_account: self.scope.stripe_account.clone().unwrap_or_default(),
        }
    }
}

/// Somebody else has the subscription, for so long at the most.
fn busy(held_ms: i64) -> BillingError {
    let retry_after_s = u64::try_from(held_ms).unwrap_or_default().div_ceil(1_000).max(1);
    let text = format!(
        "another change of this subscription is under way, or a process that made one has died: then it can be changed again in \
         {retry_after_s} s at the latest, and what that one had begun is put right first; look at the subscription, and send the request \
         again then, with the same Idempotency-Key if it has one"
    );
    BillingError::NotNow { text, retry_after_s }
}

fn is_over(fetched: &Fetched) -> bool {
    matches!(fetched.status.as_str(), "canceled" | "incomplete_expired")
}
