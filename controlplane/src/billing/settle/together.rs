//! Many subscriptions of one account, fetched as lists instead of one by one.
//!
//! In: jobs of one account, under their leases, in the order in which their subscriptions were made. Out: what Stripe says of those that
//! the lists had.
//! Always holds: nothing is listed before the lease of what is wanted of it is held, so that what is found here is as good as what is
//! fetched alone; what is not found is fetched alone; lists cost a tenth of what they can save at most.

use std::collections::{HashMap, HashSet};

use super::{Owner, SettleError, Settler};
use crate::billing::stripe::{Created, Subscription as Fetched, SubscriptionQuery};
use crate::storage::CrowdJob;

/// The most that a page of Stripe's has, and as many jobs as are fetched together.
pub const TOGETHER_MAX: u64 = 100;
/// Pages of one such fetch. Those of a second are listed newest first and not as they are wanted here, so that a page may have none.
const PAGES_MAX: usize = 10;
/// How long before an event the period may have begun that it tells of, seconds: a renewal's invoice is a draft for an hour.
const PERIOD_BEGAN_S: i64 = 2 * 3_600;

impl Settler {
    /// What Stripe says of the subscriptions of these jobs, as far as lists have it.
    ///
    /// # Errors
    /// When Stripe cannot be asked; a list that it refuses has nothing.
    pub async fn fetch_together(
        &self,
        jobs: &[CrowdJob],
    ) -> Result<HashMap<String, Fetched>, SettleError> {
        let mut found = HashMap::new();
        let Some(first) = jobs.first() else { return Ok(found) };
        let owner = Owner::of(&first.job)?;
        let made = || jobs.iter().filter_map(|job| job.created_s);
        let (Some(from_s), Some(until_s)) = (made().min(), made().max()) else { return Ok(found) };
        let told = jobs.iter().flat_map(|job| &job.job.events).map(|event| event.event_at_s);
        let began_s = told.min().unwrap_or_default().saturating_sub(PERIOD_BEGAN_S);
        let mut wanted: HashSet<&str> = jobs.iter().map(|job| job.stripe_id.as_str()).collect();
        let mut query = SubscriptionQuery {
            status: Some("all".to_owned()),
            created: Some(Created { gte: Some(from_s), lte: Some(until_s) }),
            current_period_start: Some(Created { gte: Some(began_s), lte: None }),
            limit: u32::try_from(TOGETHER_MAX).ok(),
            ..SubscriptionQuery::default()
        };
        for _ in 0..PAGES_MAX {
            let page = match self.stripe.subscriptions(&owner.scope(), &query).await {
                Ok(page) => page,
                Err(error) if error.is_temporary() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "subscriptions cannot be listed; each is fetched alone");
                    return Ok(found);
                }
            };
            let last = page.data.last().map(|fetched| fetched.id.clone());
            for fetched in page.data {
                if wanted.remove(fetched.id.as_str()) {
                    found.insert(fetched.id.clone(), fetched);
                }
            }
            if !page.has_more || wanted.is_empty() || last.is_none() {
                break;
            }
            query.starting_after = last;
        }
        Ok(found)
    }
}
