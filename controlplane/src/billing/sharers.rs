//! How many control planes call Stripe, so that together they send an account no more than Stripe takes.
//!
//! In: the leases of all processes over one database. Out: the number that live, told to the client of Stripe.
//! Always holds: who cannot ask the database goes on with the number that was known; a process that died counts until its lease is
//! over, and those that start count themselves at once, so that for one beat too many are sent, which Stripe's 429 slows down.

use std::time::Duration;

use super::Billing;
use super::stripe::Stripe;
use crate::ids::new_id;
use crate::storage::{Lease, StorageResult, Store};

/// What leases of processes are called.
const KIND: &str = "calls_stripe";
/// Between two looks.
const BEAT: Duration = Duration::from_secs(5);
/// Three beats that did not come.
const ALIVE_MS: i64 = 15_000;

/// One of those who share.
#[derive(Debug)]
pub struct Sharer {
    store: Store,
    stripe: Stripe,
    lease: Option<Lease>,
}

impl Sharer {
    /// One that is not counted yet.
    #[must_use]
    pub fn new(billing: &Billing) -> Self {
        Self { store: billing.store.clone(), stripe: billing.stripe.clone(), lease: None }
    }

    /// Is counted, and counts, until it is dropped.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.beat().await {
                tracing::debug!(%error, "how many control planes there are cannot be asked");
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Is counted from now on, and counts; how many there are.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn beat(&mut self) -> StorageResult<u32> {
        let is_kept = match &self.lease {
            Some(lease) => self.store.extend(lease, ALIVE_MS).await?,
            None => false,
        };
        if !is_kept {
            let name = format!("{KIND}/{}", new_id("plane", &**self.store.world()));
            self.lease = self.store.lease(&name, ALIVE_MS).await?;
        }
        let count = self.store.count_leases(KIND).await?.max(1);
        self.stripe.share_among(count);
        Ok(count)
    }
}
