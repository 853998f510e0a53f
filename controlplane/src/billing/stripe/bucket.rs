//! How many calls an account of Stripe is sent: one token bucket an account and mode, in this process.
//!
//! In: whose call. Out: the wait until it may be sent, which is then taken.
//! Always holds: at most [`BUCKETS_MAX`] buckets; nobody waits longer than [`WAIT_MAX`], so what waits is bounded, too.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Mode;

/// Buckets at once.
const BUCKETS_MAX: usize = 10_000;
/// How long a call may wait for its turn.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);

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

    /// Takes the next turn, at most [`WAIT_MAX`] from `now`; `None` where none is left by then.
    pub(super) fn take(&self, mode: Mode, account: Option<&str>, now: Instant) -> Option<Duration> {
        let per_second = match mode {
            Mode::Test => self.limit.test_per_second,
            Mode::Live => self.limit.live_per_second,
        };
        let step = Duration::from_secs(1) / per_second.max(1);
        // A quarter of a second's calls may go at once.
        let depth = Duration::from_millis(250).max(step);
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
