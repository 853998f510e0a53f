//! Counters of one entitlement that every shard of the node may read, each written by one shard alone.
//!
//! In: what a shard spends and gives back. Out: use and loans, summed over the shards, without a message.
//! Always holds: one writer a counter, so a plain load and store with release order is exact; all totals only grow,
//! but for `slots_used`, which is a level. Where two totals are subtracted, the one that lowers the result is read
//! so that a half-seen change never makes more units than there are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use super::account::Loan;
use super::bucket::Bucket;
use super::message::Totals;
use super::{RateTerms, ShardId, Unit};

/// Adds to a counter that the calling shard alone writes.
fn add(counter: &AtomicU64, n: u64) {
    let value = counter.load(Ordering::Relaxed).wrapping_add(n);
    counter.store(value, Ordering::Release);
}

/// One shard's use in one period. 64 bytes: no two shards write one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PeriodCell {
    charged: AtomicU64,
    refunded: AtomicU64,
    corrected: AtomicU64,
    returned: AtomicU64,
}

impl PeriodCell {
    /// Charges units before forwarding.
    pub fn charge(&self, units: u64) {
        add(&self.charged, units);
    }

    /// Gives back units of an earlier charge.
    pub fn refund(&self, units: u64) {
        add(&self.refunded, units);
    }

    /// Adds units to an earlier charge.
    pub fn correct(&self, units: u64) {
        add(&self.corrected, units);
    }

    /// Gives units of the loan back to the owner.
    pub fn give_back(&self, units: u64) {
        add(&self.returned, units);
    }

    /// Units given back so far. Read before `totals`, so that both together never miss a spent unit.
    #[must_use]
    pub fn returned(&self) -> u64 {
        self.returned.load(Ordering::Acquire)
    }

    /// Use so far. Refunds are read first: use may be seen too high for a moment, never too low.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let refunded = self.refunded.load(Ordering::Acquire);
        let corrected = self.corrected.load(Ordering::Acquire);
        Totals { charged: self.charged.load(Ordering::Acquire), refunded, corrected }
    }

    /// The loan of `granted` units in all. What was returned is read first, so that no spent unit is missed.
    #[must_use]
    pub fn loan(&self, granted: u64) -> Loan {
        let returned = self.returned();
        Loan { granted, returned, used: self.totals().net() }
    }
}

/// All shards' use in one period.
#[derive(Debug)]
pub struct PeriodUse {
    cells: Box<[PeriodCell]>,
    spare: PeriodCell,
    elsewhere: AtomicU64,
    is_left: AtomicBool,
}

impl PeriodUse {
    /// Nothing used.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let cells = (0..shards).map(|_| PeriodCell::default()).collect();
        Self {
            cells,
            spare: PeriodCell::default(),
            elsewhere: AtomicU64::new(0),
            is_left: AtomicBool::new(false),
        }
    }

    /// The shard's own cell. A shard that does not exist gets a spare one, counted like the others.
    #[must_use]
    pub fn cell(&self, shard: ShardId) -> &PeriodCell {
        self.cells.get(usize::from(shard.0)).unwrap_or(&self.spare)
    }

    /// Use over all shards of this node.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for cell in self.cells.iter().chain([&self.spare]) {
            let totals = cell.totals();
            sum.charged = sum.charged.saturating_add(totals.charged);
            sum.refunded = sum.refunded.saturating_add(totals.refunded);
            sum.corrected = sum.corrected.saturating_add(totals.corrected);
        }
        sum
    }

    /// Use over all nodes, as far as this one knows.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.totals().net().saturating_add(self.elsewhere())
    }

    /// Use on other nodes, as the ledger last said.
    #[must_use]
    pub fn elsewhere(&self) -> u64 {
        self.elsewhere.load(Ordering::Acquire)
    }

    /// Whether the owner has gone on to another period: what is refused or lent by these cells is not decided by them any
    /// more.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.is_left.load(Ordering::Acquire)
    }

    /// Written by the owner shard alone.
    pub fn set_left(&self, is_left: bool) {
        self.is_left.store(is_left, Ordering::Release);
    }

    /// Written by the owner shard alone.
    pub fn set_elsewhere(&self, units: u64) {
        self.elsewhere.store(units, Ordering::Release);
    }
}

/// One shard's rate units and slots.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct NodeCell {
    /// Written by the owner: lent less what it has taken back.
    rate_lent: AtomicU64,
    rate_spent: AtomicU64,
    rate_returned: AtomicU64,
    slots_used: AtomicU64,
    slots_returned: AtomicU64,
}

impl NodeCell {
    /// Uses one rate unit of the loan.
    pub fn spend_rate(&self) {
        add(&self.rate_spent, 1);
    }

    /// Gives rate units back to the owner.
    pub fn return_rate(&self, units: u64) {
        add(&self.rate_returned, units);
    }

    /// Rate units given back so far.
    #[must_use]
    pub fn rate_returned(&self) -> u64 {
        self.rate_returned.load(Ordering::Acquire)
    }

    /// The owner says how many rate units it has lent and not taken back, in all.
    pub fn set_rate_lent(&self, units: u64) {
        self.rate_lent.store(units, Ordering::Release);
    }

    /// Rate units of a loan of `granted` in all that are neither used nor given back.
    #[must_use]
    pub fn rate_unspent(&self, granted: u64) -> u64 {
        let returned = self.rate_returned();
        let spent = self.rate_spent.load(Ordering::Acquire);
        granted.saturating_sub(returned.saturating_add(spent))
    }

    /// Takes a slot of the loan.
    pub fn take_slot(&self) {
        add(&self.slots_used, 1);
    }

    /// Frees a slot; it stays in the loan.
    pub fn free_slot(&self) {
        let used = self.slots_used.load(Ordering::Relaxed).saturating_sub(1);
        self.slots_used.store(used, Ordering::Release);
    }

    /// Gives idle slots back to the owner.
    pub fn return_slots(&self, slots: u64) {
        add(&self.slots_returned, slots);
    }

    /// Slots as a loan of `granted` in all; used are those in use now.
    #[must_use]
    pub fn slots(&self, granted: u64) -> Loan {
        let returned = self.slots_returned.load(Ordering::Acquire);
        Loan { granted, returned, used: self.slots_used.load(Ordering::Acquire) }
    }
}

/// The bucket as the owner last left it, with the terms it is reckoned by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The bucket.
    pub bucket: Bucket,
    /// Its terms; `None` where no rate is limited.
    pub terms: Option<RateTerms>,
}

/// All shards' rate units and slots, and the bucket's level.
#[derive(Debug)]
pub struct NodeUse {
    cells: Box<[NodeCell]>,
    spare: NodeCell,
    /// Odd while the owner writes the words of the level.
    turn: AtomicU64,
    words: [AtomicU64; 5],
}

impl NodeUse {
    /// Nothing lent, no rate.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self {
            cells: (0..shards).map(|_| NodeCell::default()).collect(),
            spare: NodeCell::default(),
            turn: AtomicU64::new(0),
            words: Default::default(),
        }
    }

    /// The shard's own cell. A shard that does not exist gets a spare one, counted like the others.
    #[must_use]
    pub fn cell(&self, shard: ShardId) -> &NodeCell {
        self.cells.get(usize::from(shard.0)).unwrap_or(&self.spare)
    }

    /// Rate units lent and not used, over all shards. Units on their way back still count as lent until the owner
    /// has them, so that they are never in neither place.
    #[must_use]
    pub fn rate_outstanding(&self) -> u64 {
        let unspent = |cell: &NodeCell| {
            let spent = cell.rate_spent.load(Ordering::Acquire);
            cell.rate_lent.load(Ordering::Acquire).saturating_sub(spent)
        };
        self.cells.iter().chain([&self.spare]).map(unspent).sum()
    }

    /// Rate units spent out of loans, over all shards.
    #[must_use]
    pub fn rate_spent(&self) -> u64 {
        let spent = |cell: &NodeCell| cell.rate_spent.load(Ordering::Acquire);
        self.cells.iter().chain([&self.spare]).map(spent).sum()
    }

    /// Slots in use, over all shards.
    #[must_use]
    pub fn slots_used(&self) -> u64 {
        let used = |cell: &NodeCell| cell.slots_used.load(Ordering::Acquire);
        self.cells.iter().chain([&self.spare]).map(used).sum()
    }

    /// Written by the owner shard alone.
    pub fn publish(&self, level: &Level) {
        let (requests, unit, burst) = match level.terms {
            Some(terms) => (terms.requests, 1 + terms.unit as u64, terms.burst),
            None => (0, 0, 0),
        };
        let full_at = level.bucket.full_at;
        let values = [(full_at >> 64) as u64, full_at as u64, requests, unit, burst];
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        self.turn.store(turn.wrapping_add(2), Ordering::Release);
    }

    /// As last published. The writer is done in a few instructions, so a torn read is taken again.
    #[must_use]
    pub fn level(&self) -> Level {
        loop {
            let before = self.turn.load(Ordering::Acquire);
            let [high, low, requests, unit, burst] =
                self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before & 1 == 0 && before == self.turn.load(Ordering::Relaxed) {
                let full_at = (u128::from(high) << 64) | u128::from(low);
                let terms = unit_of(unit).map(|unit| RateTerms { requests, unit, burst });
                return Level { bucket: Bucket { full_at }, terms };
            }
            std::hint::spin_loop();
        }
    }
}

fn unit_of(word: u64) -> Option<Unit> {
    use Unit::{Day, Hour, Minute, Month, Second, Week, Year};
    let index = usize::try_from(word.checked_sub(1)?).ok()?;
    [Second, Minute, Hour, Day, Week, Month, Year].get(index).copied()
}

#[cfg(test)]
#[path = "cells_tests.rs"]
mod tests;
