//! Overage: what was used past the limit, told to Stripe's meters in increments.
//!
//! In: books that the ledger keeps. Out: meter events, each told once.
//! Always holds: an increment and its identifier (subscription, period, cumulative-to) are stored before it is sent, so a crash
//! or an answer that never came sends the same one again, which Stripe counts once; after a day, when Stripe has forgotten
//! identifiers, it is looked up in the meter's summaries first. What comes late is a later increment, and one that missed its invoice
//! counts with the next. No more is told than the plan's caps allow, in units and in money.

use std::time::Duration;

mod billed;
mod cap;
mod increment;
mod send;

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use tokio::task::JoinHandle;

pub use self::billed::OLDEST_S;
use self::send::{For, Sent};
use crate::billing::stripe::Stripe;
use crate::storage::{OverageDue, OverageEvent, StorageError, StorageResult, Store, column};

/// How often it is looked for what is due.
const POLL: Duration = Duration::from_secs(30);
/// Increments of a running period are this far apart: refunds settle within it, and Stripe is asked rarely.
const INTERVAL_MS: i64 = 3_600_000;
/// A period that ends within this is told at once: its invoice comes.
const CLOSE_S: i64 = 900;
/// Books and increments taken at once.
const BATCH: u64 = 100;
/// How long an increment is its sender's alone: twice what sending it may take, and short beside the hour that an invoice is a draft,
/// so that what a process held when it died is sent by another in time.
const HOLD_MS: i64 = 2 * send::WITHIN_MS;
/// Rounds of a batch each before it is looked again.
const ROUNDS_MAX: u32 = 100;

/// Why a book has more than was told: by design.
pub const CAPPED: &str = "the plan's spend cap is reached";
/// The same.
pub const FREE: &str = "the plan has no meter: its overage costs nothing";

/// The status of an increment that is to be sent.
const PENDING: &str = "pending";
/// Of one that Stripe took.
const SENT: &str = "sent";

/// Tells Stripe of overage.
#[derive(Clone, Debug)]
pub struct OverageTeller {
    store: Store,
    stripe: Stripe,
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
            let events = self.store.take_overage_events(None, BATCH, HOLD_MS).await?;
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

    /// Whether anything of a subscription was told, or is about to be, that counts since a time, Unix seconds.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn has_told(
        &self,
        account_id: &str,
        subscription_id: &str,
        since_s: i64,
    ) -> StorageResult<bool> {
        let tenant = self.store.tenant(account_id);
        let told = tenant.one::<OverageEvent>(|query| {
            query
                .filter(column::OverageEvent::SubscriptionId.eq(subscription_id))
                .filter(column::OverageEvent::AtS.gte(since_s))
                .filter(column::OverageEvent::Status.is_in([PENDING, SENT]))
        });
        Ok(told.await?.is_some())
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
    /// before the last invoice. What could not be sent is sent later.
    ///
    /// # Errors
    /// As [`OverageTeller::store_left`].
    pub async fn tell_left(&self, account_id: &str, subscription_id: &str) -> StorageResult<Left> {
        self.store_left(account_id, subscription_id).await?;
        let events = self.store.take_overage_events(Some(subscription_id), BATCH, HOLD_MS).await?;
        let is_all = u64::try_from(events.len()).is_ok_and(|count| count < BATCH);
        let mut left = if is_all { Left::Nothing } else { Left::Waits };
        for event in &events {
            match self.send(event).await? {
                Sent::Later(For::Stripe, _) => left = Left::Waits,
                Sent::Later(For::Meter, why) => left = Left::MeterOff(why),
                Sent::Taken | Sent::Refused(_) | Sent::Lost(_) | Sent::Later(For::Room, _) => {}
            }
        }
        Ok(left)
    }
}

/// What of a subscription's overage could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing that will be charged.
    Nothing,
    /// Something that Stripe does not take just now.
    Waits,
    /// Something whose meter was turned off, with what to do.
    MeterOff(String),
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
