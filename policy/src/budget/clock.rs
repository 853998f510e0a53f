//! The ledger's clock as a node knows it: periods begin and end by it on every node, whatever the node's own wall
//! clock says.
//!
//! In: what the ledger's clock said in each answer, and the node's monotonic clock around it. Out: Unix seconds to
//! reckon periods by. Always holds: it runs behind the ledger's clock by no more than an answer was under way, never
//! ahead, so no node begins a period early; between answers it follows the monotonic clock and does not step.

use std::sync::atomic::{AtomicI64, Ordering};

const UNKNOWN: i64 = i64::MIN;

/// Written by the control link, read by every shard.
#[derive(Debug)]
pub struct LedgerClock {
    /// The ledger's Unix time less the node's monotonic clock, in milliseconds.
    offset_ms: AtomicI64,
}

impl Default for LedgerClock {
    fn default() -> Self {
        Self { offset_ms: AtomicI64::new(UNKNOWN) }
    }
}

impl LedgerClock {
    /// Takes what the ledger's clock said in an answer to a request of `sent_us` that came at `received_us`, both on
    /// the node's monotonic clock. One caller at a time.
    pub fn observe(&self, sent_us: u64, received_us: u64, ledger_unix_ms: i64) {
        let ms = |mono_us: u64| i64::try_from(mono_us / 1_000).unwrap_or(i64::MAX);
        // It said so before the answer came, and after the request went: the offset lies between.
        let least = ledger_unix_ms.saturating_sub(ms(received_us));
        let most = ledger_unix_ms.saturating_sub(ms(sent_us));
        let known = self.offset_ms.load(Ordering::Relaxed);
        let is_possible = known != UNKNOWN && known >= least && known <= most;
        if !is_possible {
            self.offset_ms.store(least, Ordering::Relaxed);
        }
    }

    /// Unix seconds now; `None` before the first answer.
    #[must_use]
    pub fn unix_s(&self, mono_us: u64) -> Option<i64> {
        let offset_ms = self.offset_ms.load(Ordering::Relaxed);
        let mono_ms = i64::try_from(mono_us / 1_000).unwrap_or(i64::MAX);
        (offset_ms != UNKNOWN).then(|| offset_ms.saturating_add(mono_ms).div_euclid(1_000))
    }
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
