//! A smaller plan that waited for the period's end, put back where the move up that took its place came to nothing.
//!
//! In: a subscription as fetched, under its lease. Out: the same, with what waited there again.
//! Always holds: a move up that is not paid at once ends no downgrade: whoever made it holds the lease meanwhile, so whatever is found
//! here is what it left behind, or what a process that died did; doing it again changes nothing.

use super::{Owner, SettleError, Settler};
use crate::billing::catalogue;
use crate::billing::stripe::{Subscription as Fetched, SubscriptionUpdate};
use crate::billing::waiting::{self, Notes};
use crate::ids::new_id;

impl Settler {
    pub(super) async fn put_back(
        &self,
        owner: &Owner,
        fetched: Fetched,
    ) -> Result<Fetched, SettleError> {
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
            metadata: Notes::default().metadata(),
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
        Ok(Some(SubscriptionUpdate {
            items: waiting::parts(fetched, &row),
            proration_behavior: Some("none".to_owned()),
            metadata: Notes::paid(&licensed.price.id, waits, end_s).metadata(),
            ..SubscriptionUpdate::default()
        }))
    }
}
