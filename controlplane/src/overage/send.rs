//! One increment on its way to its meter.
//!
//! In: an increment that this process holds. Out: a meter event, and what came of it in the increment's row.
//! Always holds: an increment is refused for good only where something is wrong with itself; whatever else is in the way (no answer, no
//! access, a meter that is turned off) may go, and it waits. One whose invoice is made meanwhile counts with the next. What may
//! have been counted already is looked up before its time is moved, and once Stripe has forgotten its identifier. One whose account
//! is connected no more is lost when Stripe would have taken it until then.

use std::time::Duration;

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde_json::Value as Json;

use super::billed::{self, BillingPeriod, OLDEST_S};
use super::{HOLD_MS, OverageTeller, PENDING, SENT};
use crate::billing::payers::scope_of;
use crate::billing::stripe::{MeterEventRequest, Scope, StripeError, SummaryQuery};
use crate::notify::backoff;
use crate::storage::{OverageEvent, StorageResult, StripeSubscription, column};

/// How long sending may take, with all tries of the client; a call that is given up is sent again, and counted once.
pub(super) const WITHIN_MS: i64 = 60_000;
/// How long until an increment is sent again: often enough that an hour's draft is not missed by waiting.
const DELAYS_S: &[i64] = &[10, 60, 300, 600];
/// Stripe knows identifiers for 24 hours at least; after this an increment that may have been taken is looked up.
const KNOWN_MS: i64 = 20 * 3_600_000;

/// What came of an attempt to send an increment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Taken,
    Refused(String),
    /// Whom it was for is connected no more, for so long that nobody waits for it.
    Lost(String),
    Later(For, String),
}

/// What an increment waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Stripe, or whoever sends it.
    Stripe,
    /// Somebody who turns its meter on.
    Meter,
    /// An invoice that the plan's cap leaves room on.
    Room,
}

impl OverageTeller {
    /// Sends an increment that was taken, and writes down what came of it.
    pub(super) async fn send(&self, event: &OverageEvent) -> StorageResult<Sent> {
        let world = self.store.world();
        // Those before it in the batch may have taken long.
        let left_ms = event.next_at_ms.unwrap_or_default().saturating_sub(world.now_ms());
        if left_ms < WITHIN_MS && !self.store.hold_overage_event(event, HOLD_MS).await? {
            return Ok(Sent::Later(For::Stripe, "another process sends it".to_owned()));
        }
        let within = Duration::from_millis(WITHIN_MS.unsigned_abs());
        let sent = match tokio::time::timeout(within, self.attempt(event)).await {
            Ok(sent) => sent?,
            Err(_) => Sent::Later(For::Stripe, "Stripe did not answer within a minute".to_owned()),
        };
        match &sent {
            Sent::Taken => self.store.overage_attempted(event, SENT, None, None).await?,
            Sent::Refused(error) => {
                tracing::error!(
                    event = event.id,
                    error,
                    "Stripe refuses overage; it is not charged"
                );
                self.store.overage_attempted(event, "refused", None, Some(error)).await?;
            }
            Sent::Lost(error) => {
                tracing::error!(event = event.id, error, "overage is lost; it is not charged");
                self.store.lose_overage(event, error).await?;
            }
            Sent::Later(_, error) => {
                tracing::debug!(event = event.id, error, "overage is told to Stripe later");
                let delay_ms =
                    backoff::delay_ms(DELAYS_S, event.attempts, backoff::jitter(&**world));
                let next_at_ms = world.now_ms().saturating_add(delay_ms);
                self.store.overage_attempted(event, PENDING, Some(next_at_ms), Some(error)).await?;
            }
        }
        Ok(sent)
    }

    async fn attempt(&self, event: &OverageEvent) -> StorageResult<Sent> {
        let now_ms = self.store.world().now_ms();
        let Some((paid, scope)) = self.paid(event).await? else {
            let waited_ms = now_ms.saturating_sub(event.created_at_ms);
            if waited_ms > OLDEST_S.saturating_mul(1_000) {
                let why = "the Stripe account that it was sold through was not connected for 34 days, as long as Stripe takes what was \
                           used; charge it by an invoice item in that account's Stripe dashboard";
                return Ok(Sent::Lost(why.to_owned()));
            }
            let why = "the account is not connected to Stripe";
            return Ok(Sent::Later(For::Stripe, why.to_owned()));
        };
        let at_s = billed::at_s(event.at_s, period(&paid), now_ms.div_euclid(1_000));
        let is_forgotten = now_ms.saturating_sub(event.created_at_ms) > KNOWN_MS;
        if event.attempts > 1 && (is_forgotten || at_s != event.at_s) {
            match self.is_counted(event, &scope).await? {
                Ok(true) => return Ok(Sent::Taken),
                Ok(false) => {}
                Err(error) => return Ok(Sent::Later(For::Stripe, error.to_string())),
            }
        }
        if at_s != event.at_s
            && let Err((what, why)) = self.count_later(event, at_s).await?
        {
            return Ok(Sent::Later(what, why.to_owned()));
        }
        Ok(self.call(event, at_s, &scope).await)
    }

    async fn call(&self, event: &OverageEvent, at_s: i64, scope: &Scope) -> Sent {
        let identifier = identifier(event);
        let payload = [
            ("stripe_customer_id".to_owned(), event.stripe_customer_id.clone()),
            ("value".to_owned(), event.to_units.saturating_sub(event.from_units).to_string()),
        ];
        let request = MeterEventRequest {
            event_name: event.event_name.clone(),
            payload: payload.into_iter().collect(),
            identifier: Some(identifier.clone()),
            timestamp: Some(at_s),
        };
        // The identifier is what makes it once. Stripe keeps an answer for a key, an error too, so each attempt has its own.
        let key = format!("overage/{identifier}/{}/{}", scope.mode, event.attempts);
        match self.stripe.create_meter_event(scope, &request, &key).await {
            Ok(_) => Sent::Taken,
            Err(error) if is_known(&error) => Sent::Taken,
            Err(error) if is_meter_off(&error) => {
                let name = &event.event_name;
                let why = format!(
                    "the meter {name} is turned off: turn it on in the Stripe dashboard or with `payfence billing sync --mend` ({error})"
                );
                Sent::Later(For::Meter, why)
            }
            Err(error) if is_in_the_way(&error) => Sent::Later(For::Stripe, error.to_string()),
            Err(error) => Sent::Refused(error.to_string()),
        }
    }

    /// Whether the meter has counted an increment already, by what it has counted in the minute that it is of.
    async fn is_counted(
        &self,
        event: &OverageEvent,
        scope: &Scope,
    ) -> StorageResult<Result<bool, StripeError>> {
        let Some(meter) = &event.meter_id else { return Ok(Ok(false)) };
        let start_time = event.at_s.div_euclid(60) * 60;
        let end_time = start_time + 60;
        let customer = event.stripe_customer_id.clone();
        let query =
            SummaryQuery { customer, start_time, end_time, limit: Some(10), starting_after: None };
        let summaries = match self.stripe.event_summaries(scope, meter, &query).await {
            Ok(summaries) => summaries.data,
            Err(error) => return Ok(Err(error)),
        };
        let counted: f64 = summaries.iter().map(|summary| summary.aggregated_value).sum();
        let sent = self.store.overage_sent(event, start_time, end_time).await?;
        let units = event.to_units.saturating_sub(event.from_units);
        // Whole units far below 2^53, so the sum is exact.
        Ok(Ok(counted >= (sent.saturating_add(units)) as f64))
    }

    /// What is known of the subscription at Stripe, and the account that it was sold through, while that is connected: its meters and
    /// customers are that one's.
    async fn paid(
        &self,
        event: &OverageEvent,
    ) -> StorageResult<Option<(StripeSubscription, Scope)>> {
        let tenant = self.store.tenant(&event.account_id);
        let paid = tenant.one::<StripeSubscription>(|query| {
            let own = column::StripeSubscription::SubscriptionId.eq(event.subscription_id.as_str());
            query.filter(own).filter(column::StripeSubscription::Mode.eq(event.mode.as_str()))
        });
        let Some(paid) = paid.await? else { return Ok(None) };
        let scope = scope_of(&tenant, &paid).await?;
        Ok(scope.map(|scope| (paid, scope)))
    }
}

/// The billing period that is known.
fn period(paid: &StripeSubscription) -> Option<BillingPeriod> {
    let facts = serde_json::from_str::<Json>(&paid.facts).ok();
    let trial_end_s = facts.and_then(|facts| facts["trial_end"].as_i64());
    let (start_ms, end_ms) = paid.period_start_ms.zip(paid.period_end_ms)?;
    Some(BillingPeriod {
        start_s: start_ms.div_euclid(1_000),
        end_s: end_ms.div_euclid(1_000),
        trial_end_s,
    })
}

/// By which Stripe knows an increment again.
fn identifier(event: &OverageEvent) -> String {
    format!("{}_{}_{}", event.subscription_id, event.period_id, event.to_units)
}

/// Whether Stripe says that it has the identifier already.
fn is_known(error: &StripeError) -> bool {
    let StripeError::Refused(refusal) = error else { return false };
    error.code() == Some("duplicate_meter_event") || refusal.message.contains("already exists")
}

/// Whether the meter was turned off: its owner may turn it on again.
fn is_meter_off(error: &StripeError) -> bool {
    matches!(error.code(), Some("no_meter" | "archived_meter"))
}

/// Whether what is in the way has nothing to do with the increment, and may go.
fn is_in_the_way(error: &StripeError) -> bool {
    error.is_temporary()
        || error.is_uncertain()
        || error.is_access_lost()
        || error.is_for_the_key()
        // A clock that is ahead is set some time.
        || error.code() == Some("timestamp_in_future")
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
