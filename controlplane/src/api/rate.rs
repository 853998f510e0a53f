//! How many requests a key may send: one token bucket a key, in this process.
//!
//! In: a key's id and the time. Out: yes, or the seconds to wait.
//! Always holds: at most [`KEYS_MAX`] buckets; one that is full again is forgotten first, so no key gains by it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Buckets at once.
const KEYS_MAX: usize = 10_000;

/// A limit for every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests that flow in per second; at least 1.
    pub per_second: u32,
    /// The bucket's whole capacity; at least 1.
    pub burst: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { per_second: 2_000, burst: 4_000 }
    }
}

/// When a bucket is full again, Unix milliseconds scaled by a thousand (GCRA: the bucket's level is that time's distance).
type FullAtUs = i64;

/// What one more request would come to.
struct Step {
    base_us: FullAtUs,
    next_us: FullAtUs,
    /// By how much that is too much; more than 0 where it is.
    over_us: i64,
}

/// The buckets. Clones share them.
#[derive(Clone, Debug)]
pub struct Limiter {
    limit: RateLimit,
    buckets: Arc<Mutex<HashMap<String, FullAtUs>>>,
}

impl Limiter {
    /// Buckets that are all full.
    #[must_use]
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, buckets: Arc::default() }
    }

    /// Takes one request of `key`.
    ///
    /// # Errors
    /// The seconds to wait, at least 1.
    pub fn take(&self, key: &str, now_ms: i64) -> Result<(), u64> {
        let now_us = now_ms.saturating_mul(1_000);
        let mut buckets = self.buckets.lock();
        if buckets.len() >= KEYS_MAX && !buckets.contains_key(key) {
            buckets.retain(|_, full_at_us| *full_at_us > now_us);
            if buckets.len() >= KEYS_MAX {
                return Err(1);
            }
        }
        let full_at_us = buckets.entry(key.to_owned()).or_insert(now_us);
        let Step { base_us, next_us, over_us } = self.step(*full_at_us, now_us);
        if over_us > 0 {
            *full_at_us = base_us;
            return Err(u64::try_from(over_us / 1_000_000 + 1).unwrap_or(1));
        }
        *full_at_us = next_us;
        Ok(())
    }

    /// Whether a request of `key` would have to wait. Takes nothing.
    #[must_use]
    pub fn is_empty(&self, key: &str, now_ms: i64) -> bool {
        let now_us = now_ms.saturating_mul(1_000);
        let full_at_us = self.buckets.lock().get(key).copied().unwrap_or(now_us);
        self.step(full_at_us, now_us).over_us > 0
    }

    fn step(&self, full_at_us: FullAtUs, now_us: i64) -> Step {
        let step_us = 1_000_000 / i64::from(self.limit.per_second.max(1));
        let depth_us = step_us.saturating_mul(i64::from(self.limit.burst.max(1)));
        // A clock that went back must not lock a key out for longer than an empty bucket takes to fill.
        let base_us = full_at_us.clamp(now_us, now_us.saturating_add(depth_us));
        let next_us = base_us.saturating_add(step_us);
        let over_us = next_us.saturating_sub(now_us).saturating_sub(depth_us);
        Step { base_us, next_us, over_us }
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
