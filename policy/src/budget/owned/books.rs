//! An owner's account as the simulator checks it.
//!
//! In: an account. Out: its figures, added up anew. Always holds: reading changes nothing.

use super::Owned;
use crate::budget::{Now, Period, PeriodId, ShardId};

/// An account as the simulator checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::budget) struct Books {
    pub(in crate::budget) period: Period,
    pub(in crate::budget) held: u64,
    pub(in crate::budget) committed: u64,
    pub(in crate::budget) unspent: u64,
    pub(in crate::budget) used: u64,
    pub(in crate::budget) slots_held: u64,
    pub(in crate::budget) slots_used: u64,
    /// Whole rate units in the bucket and with shards.
    pub(in crate::budget) rate: u64,
}

impl Owned {
    /// The account as it stands.
    pub(in crate::budget) fn books(&self, now: Now) -> Books {
        let (committed, unspent) = self.units();
        let level = self.rate.map_or(0, |rate| {
            let mut bucket = self.bucket;
            bucket.cap(&rate, now.mono_us, self.outstanding);
            bucket.level(&rate, now.mono_us)
        });
        Books {
            period: self.lease.period,
            held: self.lease.held(),
            committed,
            unspent,
            used: self.lease.used.totals().net(),
            slots_held: self.slots().0,
            slots_used: self.node.slots_used(),
            rate: level.saturating_add(self.node.rate_outstanding()),
        }
    }

    /// Units the owner believes a shard may still use in a period.
    pub(in crate::budget) fn lent_to(&self, shard: ShardId, period: PeriodId) -> Option<u64> {
        let lent = self.lent.get(usize::from(shard.0))?;
        let here = self.lease.period.id == period;
        here.then(|| self.lease.used.cell(shard).loan(lent.units).unspent())
    }
}
