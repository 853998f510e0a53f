//! Counters of one entitlement that every shard of the node may read, each written by one shard alone.
//!
//! In: what a shard spends and gives back. Out: use and loans, summed over the shards, without a message.
//! Always holds: one writer a counter, so a plain load and store with release order is exact; all totals only grow,
//! but for `slots_used`, which is a level. Where two totals are subtracted, the one that lowers the result is read
//! so that a half-seen change never makes more units than there are.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::ShardId;
use super::message::Totals;

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

    /// Units of a loan of `granted` in all that are neither used nor given back.
    #[must_use]
    pub fn unspent(&self, granted: u64) -> u64 {
        let returned = self.returned();
        granted.saturating_sub(returned).saturating_sub(self.totals().net())
    }

    /// Units that the owner must count as gone: what is lent, or what is used where that is more.
    #[must_use]
    pub fn committed(&self, granted: u64) -> u64 {
        let returned = self.returned();
        granted.saturating_sub(returned).max(self.totals().net())
    }
}

/// All shards' use in one period.
#[derive(Debug)]
pub struct PeriodUse {
    cells: Box<[PeriodCell]>,
    spare: PeriodCell,
    elsewhere: AtomicU64,
}

impl PeriodUse {
    /// Nothing used.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let cells = (0..shards).map(|_| PeriodCell::default()).collect();
        Self { cells, spare: PeriodCell::default(), elsewhere: AtomicU64::new(0) }
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

    /// Written by the owner shard alone.
    pub fn set_elsewhere(&self, units: u64) {
        self.elsewhere.store(units, Ordering::Release);
    }
}

/// One shard's rate units and slots.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct NodeCell {
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

    /// The owner says what it has lent in all; for figures.
    pub fn set_rate_lent(&self, granted: u64) {
        self.rate_lent.store(granted, Ordering::Release);
    }

    /// Rate units of a loan of `granted` in all that are neither used nor given back.
    #[must_use]
    pub fn rate_unspent(&self, granted: u64) -> u64 {
        let spent = self.rate_spent.load(Ordering::Acquire);
        granted.saturating_sub(self.rate_returned().saturating_add(spent))
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

    /// Slots in use.
    #[must_use]
    pub fn slots_used(&self) -> u64 {
        self.slots_used.load(Ordering::Acquire)
    }

    /// Slots held of a loan of `granted` in all, in use or idle.
    #[must_use]
    pub fn slots_held(&self, granted: u64) -> u64 {
        let returned = self.slots_returned.load(Ordering::Acquire);
        granted.saturating_sub(returned).max(self.slots_used())
    }

    /// Slots of the loan that are idle.
    #[must_use]
    pub fn slots_idle(&self, granted: u64) -> u64 {
        let returned = self.slots_returned.load(Ordering::Acquire);
        granted.saturating_sub(returned).saturating_sub(self.slots_used())
    }
}

/// All shards' rate units and slots, and the bucket as the owner last left it.
#[derive(Debug)]
pub struct NodeUse {
    cells: Box<[NodeCell]>,
    spare: NodeCell,
    /// Odd while the owner writes the two halves below.
    turn: AtomicU64,
    full_at_high: AtomicU64,
    full_at_low: AtomicU64,
}

impl NodeUse {
    /// Nothing lent, the bucket full.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self {
            cells: (0..shards).map(|_| NodeCell::default()).collect(),
            spare: NodeCell::default(),
            turn: AtomicU64::new(0),
            full_at_high: AtomicU64::new(0),
            full_at_low: AtomicU64::new(0),
        }
    }

    /// The shard's own cell. A shard that does not exist gets a spare one, counted like the others.
    #[must_use]
    pub fn cell(&self, shard: ShardId) -> &NodeCell {
        self.cells.get(usize::from(shard.0)).unwrap_or(&self.spare)
    }

    /// Rate units lent and not used, over all shards.
    #[must_use]
    pub fn rate_outstanding(&self) -> u64 {
        let unspent = |cell: &NodeCell| cell.rate_unspent(cell.rate_lent.load(Ordering::Acquire));
        self.cells.iter().chain([&self.spare]).map(unspent).sum()
    }

    /// Slots in use, over all shards.
    #[must_use]
    pub fn slots_used(&self) -> u64 {
        self.cells.iter().chain([&self.spare]).map(NodeCell::slots_used).sum()
    }

    /// Written by the owner shard alone: when the bucket is full, on the bucket's own scale.
    pub fn publish_full_at(&self, full_at: u128) {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.full_at_high.store((full_at >> 64) as u64, Ordering::Relaxed);
        self.full_at_low.store(full_at as u64, Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(2), Ordering::Release);
    }

    /// As last published. The writer is done in a few instructions, so a torn read is taken again.
    #[must_use]
    pub fn full_at(&self) -> u128 {
        loop {
            let before = self.turn.load(Ordering::Acquire);
            let high = self.full_at_high.load(Ordering::Relaxed);
            let low = self.full_at_low.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if before & 1 == 0 && before == self.turn.load(Ordering::Relaxed) {
                return (u128::from(high) << 64) | u128::from(low);
            }
            std::hint::spin_loop();
        }
    }
}
