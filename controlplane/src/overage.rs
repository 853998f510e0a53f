//! Overage: what was used past the limit, told to Stripe's meters in increments.
//!
//! In: books that the ledger keeps. Out: meter events, each told once.
//! Always holds: an increment and its identifier (subscription, period, cumulative-to) are stored before it is sent, so a crash
//! or an answer that never came sends the same one again, which Stripe counts once; after a day, when Stripe has forgotten
//! identifiers, it is looked up in the meter's summaries first. What comes late is a later increment. No more is told than
//! the plan's caps allow, in units and in money.

use std::time::Duration;

mod cap;
mod increment;

use tokio::task::JoinHandle;

use crate::billing::payers::scope_of;
use crate::billing::stripe::{MeterEventRequest, Scope, Stripe, StripeError, SummaryQuery};
use crate::notify::backoff;
use crate::storage::{
    OverageDue, OverageEvent, StorageError, StorageResult, Store, StripeSubscription, column,
};

use sea_orm::{ColumnTrait as _, QueryFilter as _};

/// How often it is looked for what is due.
const POLL: Duration = Duration::from_secs(30);
/// Increments of a running period are this far apart: refunds settle within it, and Stripe is asked rarely.
const INTERVAL_MS: i64 = 3_600_000;
/// A period that ends within this is told at once: its invoice comes.
const CLOSE_S: i64 = 900;
/// Books and increments taken at once.
const BATCH: u64 = 100;
/// Longer than a batch of calls can take.
const LEASE_MS: i64 = 3_600_000;
/// How long until an increment is sent again.
const DELAYS_S: &[i64] = &[10, 60, 300, 900, 1_800];
/// Stripe knows identifiers for 24 hours at least; after this an increment that may have been taken is looked up.
const KNOWN_MS: i64 = 20 * 3_600_000;
/// Rounds of a batch each before it is looked again.
const ROUNDS_MAX: u32 = 100;

/// Why a book has more than was told: by design.
pub const CAPPED: &str = "the plan's spend cap is reached";
/// The same.
pub const FREE: &str = "the plan has no meter: its overage costs nothing";

/// The status of an increment that is to be sent.
const PENDING: &str = "pending";

/// Tells Stripe of overage.
#[derive(Clone, Debug)]
pub struct OverageTeller {
    store: Store,
    stripe: Stripe,
}

/// What came of an attempt to send an increment.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Taken,
    Refused(String),
    Later(String),
}

impl OverageTeller {
    /// Tells what is in a store.
    #[must_use]
    pub fn new(store: Store, stripe: Stripe) -> Self {
        Self { store, stripe }
    }

    /// Starts telling, until the task is ended.
    #[must_use]
    pub fn spawn(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                if let Err(error) = self.tell_all().await {
                    tracing::debug!(%error, "overage is told later");
                }
                tokio::time::sleep(POLL).await;
            }
        })
    }

    /// Stores what is due and sends it; says how many increments were taken.
    ///
    /// # Errors
    /// When the database cannot be asked; what was stored stays so.
    pub async fn tell_all(&self) -> StorageResult<usize> {
        let due = OverageDue { interval_ms: INTERVAL_MS, close_s: CLOSE_S };
        let mut taken = 0;
        for _ in 0..ROUNDS_MAX {
            let mut books = self.store.overage_due(due, BATCH).await?;
            if books.iter().any(|book| book.owner.is_none()) {
                crate::notify::quota::learn_names(&self.store).await?;
                books = self.store.overage_due(due, BATCH).await?;
            }
            for book in &books {
                self.store_increment(book).await?;
            }
            let events = self.store.take_overage_events(None, BATCH, LEASE_MS).await?;
            for event in &events {
                taken += usize::from(self.send(event).await? == Sent::Taken);
            }
            if books.is_empty() && events.is_empty() {
                break;
            }
        }
        self.store.prune_overage().await?;
        Ok(taken)
    }

    /// Stores what was used past a subscription's limit until now, before another plan is written down for it: it is told to the meter
    /// of the plan that it was used under.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn store_left(&self, account_id: &str, subscription_id: &str) -> StorageResult<()> {
        // One that has nothing told yet may not be known by its name.
        crate::notify::quota::learn_names(&self.store).await?;
        for book in self.store.overage_left(account_id, subscription_id).await? {
            self.store_increment(&book).await?;
        }
        Ok(())
    }

    /// The same, and sends all that waits, due or not: before a move is made at Stripe, whose part for the old meter goes with it, and
    /// before the last invoice. False where something could not be sent; it is sent later.
    ///
    /// # Errors
    /// As [`OverageTeller::store_left`].
    pub async fn tell_left(&self, account_id: &str, subscription_id: &str) -> StorageResult<bool> {
        self.store_left(account_id, subscription_id).await?;
        let events = self.store.take_overage_events(Some(subscription_id), BATCH, LEASE_MS).await?;
        let mut is_all = u64::try_from(events.len()).is_ok_and(|count| count < BATCH);
        for event in &events {
            is_all &= !matches!(self.send(event).await?, Sent::Later(_));
        }
        Ok(is_all)
    }

    async fn send(&self, event: &OverageEvent) -> StorageResult<Sent> {
        let sent = match self.scope(event).await? {
            Some(scope) => self.call(event, &scope).await?,
            None => Sent::Later("the account is not connected to Stripe".to_owned()),
        };
        let world = self.store.world();
        match &sent {
            Sent::Taken => self.store.overage_attempted(event, "sent", None, None).await?,
            Sent::Refused(error) => {
                tracing::error!(
                    event = event.id,
                    error,
                    "Stripe refuses overage; it is not charged"
                );
                self.store.overage_attempted(event, "refused", None, Some(error)).await?;
            }
            Sent::Later(error) => {
                let delay_ms =
                    backoff::delay_ms(DELAYS_S, event.attempts, backoff::jitter(&**world));
                let next_at_ms = world.now_ms().saturating_add(delay_ms);
                self.store.overage_attempted(event, PENDING, Some(next_at_ms), Some(error)).await?;
            }
        }
        Ok(sent)
    }

    async fn call(&self, event: &OverageEvent, scope: &Scope) -> StorageResult<Sent> {
        let age_ms = self.store.world().now_ms().saturating_sub(event.created_at_ms);
        if event.attempts > 1 && age_ms > KNOWN_MS {
            match self.is_counted(event, scope).await? {
                Ok(true) => return Ok(Sent::Taken),
                Ok(false) => {}
                Err(error) => return Ok(Sent::Later(error.to_string())),
            }
        }
        let identifier = identifier(event);
        let payload = [
            ("stripe_customer_id".to_owned(), event.stripe_customer_id.clone()),
            ("value".to_owned(), event.to_units.saturating_sub(event.from_units).to_string()),
        ];
        let request = MeterEventRequest {
            event_name: event.event_name.clone(),
            payload: payload.into_iter().collect(),
            identifier: Some(identifier.clone()),
            timestamp: Some(event.at_s),
        };
        // The identifier is what makes it once. Stripe keeps an answer for a key, an error too, so each attempt has its own.
        let key = format!("overage/{identifier}/{}/{}", scope.mode, event.attempts);
        Ok(match self.stripe.create_meter_event(scope, &request, &key).await {
            Ok(_) => Sent::Taken,
            Err(error) if is_known(&error) => Sent::Taken,
            Err(error) if error.is_temporary() || error.is_uncertain() => {
                Sent::Later(error.to_string())
            }
            Err(error @ StripeError::NotSetUp(_)) => Sent::Later(error.to_string()),
            Err(error) => Sent::Refused(error.to_string()),
        })
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

    /// The account that the subscription was sold through, while it is connected: its meters and customers are that one's.
    async fn scope(&self, event: &OverageEvent) -> StorageResult<Option<Scope>> {
        let tenant = self.store.tenant(&event.account_id);
        let paid = tenant.one::<StripeSubscription>(|query| {
            let own = column::StripeSubscription::SubscriptionId.eq(event.subscription_id.as_str());
            query.filter(own).filter(column::StripeSubscription::Mode.eq(event.mode.as_str()))
        });
        match paid.await? {
            Some(paid) => scope_of(&tenant, &paid).await,
            None => Ok(None),
        }
    }
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

/// Has a subscription's overage told now. Called when Stripe says that its invoice is being made (`invoice.upcoming`,
/// `invoice.created`): the draft takes events of its period for about an hour.
///
/// # Errors
/// When the database cannot be asked.
pub async fn flush(
    store: &Store,
    account_id: &str,
    subscription_id: &str,
) -> Result<(), StorageError> {
    store.flush_overage(account_id, subscription_id).await
}

#[cfg(test)]
#[path = "overage_tests.rs"]
mod tests;
