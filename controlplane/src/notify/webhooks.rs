//! Sending webhooks: takes what is due, sends it, writes down what came of it.
//!
//! In: deliveries in the database. Out: POSTs to owners' endpoints, signed as Standard Webhooks says.
//! Always holds: at most [`RUNNING_MAX`] at once and [`PER_ENDPOINT_MAX`] to one endpoint, so that one that hangs holds up
//! nobody else; an attempt ends before its lease does, so two control planes send one attempt once; after a crash it is
//! sent again, which receivers tell by `webhook-id`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

mod disable;
mod request;

pub use request::{Outcome, WebhookClient, body_of};

use super::{PENDING, backoff};
use crate::secrets::Keyring;
use crate::storage::{Attempted, DueDelivery, StorageResult, Store, Take};

/// Attempts at once.
const RUNNING_MAX: usize = 32;
/// Attempts at once to one endpoint.
const PER_ENDPOINT_MAX: usize = 4;
/// How often it is looked for what is due.
const POLL: Duration = Duration::from_millis(500);
/// How often endpoints that fail are looked for.
const DISABLE_INTERVAL: Duration = Duration::from_secs(60);
/// Longer than an attempt can take ([`request::TIMEOUT`]), and its writing down.
const LEASE_MS: i64 = 60_000;
/// How long a delivery is tried.
pub const TRIED_MS: i64 = 3 * 86_400_000;
/// How much longer than our own an endpoint's `Retry-After` may put an attempt off.
const RETRY_AFTER_MS_MAX: i64 = 3_600_000;
/// How long until the next attempt, after the first, the second and so on; the last one from then on.
const DELAYS_S: &[i64] = &[5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800];

/// Sends what is due.
#[derive(Clone, Debug)]
pub struct WebhookSender {
    store: Store,
    keyring: Arc<Keyring>,
    client: WebhookClient,
}

impl WebhookSender {
    /// A sender of what is in a store.
    #[must_use]
    pub fn new(store: Store, keyring: Arc<Keyring>, client: WebhookClient) -> Self {
        Self { store, keyring, client }
    }

    /// Sends until it is dropped. While the database is away, nothing is sent.
    pub async fn run(self) {
        let mut running = JoinSet::new();
        let mut endpoints: HashMap<Id, String> = HashMap::new();
        let mut disabling = tokio::time::interval(DISABLE_INTERVAL);
        loop {
            while let Some(done) = running.try_join_next_with_id() {
                let id = done.map_or_else(|error| error.id(), |(id, ())| id);
                endpoints.remove(&id);
            }
            let taken = self.take(RUNNING_MAX - running.len(), &busy(&endpoints)).await;
            let taken = taken.unwrap_or_else(|error| {
                tracing::debug!(%error, "webhooks wait for the database");
                Vec::new()
            });
            let is_idle = taken.is_empty();
            for due in taken {
                let endpoint_id = due.endpoint.id.clone();
                let sender = self.clone();
                let task = running.spawn(async move { sender.attempt(&due).await });
                endpoints.insert(task.id(), endpoint_id);
            }
            if is_idle || running.len() == RUNNING_MAX {
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    _ = disabling.tick() => self.disable_failing().await,
                }
            }
        }
    }

    /// Sends what is due now, once; says how many attempts that were.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn send_due(&self) -> StorageResult<usize> {
        let taken = self.take(RUNNING_MAX, &[]).await?;
        for due in &taken {
            self.attempt(due).await;
        }
        Ok(taken.len())
    }

    async fn take(&self, count: usize, except: &[String]) -> StorageResult<Vec<DueDelivery>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let (count, per_endpoint) = (count as u64, PER_ENDPOINT_MAX as u64);
        let take = Take { count, per_endpoint, except, lease_ms: LEASE_MS };
        self.store.take_deliveries(&take).await
    }

    async fn attempt(&self, due: &DueDelivery) {
        let is_open =
            due.endpoint.archived_at_ms.is_none() && due.endpoint.disabled_at_ms.is_none();
        let outcome = match is_open {
            true => self.client.post(due, &self.keyring, self.store.world().now_ms()).await,
            false => Outcome::Closed,
        };
        if let Err(error) = self.note(due, outcome).await {
            // It is sent again after its lease; its id tells the receiver that it is the same.
            tracing::warn!(%error, delivery = due.delivery.id, "what came of a webhook cannot be written down");
        }
    }

    async fn note(&self, due: &DueDelivery, outcome: Outcome) -> StorageResult<()> {
        let now_ms = self.store.world().now_ms();
        let attempted = judge(due, &outcome, now_ms, backoff::jitter(&**self.store.world()));
        self.store.delivery_attempted(&due.delivery, &attempted).await?;
        match outcome {
            Outcome::Closed => Ok(()),
            Outcome::Gone => {
                self.store.endpoint_answered(&due.endpoint, false).await?;
                self.disable(&due.endpoint.account_id, &due.endpoint.id, "it answered 410 Gone")
                    .await
            }
            Outcome::Taken { .. } => self.store.endpoint_answered(&due.endpoint, true).await,
            Outcome::Refused { .. } | Outcome::Unreachable { .. } => {
                self.store.endpoint_answered(&due.endpoint, false).await
            }
        }
    }
}

/// Endpoints with anything running: what is taken of one at once is as much as may run.
fn busy(endpoints: &HashMap<Id, String>) -> Vec<String> {
    let mut busy: Vec<String> = endpoints.values().cloned().collect();
    busy.sort_unstable();
    busy.dedup();
    busy
}

/// What is to be written down of an attempt.
fn judge(due: &DueDelivery, outcome: &Outcome, now_ms: i64, jitter: f64) -> Attempted {
    let (answer_status, error, wait_ms) = match outcome {
        Outcome::Taken { status } => {
            let answer_status = Some(i64::from(*status));
            return Attempted { status: "delivered", next_at_ms: None, answer_status, error: None };
        }
        Outcome::Closed | Outcome::Gone => {
            let (answer_status, text) = match outcome {
                Outcome::Gone => (Some(410), "the endpoint says that it is gone"),
                _ => (None, "the endpoint is turned off or archived"),
            };
            let error = Some(text.to_owned());
            return Attempted { status: "failed", next_at_ms: None, answer_status, error };
        }
        Outcome::Refused { status, retry_after_s } => {
            let wait_ms = retry_after_s.saturating_mul(1_000).clamp(0, RETRY_AFTER_MS_MAX);
            (Some(i64::from(*status)), format!("the endpoint answered {status}"), wait_ms)
        }
        Outcome::Unreachable { why } => (None, why.clone(), 0),
    };
    let delay_ms = backoff::delay_ms(DELAYS_S, due.delivery.attempts, jitter).max(wait_ms);
    let next_at_ms = now_ms.saturating_add(delay_ms);
    let is_over = next_at_ms > due.delivery.begun_at_ms.saturating_add(TRIED_MS);
    Attempted {
        status: if is_over { "failed" } else { PENDING },
        next_at_ms: (!is_over).then_some(next_at_ms),
        answer_status,
        error: Some(error),
    }
}

#[cfg(test)]
#[path = "webhooks_tests.rs"]
mod tests;
