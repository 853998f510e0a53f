//! How many calls an account of Stripe is sent: one token bucket an account and mode, in this process.
//!
//! In: whose call; what Stripe said about waiting. Out: the wait until a call may be sent, which is then taken.
//! Always holds: at most [`BUCKETS_MAX`] buckets; nobody waits longer than [`WAIT_MAX`], so what waits is bounded, too; an account is
//! held for no longer than [`HOLD_MAX`], and its calls begin at the usual pace after it, not all at once.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Mode;

/// Buckets at once.
const BUCKETS_MAX: usize = 10_000;
/// How long a call may wait for its turn.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);

/// How long an account may be sent nothing because Stripe said so.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(60);

/// Calls that an account may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketLimit {
    /// Calls a second in test mode.
    pub test_per_second: u32,
    /// Calls a second in live mode.
    pub live_per_second: u32,
}

impl Default for BucketLimit {
    fn default() -> Self {
        // Below Stripe's 25 and 100, since the owner's own programs call, too.
        Self { test_per_second: 20, live_per_second: 80 }
    }
}

/// Whose calls are counted together.
type Whose = (Mode, Option<String>);

/// The buckets, each by the moment at which it is full again.
#[derive(Debug)]
pub(super) struct Buckets {
    limit: BucketLimit,
    full_at: Mutex<HashMap<Whose, Instant>>,
}

impl Buckets {
    pub(super) fn new(limit: BucketLimit) -> Self {
        Self { limit, full_at: Mutex::default() }
    }

    /// Sends the account nothing for so long: Stripe asked for it.
    pub(super) fn hold(&self, mode: Mode, account: Option<&str>, wait: Duration, now: Instant) {
        let (_, depth) = self.pace(mode);
        let until = now + wait.min(HOLD_MAX) + depth;
        let mut all = self.full_at.lock();
        // Whoever was answered has a bucket; where it was forgotten meanwhile there is nothing to hold back.
        if let Some(full_at) = all.get_mut(&(mode, account.map(ToOwned::to_owned))) {
            *full_at = (*full_at).max(until);
        }
    }

    /// Time between two calls, and how much of it may be spent at once.
    fn pace(&self, mode: Mode) -> (Duration, Duration) {
        let per_second = match mode {
            Mode::Test => self.limit.test_per_second,
            Mode::Live => self.limit.live_per_second,
        };
        let step = Duration::from_secs(1) / per_second.max(1);
        // A quarter of a second's calls may go at once.
        (step, Duration::from_millis(250).max(step))
    }

    /// Takes the next turn, at most [`WAIT_MAX`] from `now`; `None` where none is left by then.
    pub(super) fn take(&self, mode: Mode, account: Option<&str>, now: Instant) -> Option<Duration> {
        let (step, depth) = self.pace(mode);
        let mut all = self.full_at.lock();
        let whose = (mode, account.map(ToOwned::to_owned));
        if all.len() >= BUCKETS_MAX && !all.contains_key(&whose) {
            all.retain(|_, full_at| *full_at > now);
            if all.len() >= BUCKETS_MAX {
                return None;
            }
        }
        let full_at = all.entry(whose).or_insert(now);
        let next = (*full_at).max(now) + step;
        let wait = next.duration_since(now).saturating_sub(depth);
        if wait > WAIT_MAX {
            return None;
        }
        *full_at = next;
        Some(wait)
    }
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
