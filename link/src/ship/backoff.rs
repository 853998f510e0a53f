//! How long to wait before another attempt.
//!
//! In: attempts that failed, random bits. Out: waits that double from one to the next, each cut by a random part so that nodes that
//! failed together do not come back together. Always holds: every wait is between half the first and the longest.

use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    pub(crate) const FIRST: Duration = Duration::from_millis(100);
    pub(crate) const LONGEST: Duration = Duration::from_secs(30);

    /// `seed` is any number; the same one gives the same waits.
    pub(crate) const fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, failures: 0, random: seed | 1 }
    }

    /// After an attempt that went well.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: from half of the full wait to all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        // xorshift64: spreads nodes, protects nothing.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        #[expect(clippy::cast_precision_loss, reason = "a fraction")]
        let part = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        full.div_f64(2.0) + full.div_f64(2.0).mul_f64(part)
    }
}

#[cfg(test)]
#[path = "backoff_tests.rs"]
mod tests;
