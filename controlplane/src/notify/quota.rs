//! Quotas used to 80 % and to 100 %: found by the ledger, told here.
//!
//! In: crossings that the ledger wrote down. Out: events.
//! Always holds: each is told once, by whichever control plane comes first; where several parts were crossed at the same
//! time, the last one alone is told.

use std::time::Duration;

use serde_json::json;

use super::event::object;
use super::{Event, EventKind, enqueue};
use crate::api::time::shown;
use crate::storage::{Actor, Crossing, NamedEntitlement, Plan, StorageResult, Store, Subscription};

/// How often it is looked.
const POLL: Duration = Duration::from_secs(2);
/// Crossings told at once.
const BATCH: u64 = 100;
/// Names learnt in one round, in batches of the store's.
const NAME_BATCHES_MAX: u32 = 50;

/// Tells of quotas.
#[derive(Clone, Debug)]
pub struct QuotaTeller {
    store: Store,
}

impl QuotaTeller {
    /// Of what is in a store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Tells until it is dropped.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.tell_all().await {
                tracing::debug!(%error, "quotas are told of later");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Tells of what was crossed so far, at most [`BATCH`]; says how many events that were.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn tell_all(&self) -> StorageResult<usize> {
        let mut crossings = self.store.untold_crossings(BATCH).await?;
        if crossings.iter().any(|crossing| crossing.owner.is_none()) {
            learn_names(&self.store).await?;
            crossings = self.store.untold_crossings(BATCH).await?;
        }
        let mut count = 0;
        for crossing in &crossings {
            let is_passed = crossings.iter().any(|other| {
                other.entitlement == crossing.entitlement
                    && other.period_id == crossing.period_id
                    && other.percent > crossing.percent
            });
            match &crossing.owner {
                Some(owner) => count += usize::from(self.tell(crossing, owner, is_passed).await?),
                None => self.store.crossing_tried(crossing).await?,
            }
        }
        Ok(count)
    }

    async fn tell(
        &self,
        crossing: &Crossing,
        owner: &NamedEntitlement,
        is_passed: bool,
    ) -> StorageResult<bool> {
        let actor = Actor { kind: "system", id: "quota".to_owned(), request_id: None };
        let mut change = self.store.change(&owner.account_id, actor).await?;
        let found = change.tenant().get::<Subscription>(&owner.subscription_id).await?;
        let live = found.filter(|row| row.archived_at_ms.is_none());
        if !change.tell_crossing(crossing).await? {
            return Ok(false);
        }
        let is_told = live.is_some() && !is_passed;
        if let Some(subscription) = live.filter(|_| !is_passed) {
            let plan = change.tenant().get::<Plan>(&subscription.plan_id).await?;
            enqueue(&mut change, event(crossing, &subscription, plan.as_ref())).await?;
        }
        change.commit().await?;
        Ok(is_told)
    }
}

/// Learns which subscriptions entitlements are that nobody asked for yet.
///
/// # Errors
/// When the database cannot be asked.
pub async fn learn_names(store: &Store) -> StorageResult<()> {
    for _ in 0..NAME_BATCHES_MAX {
        if store.name_entitlements().await? == 0 {
            break;
        }
    }
    Ok(())
}

fn event(crossing: &Crossing, subscription: &Subscription, plan: Option<&Plan>) -> Event {
    let kind = if crossing.percent >= 100 { EventKind::Quota100 } else { EventKind::Quota80 };
    let settings =
        plan.and_then(|plan| serde_json::from_str::<serde_json::Value>(&plan.settings).ok());
    let overage = settings.as_ref().and_then(|settings| settings["overage"].as_str());
    let quota = json!({
        "percent": crossing.percent,
        "used": crossing.used_units,
        "limit": crossing.limit_units,
        "period_id": crossing.period_id,
        "period_start": shown(crossing.period_start_s.saturating_mul(1_000)),
        "period_end": shown(crossing.period_end_s.saturating_mul(1_000)),
        "overage": overage.unwrap_or("deny"),
    });
    Event::about(kind, subscription, object([("quota", quota)]))
}
