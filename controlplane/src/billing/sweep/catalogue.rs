//! Plans, compared with what Stripe has of them.
//!
//! In: the place of a sweep. Out: some plans marked with what differs now, and the place after them.
//! Always holds: nothing is changed at Stripe; a plan that cannot be read holds up no other.

use super::Sweeper;
use crate::billing::settle::{Owner, SettleError};
use crate::billing::stripe::Mode;
use crate::storage::{Plan, StorageError, StripeSweep, Window};

/// Plans between two extensions of the sweep's lease: four calls each.
const PLANS_PAGE: u64 = 10;

impl Sweeper {
    /// Some plans, newest first; says whether there are more.
    pub(super) async fn catalogue(
        &self,
        sweep: &mut StripeSweep,
        mode: Mode,
    ) -> Result<bool, SettleError> {
        let owner = Owner {
            account_id: sweep.account_id.clone(),
            mode,
            stripe_account: sweep.stripe_account.clone(),
        };
        let tenant = self.settler.store().tenant(&sweep.account_id);
        let window = Window { limit: PLANS_PAGE, starting_after: sweep.cursor.as_deref() };
        let Some(page) = tenant.page::<Plan>(window, |query| query).await? else {
            return Ok(false);
        };
        for plan in &page.rows {
            match self.settler.compare_plan(&owner, plan).await {
                Ok((is_compared, is_marked)) => {
                    sweep.seen = sweep.seen.saturating_add(i64::from(is_compared));
                    sweep.repaired = sweep.repaired.saturating_add(i64::from(is_marked));
                }
                // Whoever changed it meanwhile has looked, or is told of it.
                Err(SettleError::Storage(StorageError::Stale)) => {}
                Err(SettleError::Permanent(error)) => {
                    tracing::warn!(plan = plan.id, error, "a plan cannot be compared with Stripe");
                }
                Err(error) => return Err(error),
            }
        }
        sweep.cursor = page.rows.last().map(|plan| plan.id.clone());
        Ok(page.has_more && sweep.cursor.is_some())
    }
}
