//! Whether a connected account can sell, and whether it is connected still.
//!
//! In: events of an account. Out: its readiness, or that it is lost.
//! Always holds: an account is lost only where an event of its own says that we may not act for it any more and Stripe does
//! refuse us; an old such event finds an account that was connected again, and changes nothing.

use super::{Owner, SettleError, Settled, Settler, Under};
use crate::billing::stripe::EventQuery;
use crate::billing::{catalogue, connect};
use crate::storage::{Job, StripeAccount};

const DEAUTHORIZED: &str = "account.application.deauthorized";
const LOST: &str = "lost";

impl Settler {
    pub(super) async fn account(&self, owner: &Owner, job: &Job) -> Result<Settled, SettleError> {
        let is_told = job.events.iter().any(|event| event.kind == DEAUTHORIZED);
        let fetched = match is_told && self.is_lost(owner).await? {
            true => None,
            false => Some(self.stripe.account(owner.mode, &owner.stripe_account).await?),
        };
        let found = self.store.stripe_account_named(&owner.stripe_account, owner.mode.as_str());
        let Some(found) = found.await?.filter(|row| row.account_id == owner.account_id) else {
            return Ok(Settled::Nothing("the account is lost already"));
        };
        let mut change = self.change(owner).await?;
        let before = change.lock::<StripeAccount>(&found.id).await?;
        let before = before.filter(|row| row.lost_at_ms.is_none());
        if let Some(before) = before {
            let mut after = before.clone();
            match &fetched {
                Some(account) => connect::fill(&mut after, account),
                None => {
                    LOST.clone_into(&mut after.status);
                    after.lost_at_ms = Some(change.now_ms());
                }
            }
            if after != before {
                let after = change.update(&before, after).await?;
                if after.lost_at_ms.is_some() {
                    catalogue::withdraw_all(&mut change, owner.mode).await?;
                }
            }
        }
        Under { subscription: None, job: Some(job) }.commit(change).await?;
        Ok(Settled::Written)
    }

    /// Whether Stripe refuses to let us act for the account: asked with a call on its behalf, since a platform may be shown
    /// accounts that it made when it may do nothing with them any more.
    async fn is_lost(&self, owner: &Owner) -> Result<bool, SettleError> {
        let query = EventQuery { limit: Some(1), ..EventQuery::default() };
        match self.stripe.events(&owner.scope(), &query).await {
            Ok(_) => Ok(false),
            Err(error) if error.is_access_lost() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
