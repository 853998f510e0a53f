//! What follows from what Stripe says: fetch it again, and write down what it is.
//!
//! In: a [`Job`]: a subject, and the events that hint at it. Out: our rows as Stripe's are, audited, told to nodes; the job's
//! events done in the same transaction.
//! Always holds: nothing is taken from an event but names; what is written was fetched under the lease of its subscription
//! and is committed only while that is held, so the state after any order, repetition or loss of events (once one is told) is
//! the one that Stripe has; a call is repeated freely, since each changes only what differs.

mod accounts;
mod catalogue;
pub mod checkout;
mod disputes;
mod notices;
mod owed;
mod put_back;
mod reversals;
pub mod state;
mod subscription;
mod together;

pub use accounts::Standing;
pub use disputes::is_held;
pub use owed::UnpaidInvoice;
pub use subscription::choose_plan;
pub use together::TOGETHER_MAX;

use super::stripe::{Mode, Scope, Stripe, StripeError, Subscription as Fetched};
use crate::overage::{Left, OverageTeller};
use crate::storage::{
    Actor, Change, Job, Lease, StorageError, Store, StripeSubscription, lease_name,
};

/// How long one settling may take before another may begin it, milliseconds: longer than the client's tries together.
pub const LEASE_MS: i64 = 180_000;

/// What settles. Clones share everything.
#[derive(Clone, Debug)]
pub struct Settler {
    store: Store,
    stripe: Stripe,
    lease_ms: i64,
}

/// Why a subject was not settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Stripe.
    #[error(transparent)]
    Stripe(#[from] StripeError),
    /// Another settles the same subscription just now.
    #[error("another worker has it")]
    Busy,
    /// What it is about was bought here, and is not known yet.
    #[error("what it is about is not known yet")]
    TooEarly,
    /// Overage is to be told before, and Stripe does not take it now.
    #[error("overage cannot be told to Stripe just now, and {0}")]
    Untold(&'static str),
    /// It will not be otherwise the next time.
    #[error("{0}")]
    Permanent(String),
}

impl SettleError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Storage(
                StorageError::Unavailable(_) | StorageError::Stale | StorageError::Taken(_),
            )
            | Self::Busy
            | Self::TooEarly
            | Self::Untold(_) => true,
            Self::Storage(StorageError::Broken(_)) | Self::Permanent(_) => false,
            // A key that is replaced or lacks a right for an hour must not cost what was told in it.
            Self::Stripe(error) => error.is_temporary() || error.is_for_the_key(),
        }
    }
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Its events are done, with what was written.
    Written,
    /// There was nothing to write, and why.
    Nothing(&'static str),
}

/// Whose business a settling is.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Our account.
    pub account_id: String,
    /// Test or live.
    pub mode: Mode,
    /// The connected account.
    pub stripe_account: String,
}

impl Owner {
    fn scope(&self) -> Scope {
        Scope::connected(self.mode, &self.stripe_account)
    }

    fn lease_name(&self, subject: &str) -> String {
        lease_name(self.mode.as_str(), &self.stripe_account, subject)
    }

    fn of(job: &Job) -> Result<Self, SettleError> {
        let mode = Mode::of(&job.mode)
            .ok_or_else(|| SettleError::Permanent(format!("no mode `{}`", job.mode)))?;
        let (account_id, stripe_account) = (job.account_id.clone(), job.stripe_account.clone());
        Ok(Self { account_id, mode, stripe_account })
    }
}

/// What a change is committed under: the leases, and the job that ends with it.
#[derive(Clone, Copy, Debug)]
struct Under<'a> {
    /// The subscription's, where it is not the job's own.
    subscription: Option<&'a Lease>,
    job: Option<&'a Job>,
}

impl Under<'_> {
    /// Holds the leases, ends the job and gives the subscription back, all with the change.
    async fn commit(self, change: Change) -> Result<(), SettleError> {
        if let Some(lease) = self.subscription {
            change.give_back(lease).await?;
        }
        if let Some(job) = self.job {
            change.end_stripe_job(job).await?;
        }
        Ok(change.commit().await?)
    }
}

impl Settler {
    /// One that writes into `store` what `stripe` says.
    #[must_use]
    pub fn new(store: Store, stripe: Stripe) -> Self {
        Self { store, stripe, lease_ms: LEASE_MS }
    }

    /// The same with another length of leases, for tests of workers that died.
    #[must_use]
    pub fn with_lease_ms(self, lease_ms: i64) -> Self {
        Self { lease_ms, ..self }
    }

    /// Where it writes.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How long it has a subject.
    #[must_use]
    pub fn lease_ms(&self) -> i64 {
        self.lease_ms
    }

    /// Whom it asks.
    #[must_use]
    pub fn stripe(&self) -> &Stripe {
        &self.stripe
    }

    /// Settles a job. Its lease is the subject's.
    ///
    /// # Errors
    /// When it is not settled; nothing of it was written then, or all of it.
    pub async fn settle(&self, job: &Job) -> Result<Settled, SettleError> {
        self.settle_with(job, None).await
    }

    /// The same, where its subscription was fetched already since the job's lease is held.
    ///
    /// # Errors
    /// As [`Settler::settle`].
    pub async fn settle_with(
        &self,
        job: &Job,
        fetched: Option<Fetched>,
    ) -> Result<Settled, SettleError> {
        let owner = Owner::of(job)?;
        let (kind, id) = job.subject.split_once('/').unwrap_or((job.subject.as_str(), ""));
        match kind {
            "subscription" => {
                let under = Under { subscription: None, job: Some(job) };
                self.subscription(&owner, id, fetched, under).await
            }
            "session" => self.session(&owner, id, job).await,
            "invoice" => self.invoice(&owner, id, job).await,
            "charge" => self.charge(&owner, id, job).await,
            "refund" => self.refund(&owner, id, job).await,
            "dispute" => self.dispute(&owner, id, job).await,
            "account" => self.account(&owner, job).await,
            "price" => self.price(&owner, id, job).await,
            "product" => self.product(&owner, id, job).await,
            _ => Ok(Settled::Nothing("nothing follows from it")),
        }
    }

    /// Settles a subscription that nobody told of, one that we changed ourselves, under its lease, which is given back.
    ///
    /// # Errors
    /// As [`Settler::settle`].
    pub async fn look_under(
        &self,
        owner: &Owner,
        id: &str,
        lease: &Lease,
    ) -> Result<Settled, SettleError> {
        let under = Under { subscription: Some(lease), job: None };
        let settled = self.subscription(owner, id, None, under).await;
        self.let_go(lease).await;
        settled
    }

    async fn invoice(&self, owner: &Owner, id: &str, job: &Job) -> Result<Settled, SettleError> {
        let invoice = self.stripe.invoice(&owner.scope(), id).await?;
        match invoice.subscription() {
            Some(subscription) => self.subscription_too(owner, subscription, job).await,
            None => Ok(Settled::Nothing("the invoice is of no subscription")),
        }
    }

    /// Settles a subscription for a job that is about something else.
    async fn subscription_too(
        &self,
        owner: &Owner,
        id: &str,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        let lease = self.take(owner, id).await?;
        let under = Under { subscription: Some(&lease), job: Some(job) };
        let settled = self.subscription(owner, id, None, under).await;
        self.let_go(&lease).await;
        settled
    }

    /// The right to settle a subscription, and to change it where nobody may settle it in between.
    ///
    /// # Errors
    /// `Busy` while another has it; when the database cannot be asked.
    pub async fn take(&self, owner: &Owner, id: &str) -> Result<Lease, SettleError> {
        let name = owner.lease_name(&format!("subscription/{id}"));
        self.store.lease(&name, self.lease_ms).await?.ok_or(SettleError::Busy)
    }

    /// How long at most another has what [`Settler::take`] did not get, milliseconds.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn held_ms(&self, owner: &Owner, id: &str) -> Result<i64, SettleError> {
        Ok(self.store.lease_left_ms(&owner.lease_name(&format!("subscription/{id}"))).await?)
    }

    /// Gives a lease back where no change did.
    pub async fn let_go(&self, lease: &Lease) {
        // Mostly it went with the change already. One that cannot be given back ends by itself.
        if let Err(error) = self.store.release(lease).await {
            tracing::debug!(%error, "a lease is left to end");
        }
    }

    /// Tells what was used past the limit until now, before a step after which it would be billed no more; `why` says which. Where its
    /// meter is off it goes untold: nobody may look for days, and the step is not to wait for that.
    async fn tell_left(
        &self,
        owner: &Owner,
        facts: &StripeSubscription,
        why: &'static str,
    ) -> Result<(), SettleError> {
        let teller = OverageTeller::new(self.store.clone(), self.stripe.clone());
        match teller.tell_left(&owner.account_id, &facts.subscription_id).await? {
            Left::Nothing => Ok(()),
            Left::Waits => Err(SettleError::Untold(why)),
            Left::MeterOff(off) => {
                tracing::warn!(
                    off,
                    subscription = facts.stripe_id,
                    "overage goes untold, and {why}"
                );
                Ok(())
            }
        }
    }

    async fn change(&self, owner: &Owner) -> Result<Change, SettleError> {
        let actor = Actor { kind: "system", id: "stripe".to_owned(), request_id: None };
        Ok(self.store.change(&owner.account_id, actor).await?)
    }
}

/// Whether Stripe has no such thing.
fn is_missing(error: &StripeError) -> bool {
    matches!(error, StripeError::Refused(refusal) if refusal.status == 404)
}
