//! Bearers that are well formed and good for nothing: how often the database is asked about such.
//!
//! In: hashes of what callers send. Out: whether to look one up.
//! Always holds: beyond [`FAILED`] the database is asked once in [`FRESH_MS`] for all that are good, and for none that is not; one that
//! is good is looked up always, one that was made since at most [`FRESH_MS`] later.

use std::collections::HashSet;

use tokio::sync::Mutex;

use crate::api::rate::{Limiter, RateLimit};
use crate::storage::{Bearer, StorageResult, Store};

/// Look-ups that may come to nothing, in each process. Nobody needs many: what is refused once is refused again.
const FAILED: RateLimit = RateLimit { per_second: 20, burst: 200 };
/// How long what is good is remembered, milliseconds.
const FRESH_MS: i64 = 1_000;
/// How many are remembered, 32 bytes each. Where there are more, every one is looked up.
const GOOD_MAX: u64 = 100_000;
/// Failed look-ups have one bucket.
const ALL: &str = "";

/// The bound on one kind of bearers.
#[derive(Debug)]
pub struct Guesses {
    bearer: Bearer,
    failed: Limiter,
    good: Mutex<Option<Good>>,
}

#[derive(Debug)]
struct Good {
    read_ms: i64,
    /// None where they are too many.
    hashes: Option<HashSet<Vec<u8>>>,
}

impl Guesses {
    /// A bound that nobody has come near.
    #[must_use]
    pub fn new(bearer: Bearer) -> Self {
        Self { bearer, failed: Limiter::new(FAILED), good: Mutex::default() }
    }

    /// Whether to look this one up; where not, it is good for nothing, or younger than a second.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn may_look_up(&self, store: &Store, hash: &[u8; 32]) -> StorageResult<bool> {
        let now_ms = store.world().now_ms();
        if !self.failed.is_empty(ALL, now_ms) {
            return Ok(true);
        }
        // One reads them, and whoever comes meanwhile waits for that.
        let mut good = self.good.lock().await;
        let is_fresh = |good: &Good| now_ms.abs_diff(good.read_ms) < FRESH_MS.unsigned_abs();
        if !good.as_ref().is_some_and(is_fresh) {
            tracing::warn!(bearer = ?self.bearer, "many unknown bearers; only known ones are looked up");
            let hashes = store.good_hashes(self.bearer, GOOD_MAX).await?;
            *good = Some(Good { read_ms: now_ms, hashes });
        }
        let hashes = good.as_ref().and_then(|good| good.hashes.as_ref());
        Ok(hashes.is_none_or(|hashes| hashes.contains(hash.as_slice())))
    }

    /// Counts one that was looked up and is good for nothing.
    pub fn count_failed(&self, store: &Store) {
        // Where none may fail any more, the next one is not looked up.
        let _ = self.failed.take(ALL, store.world().now_ms());
    }
}
