//! Whether a connected account can sell, and whether it is connected still.
//!
//! In: events of an account. Out: its readiness, or that it is lost.
//! Always holds: what an event says is asked of Stripe, so an old one of an account that was connected again since changes
//! nothing; what sites of a lost account sold goes on to its period's end ([`crate::billing::sweep`] ends it then).

use super::{Owner, SettleError, Settled, Settler};
use crate::billing::connect;

impl Settler {
    pub(super) async fn account(&self, owner: &Owner) -> Result<Settled, SettleError> {
        let row = self.store.stripe_account_named(&owner.stripe_account, owner.mode.as_str());
        let Some(row) = row.await?.filter(|row| row.account_id == owner.account_id) else {
            return Ok(Settled::Nothing("the account is lost already"));
        };
        let after = connect::refresh(&self.billing, &row).await?;
        if after == row {
            return Ok(Settled::Nothing("the account is as it was"));
        }
        Ok(Settled::Nothing("the account was looked at again"))
    }
}
