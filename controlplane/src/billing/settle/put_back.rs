//! What a change left to be done at Stripe: a smaller plan that waited for the period's end, put back where the move up that took its
//! place came to nothing; the meter of a plan whose price is there already.
//!
//! In: a subscription as fetched, under its lease. Out: the same, with what waited there again and its own meter.
//! Always holds: a move up that is not paid at once ends no downgrade: whoever made it holds the lease meanwhile, so whatever is found
//! here is what it left behind, or what a process that died did; doing it again changes nothing. What a meter was told is billed when
//! its part is replaced: with the next invoice.

use super::{Owner, SettleError, Settler};
use crate::billing::catalogue;
use crate::billing::stripe::{Subscription as Fetched, SubscriptionUpdate};
use crate::billing::waiting::{self, Notes};
use crate::ids::new_id;
use crate::storage::StripeSubscription;

impl Settler {
    /// Does what is left to be done of a subscription.
    pub(super) async fn finish(
        &self,
        owner: &Owner,
        facts: &StripeSubscription,
        fetched: Fetched,
    ) -> Result<Fetched, SettleError> {
        let fetched = self.put_back(owner, fetched).await?;
        self.put_meter(owner, facts, fetched).await
    }

    async fn put_back(&self, owner: &Owner, fetched: Fetched) -> Result<Fetched, SettleError> {
        if !waiting::is_begun(&fetched) {
            return Ok(fetched);
        }
        let (scope, key) = (owner.scope(), || new_id("pf", &**self.store.world()));
        let fetched = match waiting::waiting_price(&fetched) {
            // Until the next period nobody would look again, and it would begin at the larger price.
            Some(_) if fetched.pending_update.is_some() => {
                waiting::give_up(&self.stripe, &scope, &fetched, &key()).await?;
                self.stripe.subscription(&scope, &fetched.id).await?
            }
            _ => fetched,
        };
        let forgets = SubscriptionUpdate {
            metadata: waiting::nothing_waits(),
            ..SubscriptionUpdate::default()
        };
        let request = self.what_waited(owner, &fetched).await?.unwrap_or_else(|| forgets.clone());
        let updated = self.stripe.update_subscription(&scope, &fetched.id, &request, &key()).await;
        match updated {
            Err(error) if !error.is_temporary() => {
                // As where the owner has taken the price away in their dashboard meanwhile.
                tracing::warn!(%error, subscription = fetched.id, "a smaller plan that waited cannot be put back");
                Ok(self.stripe.update_subscription(&scope, &fetched.id, &forgets, &key()).await?)
            }
            updated => Ok(updated?),
        }
    }

    /// What puts the price that waited there again, without a credit; none where nothing waits any more.
    async fn what_waited(
        &self,
        owner: &Owner,
        fetched: &Fetched,
    ) -> Result<Option<SubscriptionUpdate>, SettleError> {
        let (Some(waits), Some(licensed)) = (waiting::waiting_price(fetched), fetched.licensed())
        else {
            return Ok(None);
        };
        let tenant = self.store.tenant(&owner.account_id);
        let Some(row) = catalogue::plan_of_price(&tenant, waits, owner.mode).await? else {
            return Ok(None);
        };
        let end_s = licensed.current_period_end.unwrap_or_default();
        let notes = Notes::paid(&licensed.price.id, waits, end_s);
        let notes = match waiting::metered_part(fetched, &row) {
            Some(_) => notes.with_meter_of(waits),
            None => notes,
        };
        Ok(Some(SubscriptionUpdate {
            items: vec![waiting::licensed_part(fetched, &row)],
            proration_behavior: Some("none".to_owned()),
            metadata: notes.metadata(),
            ..SubscriptionUpdate::default()
        }))
    }

    /// Has the meter of a price take the place of the one that is there, and what that was told billed with the next invoice.
    async fn put_meter(
        &self,
        owner: &Owner,
        facts: &StripeSubscription,
        fetched: Fetched,
    ) -> Result<Fetched, SettleError> {
        let Some(price_id) = waiting::metered_by(&fetched) else { return Ok(fetched) };
        let tenant = self.store.tenant(&owner.account_id);
        let row = catalogue::plan_of_price(&tenant, price_id, owner.mode).await?;
        let part = row.as_ref().and_then(|row| waiting::metered_part(&fetched, row));
        if part.is_some() {
            // It was on when the move began; what is used since is told to it while it is there.
            self.tell_left(owner, facts, "its meter is to leave the subscription").await?;
        }
        let request = SubscriptionUpdate {
            proration_behavior: part.is_some().then(|| "create_prorations".to_owned()),
            items: part.into_iter().collect(),
            metadata: waiting::meter_is_there(),
            ..SubscriptionUpdate::default()
        };
        let key = new_id("pf", &**self.store.world());
        let scope = owner.scope();
        match self.stripe.update_subscription(&scope, &fetched.id, &request, &key).await {
            // As where the owner has turned the price off in their dashboard: once it is on again, whoever looks next goes on.
            Err(error) if !error.is_temporary() && !error.is_for_the_key() => {
                tracing::warn!(%error, subscription = fetched.id, "the meter of its plan cannot be put into a subscription");
                Ok(fetched)
            }
            updated => Ok(updated?),
        }
    }
}
