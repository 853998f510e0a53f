//! Working off what Stripe told.
//!
//! In: the inbox. Out: its subjects settled, several at once; what fails is tried again later, or given up.
//! Always holds: at most [`JOBS_MAX`] subjects are worked on at once, [`BUYERS_MAX`] checkouts besides, and beside them one crowd: an account of which [`CROWD_MIN`]
//! subscriptions or more wait, which are fetched as lists, so that ten thousand renewals of one account are hundreds of calls; a subject that fails waits longer each time, with
//! jitter, so that what failed together does not come back together; after [`ATTEMPTS_MAX`] attempts, or where trying again
//! cannot help, it is given up and listed. Any number of control planes may work at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::settle::{SettleError, Settled, Settler, TOGETHER_MAX};
use super::stripe::Subscription as Fetched;
use crate::storage::{Crowd, CrowdJob, Job, JobClaim, StorageError};

/// Subjects at once: the client's own rate limit says how fast they are asked for.
const JOBS_MAX: usize = 16;
/// Subscriptions of one account that make a crowd of it: fewer are fetched alone within three seconds.
pub const CROWD_MIN: i64 = 50;
/// Subjects besides, that are kept free for checkouts: their buyers wait for a key, whatever all others wait for.
const BUYERS_MAX: usize = 4;
/// How often it is looked for a crowd, and beside one for all but buyers: what arrives is mostly the crowd's, and to look for the rest
/// among it takes time.
const CROWD_POLL: Duration = Duration::from_millis(500);
/// Subjects of a crowd that are written at once.
const CROWD_WRITERS: usize = 8;
/// How often the inbox is looked at without having been told to.
const POLL: Duration = Duration::from_secs(1);
/// Attempts before a subject is given up: with the waits below about two days.
pub const ATTEMPTS_MAX: i64 = 24;
const WAIT_FIRST_MS: i64 = 2_000;
const WAIT_MAX_MS: i64 = 4 * 3_600_000;
/// How soon a subject is looked at again that another settles just now.
const BUSY_WAIT_MS: i64 = 1_000;
/// How long texts of errors are kept to, characters.
const ERROR_CHARS_MAX: usize = 500;

/// What works. Clones share the settler.
#[derive(Clone, Debug)]
pub struct Worker {
    settler: Settler,
    arrived: Arc<Notify>,
}

impl Worker {
    /// One that begins when `arrived` tells of events, and looks by itself, too.
    #[must_use]
    pub fn new(settler: Settler, arrived: Arc<Notify>) -> Self {
        Self { settler, arrived }
    }

    /// Works until it is dropped.
    pub async fn run(self) {
        let mut running = JoinSet::new();
        // At most one at a time; what its leases begin with is left to it.
        let (mut crowds, mut crowded) = (JoinSet::new(), None);
        let mut look_at = Instant::now();
        let mut look_beside_at = look_at;
        let mut is_away = false;
        loop {
            while running.try_join_next().is_some() {}
            while crowds.try_join_next().is_some() {
                crowded = None;
            }
            let free = JOBS_MAX.saturating_sub(running.len());
            let room = (JOBS_MAX + BUYERS_MAX).saturating_sub(running.len());
            let is_looked_for = crowded.is_none() || look_beside_at <= Instant::now();
            let others = if is_looked_for { free as u64 } else { 0 };
            let jobs = self.claim(others, room as u64, crowded.as_deref()).await;
            if is_looked_for {
                look_beside_at = Instant::now() + CROWD_POLL;
            }
            let count = match jobs {
                Ok(jobs) => {
                    is_away = false;
                    let count = jobs.len();
                    for job in jobs {
                        let worker = self.clone();
                        running.spawn(async move { worker.work(&job, None).await });
                    }
                    count
                }
                Err(error) => {
                    if !is_away {
                        tracing::warn!(%error, "the inbox of Stripe's events cannot be read; trying again until it can");
                    }
                    is_away = true;
                    0
                }
            };
            // Where all are busy, more may wait than they can do alone.
            if crowded.is_none() && !is_away && count >= free && look_at <= Instant::now() {
                look_at = Instant::now() + CROWD_POLL;
                if let Some(crowd) = self.crowd().await {
                    crowded = Some(crowd.prefix());
                    let worker = self.clone();
                    crowds.spawn(async move { worker.work_off(crowd).await });
                }
            }
            if count == 0 || count >= free {
                self.wait(&mut running).await;
            }
        }
    }

    async fn crowd(&self) -> Option<Crowd> {
        // One that cannot be looked for is worked off one by one.
        self.settler.store().stripe_crowd(CROWD_MIN).await.ok().flatten()
    }

    /// Settles what waits of a crowd, from its oldest subscription to its newest. What comes meanwhile is another's.
    pub async fn work_off(&self, mut crowd: Crowd) {
        let (store, lease_ms) = (self.settler.store(), self.settler.lease_ms());
        loop {
            let jobs = store.claim_stripe_crowd(&mut crowd, TOGETHER_MAX, lease_ms).await;
            match jobs {
                Ok(jobs) if jobs.is_empty() => return,
                Ok(jobs) => self.work_together(jobs).await,
                Err(error) => {
                    tracing::debug!(%error, "subscriptions of one account are settled one by one");
                    return;
                }
            }
        }
    }

    async fn work_together(&self, jobs: Vec<CrowdJob>) {
        let mut fetched = match self.settler.fetch_together(&jobs).await {
            Ok(fetched) => fetched,
            Err(error) => {
                for CrowdJob { job, .. } in &jobs {
                    self.settled(job, Err(&error)).await;
                }
                return;
            }
        };
        let mut running = JoinSet::new();
        for CrowdJob { job, stripe_id, .. } in jobs {
            if running.len() >= CROWD_WRITERS {
                running.join_next().await;
            }
            let (worker, fetched) = (self.clone(), fetched.remove(&stripe_id));
            running.spawn(async move { worker.work(&job, fetched).await });
        }
        while running.join_next().await.is_some() {}
    }

    /// Waits for an event, for a job that ended, or for the next look.
    async fn wait(&self, running: &mut JoinSet<()>) {
        let ended = async {
            if running.join_next().await.is_none() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.arrived.notified() => {}
            () = ended => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }

    /// At most `room` jobs, of which at most `free` are no checkout.
    async fn claim(
        &self,
        free: u64,
        room: u64,
        beside: Option<&str>,
    ) -> Result<Vec<Job>, StorageError> {
        let (store, lease_ms) = (self.settler.store(), self.settler.lease_ms());
        if room == 0 {
            return Ok(Vec::new());
        }
        let claim = JobClaim { jobs_max: free, all_max: room, lease_ms, beside };
        store.claim_stripe_jobs_of(claim).await
    }

    /// Settles everything that is due, one after another; says how many jobs that were.
    ///
    /// # Errors
    /// When the inbox cannot be read.
    pub async fn work_once(&self) -> Result<usize, StorageError> {
        let mut count = 0;
        loop {
            let jobs = self.claim(JOBS_MAX as u64, JOBS_MAX as u64, None).await?;
            if jobs.is_empty() {
                return Ok(count);
            }
            count += jobs.len();
            for job in jobs {
                self.work(&job, None).await;
            }
        }
    }

    /// Settles one job, or says why not.
    async fn work(&self, job: &Job, fetched: Option<Fetched>) {
        let outcome = self.settler.settle_with(job, fetched).await;
        self.settled(job, outcome.as_ref()).await;
    }

    /// Keeps what came of a job. Errors of the database leave it to the end of its lease.
    async fn settled(&self, job: &Job, outcome: Result<&Settled, &SettleError>) {
        let store = self.settler.store();
        let kept = match outcome {
            Ok(Settled::Written) => return,
            Ok(Settled::Nothing(note)) => store.end_stripe_job(job, Some(note)).await,
            Err(SettleError::Busy) => self.postpone(job, BUSY_WAIT_MS, "busy", false).await,
            Err(error) => self.failed(job, error).await,
        };
        if let Err(error) = kept {
            tracing::warn!(%error, subject = job.subject, "a job of Stripe's is left until its lease ends");
        }
    }

    async fn failed(&self, job: &Job, error: &SettleError) -> Result<(), StorageError> {
        let text: String = error.to_string().chars().take(ERROR_CHARS_MAX).collect();
        if !error.is_temporary() || job.attempts >= ATTEMPTS_MAX {
            tracing::warn!(%error, subject = job.subject, attempts = job.attempts, "gave up what Stripe told; see /v1/stripe/events?state=dead");
            return self.settler.store().bury_stripe_job(job, &text).await;
        }
        tracing::debug!(%error, subject = job.subject, attempts = job.attempts, "a job of Stripe's is tried again later");
        let told_ms = match error {
            SettleError::Stripe(error) => error.retry_after_s().unwrap_or_default(),
            _ => 0,
        };
        let told_ms = i64::try_from(told_ms).unwrap_or(i64::MAX).saturating_mul(2_000);
        // Half of a wait is by chance.
        let wait_ms = wait_ms(job.attempts).max(told_ms.min(WAIT_MAX_MS));
        self.postpone(job, wait_ms, &text, true).await
    }

    async fn postpone(
        &self,
        job: &Job,
        wait_ms: i64,
        error: &str,
        is_counted: bool,
    ) -> Result<(), StorageError> {
        let store = self.settler.store();
        let mut random = [0u8; 2];
        store.world().fill(&mut random);
        let wait_ms = jittered(wait_ms, u16::from_le_bytes(random));
        let due_at_ms = store.world().now_ms().saturating_add(wait_ms);
        store.postpone_stripe_job(job, due_at_ms, error, is_counted).await
    }
}

/// How long after so many attempts: twice as long each time, bounded.
fn wait_ms(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts.clamp(1, 30) - 1).unwrap_or_default();
    WAIT_FIRST_MS.saturating_mul(1 << doublings).min(WAIT_MAX_MS)
}

/// Half of it at least, all of it at most.
fn jittered(wait_ms: i64, random: u16) -> i64 {
    let half = wait_ms / 2;
    half + half * i64::from(random) / i64::from(u16::MAX)
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
