//! Whether connected accounts are ours to call still: the event that says otherwise may never come.
//!
//! In: each account before its events are listed, and those for which any call of this process was refused. Out: whether it is lost.
//! Always holds: the platform that the key is of is asked for at most once a pass, and where that cannot be had nothing is lost.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::Sweeper;
use crate::billing::settle::{SettleError, Standing};
use crate::billing::stripe::{Mode, Scope};
use crate::storage::StripeAccount;

/// The platforms of the keys, as far as they were asked for.
#[derive(Debug, Default)]
pub(super) struct Platforms {
    known: BTreeMap<Mode, Option<String>>,
}

impl Sweeper {
    /// Looks at the accounts for which calls of this process were refused.
    pub(super) async fn check_suspects(
        &self,
        platforms: &mut Platforms,
    ) -> Result<(), SettleError> {
        let (store, stripe) = (self.settler.store(), self.settler.stripe());
        for (mode, stripe_id) in stripe.take_suspects() {
            let row = match store.stripe_account_named(&stripe_id, mode.as_str()).await {
                Ok(row) => row,
                Err(error) => {
                    stripe.keep_suspect(mode, &stripe_id);
                    return Err(error.into());
                }
            };
            if let Some(row) = row
                && let Err(error) = self.standing(&row, mode, platforms).await
            {
                stripe.keep_suspect(mode, &stripe_id);
                tracing::debug!(%error, account = stripe_id, "a connected account is looked at later");
            }
        }
        Ok(())
    }

    /// Where an account stands. One that cannot be looked at is as it was.
    pub(super) async fn is_lost(
        &self,
        row: &StripeAccount,
        mode: Mode,
        platforms: &mut Platforms,
    ) -> Result<bool, SettleError> {
        match self.standing(row, mode, platforms).await {
            Ok(standing) => Ok(standing == Some(Standing::Lost)),
            Err(SettleError::Stripe(error)) => {
                tracing::debug!(%error, account = row.stripe_id, "a connected account is looked at later");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn standing(
        &self,
        row: &StripeAccount,
        mode: Mode,
        platforms: &mut Platforms,
    ) -> Result<Option<Standing>, SettleError> {
        let platform = self.platform(mode, platforms).await?;
        let Some(platform) = platform else { return Ok(None) };
        Ok(Some(self.settler.check_account(row, platform).await?))
    }

    /// The account of our own key; `None` where it may not say whose it is.
    async fn platform<'a>(
        &self,
        mode: Mode,
        platforms: &'a mut Platforms,
    ) -> Result<Option<&'a str>, SettleError> {
        let known = match platforms.known.entry(mode) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let asked = self.settler.stripe().own_account(&Scope::platform(mode)).await;
                let known = match asked {
                    Ok(platform) => Some(platform.id),
                    Err(error) if !error.is_temporary() => {
                        tracing::debug!(%error, "the platform's own account cannot be had");
                        None
                    }
                    Err(error) => return Err(error.into()),
                };
                unknown.insert(known)
            }
        };
        Ok(known.as_deref())
    }
}
