//! The cells a shard counts in: counters, gauges, histograms, counters by label.
//!
//! In: one shard's thread adds. Out: any thread reads.
//! Always holds: a cell has one writer, so adding is a load and a store (no locked instruction); a reader sees some
//! recent value, and a counter's value never goes down.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that only grows. Written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes over a count that is kept elsewhere and only grows.
    pub fn copy_total(&self, total: u64) {
        self.0.store(total.max(self.get()), Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. Written by one thread.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// One more.
    pub fn inc(&self) {
        self.set(self.get().saturating_add(1));
    }

    /// One less; stays at zero.
    pub fn dec(&self) {
        self.set(self.get().saturating_sub(1));
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of a duration histogram's buckets in nanoseconds, inclusive (Prometheus `le`). Gateway overhead is
/// tens of microseconds, origins answer in milliseconds to a minute: 1-2.5-5 steps from 10 µs to 60 s cover both.
pub const DURATION_BOUNDS_NS: [u64; 21] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// How many buckets: one for each bound and one for all above.
pub const DURATION_BUCKETS: usize = DURATION_BOUNDS_NS.len() + 1;

/// Durations by size. Written by one thread.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; DURATION_BUCKETS],
    sum_ns: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe_ns(&self, duration_ns: u64) {
        let bucket = DURATION_BOUNDS_NS.partition_point(|&bound| bound < duration_ns);
        self.buckets[bucket].inc();
        self.sum_ns.add(duration_ns);
    }

    /// Counts in each bucket (not cumulative), and the sum in nanoseconds.
    #[must_use]
    pub fn read(&self) -> ([u64; DURATION_BUCKETS], u64) {
        (std::array::from_fn(|index| self.buckets[index].get()), self.sum_ns.get())
    }
}

/// How many different labels one [`Labelled`] can tell apart; what comes later is counted as `other`.
pub const LABELS_MAX: usize = 48;

/// Counters by a label from a small fixed vocabulary (a cause, a queue's name). Written by one thread.
#[derive(Debug)]
pub struct Labelled {
    cells: [(OnceLock<&'static str>, Counter); LABELS_MAX],
    other: Counter,
}

impl Default for Labelled {
    fn default() -> Self {
        Self {
            cells: std::array::from_fn(|_| (OnceLock::new(), Counter::new())),
            other: Counter::new(),
        }
    }
}

impl Labelled {
    /// Adds one under `label`.
    pub fn inc(&self, label: &'static str) {
        self.add(label, 1);
    }

    /// Adds `n` under `label`.
    pub fn add(&self, label: &'static str, n: u64) {
        for (name, counter) in &self.cells {
            if *name.get_or_init(|| label) == label {
                counter.add(n);
                return;
            }
        }
        self.other.add(n);
    }

    /// The labels seen so far and their counts.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.cells
            .iter()
            .map_while(|(name, counter)| name.get().map(|name| (*name, counter.get())))
            .chain((self.other.get() > 0).then(|| ("other", self.other.get())))
    }
}

#[cfg(test)]
#[path = "cell_tests.rs"]
mod tests;
