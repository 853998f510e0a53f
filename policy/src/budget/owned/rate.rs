//! The owner's bucket: rate units lent to shards and taken back.
//!
//! In: what shards have spent and returned. Out: the bucket's level, for all shards to see. Always holds: level + rate
//! loans ≤ burst.

use super::Owned;
use crate::budget::bucket::Bucket;
use crate::budget::cells::Level;
use crate::budget::{Now, RateTerms, ShardId};

impl Owned {
    /// Said in the cells before the bucket's lower level is: units may be seen twice for a moment, never missed.
    pub(super) fn lend_rate(&mut self, now: Now, to: ShardId, units: u64) {
        let Some(rate) = self.rate.filter(|_| units > 0) else { return };
        let Some(lent) = self.lent.get_mut(usize::from(to.0)) else { return };
        lent.rate += units;
        self.node.cell(to).set_rate_lent(lent.rate - lent.rate_back);
        self.bucket.take(&rate, now.mono_us, units);
        self.outstanding += units;
        self.publish();
    }

    /// Puts rate units back that shards have returned, and lets in only what fits beside those still out.
    pub(super) fn settle_rate(&mut self, now: Now) {
        if self.setting.shared {
            self.fit_share(now, 0);
        }
        let Some(rate) = self.rate else { return };
        self.bucket.cap(&rate, now.mono_us, self.outstanding);
        let mut outstanding = 0;
        for (index, lent) in (0..).zip(&mut self.lent) {
            let cell = self.node.cell(ShardId(index));
            let returned = cell.rate_returned();
            let back = returned.saturating_sub(lent.rate_back);
            outstanding += cell.rate_unspent(lent.rate);
            if back > 0 {
                self.bucket.put_back(&rate, back);
                lent.rate_back = returned;
            }
        }
        self.outstanding = outstanding;
        self.publish();
        for (index, lent) in (0..).zip(&self.lent) {
            self.node.cell(ShardId(index)).set_rate_lent(lent.rate.saturating_sub(lent.rate_back));
        }
    }

    pub(super) fn publish(&self) {
        self.node.publish(&Level { bucket: self.bucket, terms: self.rate });
    }

    /// The bucket under new terms: what is missing in it stays missing.
    pub(super) fn reshape_rate(&mut self, now: Now, old: Option<RateTerms>) {
        self.rate = self.terms.rate;
        self.bucket = match (old, self.rate) {
            (Some(old), Some(new)) => {
                self.bucket.cap(&old, now.mono_us, self.outstanding);
                self.bucket.reshaped(&old, &new, now.mono_us)
            }
            (None, Some(new)) => Bucket::full(&new, now.mono_us),
            (_, None) => Bucket::default(),
        };
        self.publish();
    }

    /// Seconds until there is a rate unit.
    pub(super) fn rate_wait_s(&self, rate: &RateTerms, now: Now) -> u64 {
        if rate.requests == 0 {
            // Other nodes have all of it; that may change with the next report.
            return 1;
        }
        self.bucket.next_in_us(rate, now.mono_us).div_ceil(1_000_000)
    }
}
