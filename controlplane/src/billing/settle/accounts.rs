//! Whether a connected account can sell, and whether it is connected still.
//!
//! In: events of an account; whoever has a doubt. Out: its readiness, or that it is lost.
//! Always holds: an account is lost only where Stripe refuses us for it, and either an event of its own says that we may not act
//! for it any more, or the key is of the platform that acted for it before: the key of another one is refused for all accounts alike.
//! An old such event finds an account that was connected again, and changes nothing.

use super::{Owner, SettleError, Settled, Settler, Under};
use crate::billing::connect::{self, AccountSettings};
use crate::billing::stripe::{EventQuery, Mode};
use crate::storage::{Change, Job, StripeAccount};

const DEAUTHORIZED: &str = "account.application.deauthorized";

/// Whether we may act for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// We may.
    Ours,
    /// We may not any more.
    Lost,
    /// We are refused, and it may be for a key that is not the right one.
    Refused,
}

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
                Some(account) => {
                    connect::fill(&mut after, account);
                    if after != before {
                        change.update(&before, after).await?;
                    }
                }
                None => {
                    connect::lose_in(&mut change, &before).await?;
                }
            }
        }
        Under { subscription: None, job: Some(job) }.commit(change).await?;
        Ok(Settled::Written)
    }

    /// Asks whether we may act for an account, where no event said so, and writes down what that means. `platform` is the account of
    /// the key that is asked with.
    ///
    /// # Errors
    /// When Stripe or the database cannot be asked.
    pub async fn check_account(
        &self,
        row: &StripeAccount,
        platform: &str,
    ) -> Result<Standing, SettleError> {
        let owner = Owner {
            account_id: row.account_id.clone(),
            mode: Mode::stored(&row.mode)?,
            stripe_account: row.stripe_id.clone(),
        };
        let standing = match self.stripe.own_account(&owner.scope()).await {
            Ok(_) => Standing::Ours,
            Err(error) if error.is_not_ours() => {
                let known = AccountSettings::of(row).platform;
                match known.as_deref() == Some(platform) {
                    true => Standing::Lost,
                    false => Standing::Refused,
                }
            }
            // A key that may not look at accounts; what else it may do is seen when it is done.
            Err(error) if error.is_access_lost() => return Ok(Standing::Refused),
            Err(error) => return Err(error.into()),
        };
        let is_back = standing == Standing::Ours && connect::is_not_shown(row);
        let shown = match is_back {
            true => Some(self.stripe.account(owner.mode, &owner.stripe_account).await?),
            false => None,
        };
        let mut change = self.change(&owner).await?;
        let before = change.lock::<StripeAccount>(&row.id).await?;
        let Some(before) = before.filter(|row| row.lost_at_ms.is_none()) else {
            return Ok(standing);
        };
        let mut after = before.clone();
        match standing {
            Standing::Lost => {
                tracing::warn!(account = row.stripe_id, "a connected account was taken away");
                connect::lose_in(&mut change, &before).await?;
                change.commit().await?;
                return Ok(standing);
            }
            Standing::Refused => connect::fill_not_shown(&mut after),
            Standing::Ours => {
                connect::fill_platform(&mut after, platform);
                if let Some(shown) = &shown {
                    connect::fill(&mut after, shown);
                }
            }
        }
        written(change, &before, after).await?;
        Ok(standing)
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

/// Commits what differs.
async fn written(
    mut change: Change,
    before: &StripeAccount,
    after: StripeAccount,
) -> Result<(), SettleError> {
    if after != *before {
        change.update(before, after).await?;
        change.commit().await?;
    }
    Ok(())
}
