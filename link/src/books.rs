//! The books of use: units charged, by entitlement and period.
//!
//! In: the charges of finished rows. Out: sums, copied and kept by checkpoints. Always holds: sums only grow; there are at most so
//! many entries, and what would be one too many is refused, not lost unseen.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use policy::budget::{EntitlementId, Period, PeriodId};

use crate::row::Account;

/// What is charged in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charged {
    /// The period.
    pub period: Period,
    /// Units.
    pub units: u64,
}

/// Names one entry: ids are hashes and uniform already, so this mixes in the period and no more.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccountHasher(u64);

/// A map by entitlement and period.
pub type AccountMap<V> = HashMap<(EntitlementId, PeriodId), V, BuildHasherDefault<AccountHasher>>;

impl Hasher for AccountHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // The odd constant spreads small numbers over all bits: 2^64 divided by the golden ratio.
        self.0 = self.0.rotate_left(32) ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Books are kept in so many parts.
const PARTS: usize = 1024;

/// Units charged, by entitlement and period. A clone shares everything and costs nothing; while it is kept, each part is copied
/// when it first changes (with a million entries in all, some hundred kilobytes at a time), so that a checkpoint does not hold up who
/// counts on.
#[derive(Clone, Debug)]
pub struct Books {
    parts: Vec<Arc<AccountMap<Charged>>>,
    entries: usize,
    entries_max: usize,
}

impl Books {
    /// Entries that suit most.
    pub const ENTRIES_MAX: usize = 8_000_000;

    /// Empty books of at most `entries_max` entries.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self { parts: vec![Arc::default(); PARTS], entries: 0, entries_max }
    }

    /// Makes room for so many more entries at once.
    pub fn reserve(&mut self, entries: usize) {
        let entries = entries.min(self.entries_max.saturating_sub(self.entries));
        for part in &mut self.parts {
            // Hashes are spread evenly, but not to the last one.
            Arc::make_mut(part).reserve(entries / PARTS + entries / PARTS / 16);
        }
    }

    /// Adds units to a period. False when they could not be, since the books are full: [`forget`](Self::forget) makes room.
    #[must_use]
    pub fn add(&mut self, account: &Account, units: u64) -> bool {
        let is_full = self.entries >= self.entries_max;
        let Some(part) = self.parts.get_mut(part_of(account.entitlement)) else { return false };
        match Arc::make_mut(part).entry((account.entitlement, account.period.id)) {
            Entry::Occupied(mut entry) => {
                let charged = entry.get_mut();
                charged.units = charged.units.saturating_add(units);
            }
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(entry) => {
                entry.insert(Charged { period: account.period, units });
                self.entries += 1;
            }
        }
        true
    }

    /// Units charged in a period so far.
    #[must_use]
    pub fn units(&self, entitlement: EntitlementId, period: PeriodId) -> u64 {
        let part = self.parts.get(part_of(entitlement));
        part.and_then(|part| part.get(&(entitlement, period))).map_or(0, |charged| charged.units)
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (EntitlementId, Charged)> {
        let entries = self.parts.iter().flat_map(|part| part.iter());
        entries.map(|((entitlement, _), charged)| (*entitlement, *charged))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether nothing was charged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Forgets periods that ended before this time; how many. A period is only done with when no request of it can end any more
    /// and the control plane has its use: some weeks.
    pub fn forget(&mut self, ended_before_s: i64) -> usize {
        let before = self.entries;
        for part in &mut self.parts {
            // One that keeps all its entries is not copied.
            if part.values().any(|charged| charged.period.end_s < ended_before_s) {
                Arc::make_mut(part).retain(|_, charged| charged.period.end_s >= ended_before_s);
            }
        }
        self.entries = self.parts.iter().map(|part| part.len()).sum();
        before - self.entries
    }
}

/// Bits of the id that no other use looks at alone: shards go by the low half.
fn part_of(entitlement: EntitlementId) -> usize {
    (entitlement.0 >> 96) as usize % PARTS
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
