//! This node's share of an entitlement's rate and slots, where other nodes lease from the same ledger.
//!
//! In: the ledger's shares, the bucket, slots that shards hold. Out: the bucket's terms, what the ledger is told.
//! Always holds: a smaller share is said to be in force only once nothing beyond it is out; a share that has run out
//! without contact falls to its floor; rate units there is no more room for are given to the ledger, none twice.

use super::{Owned, Step};
use crate::budget::bucket::Bucket;
use crate::budget::mail::Mail;
use crate::budget::message::{LeaseReply, Share, ShareClaim};
use crate::budget::{Now, RateTerms};

/// A claim is said again after this long, so that the share stays valid.
const CLAIM_AGAIN_US: u64 = 1_000_000;
/// A node that has not used rate or slots for this long gives its share away.
const LEAVE_US: u64 = 10_000_000;
/// A request waits this long for a slot that other nodes may not need.
const SLOT_WAIT_US: u64 = 250_000;
/// Demand is reckoned over no shorter a time than this.
const DEMAND_US_MIN: u64 = 500_000;

#[derive(Debug, Default)]
pub(super) struct Shares {
    held: Option<Share>,
    valid_until_us: u64,
    /// The last share with nothing beyond it out.
    applied: u64,
    /// Rate units put into the bucket, of those handed here.
    tokens: u64,
    given: u64,
    /// The stamp from which on `tokens` and `given` are counted.
    counted_us: u64,
    /// Replies to what was said before are of a share that was given away.
    since_us: u64,
    /// Questions for rate at the owner.
    counted: u64,
    /// Count and time when demand was last reckoned.
    measured: (u64, u64),
    demand: u64,
    slots_want: bool,
    leaves: bool,
    /// The stamp with which the share was given away, until the ledger has heard it: what it has not heard of would be
    /// kept from other nodes for an hour.
    left_us: Option<u64>,
    claimed: ShareClaim,
    claimed_us: Option<u64>,
}

impl Shares {
    /// Nothing held, and nothing counted before this stamp.
    pub(super) fn counted_from(stamp_us: u64) -> Self {
        Self { counted_us: stamp_us, since_us: stamp_us, ..Self::default() }
    }

    /// A request asked for a rate unit.
    pub(super) fn count(&mut self) {
        self.counted += 1;
    }
}

impl Owned {
    /// Slots this node may use.
    pub(super) fn slots_max(&self) -> Option<u32> {
        let most = self.terms.concurrency?;
        if !self.setting.shared {
            return Some(most);
        }
        Some(self.shares.held.map_or(0, |share| share.slots.min(most)))
    }

    /// Whether waiting may bring a slot.
    pub(super) fn slots_may_come(&self, now: Now, since_us: u64) -> bool {
        let may_grow = self.shares.held.is_none_or(|share| share.slots_may_grow);
        let is_known = self.shares.held.is_some();
        let waited_us = now.mono_us.saturating_sub(since_us);
        self.setting.shared && may_grow && (!is_known || waited_us < SLOT_WAIT_US)
    }

    /// Whether the ledger counts this node among those that share.
    pub(super) fn has_share(&self) -> bool {
        self.shares.held.is_some()
    }

    /// Whether the ledger may still count it, though it gave its share away.
    pub(super) fn is_leaving(&self) -> bool {
        self.shares.left_us.is_some()
    }

    /// Asks for a slot more than the share has.
    pub(super) fn ask_slot(&mut self, now: Now, mail: &mut Mail) -> Step {
        self.shares.slots_want = true;
        if self.shares.held.is_none() {
            return self.ask_share(now, mail);
        }
        Step::Wait
    }

    /// Asks for a share.
    pub(super) fn ask_share(&mut self, now: Now, mail: &mut Mail) -> Step {
        // At once where the last thing said was that none is wanted.
        if self.is_claim_due(now) || self.shares.claimed.leaves {
            self.tell(now, mail);
        }
        Step::Wait
    }

    fn is_claim_due(&self, now: Now) -> bool {
        self.shares.claimed_us.is_none_or(|at_us| now.mono_us >= at_us + CLAIM_AGAIN_US)
    }

    /// A claim is on its way.
    pub(super) fn note_claim(&mut self, claim: &ShareClaim, stamp_us: u64) {
        self.shares.claimed = *claim;
        self.shares.claimed_us = Some(stamp_us);
    }

    /// Takes the share of a reply.
    pub(super) fn take_share(&mut self, now: Now, reply: &LeaseReply, mail: &mut Mail) {
        let Some(share) = reply.share else {
            self.shares.left_us = self.shares.left_us.filter(|left_us| reply.stamp_us < *left_us);
            return;
        };
        if reply.stamp_us < self.shares.since_us {
            return;
        }
        let known = self.shares.held;
        if known.is_some_and(|known| share.serial < known.serial) {
            return;
        }
        let valid_until_us = reply.stamp_us.saturating_add(share.valid_us);
        self.shares.valid_until_us = self.shares.valid_until_us.max(valid_until_us);
        (self.shares.held, self.shares.left_us) = (Some(share), None);
        // Those of a share that has run out the ledger may have handed to others.
        let is_valid = now.mono_us < valid_until_us;
        let tokens = if is_valid { share.tokens.saturating_sub(self.shares.tokens) } else { 0 };
        self.shares.tokens += tokens;
        self.fit_share(now, tokens);
        if self.slots().0 > u64::from(self.slots_max().unwrap_or(u32::MAX)) {
            self.recall(now, |recall| recall.slots = true, mail);
        }
    }

    /// Fits the bucket to the share as it is now, and puts rate units into it that came with it.
    pub(super) fn fit_share(&mut self, now: Now, tokens: u64) {
        let rate = match (self.terms.rate, self.shares.held) {
            (Some(_), Some(share)) => {
                let is_valid = now.mono_us < self.shares.valid_until_us;
                let cut = if is_valid { share.rate } else { share.floor };
                Some(RateTerms { requests: cut.requests, unit: share.unit, burst: cut.burst })
            }
            _ => None,
        };
        if rate != self.rate {
            let (bucket, dropped) = match (self.rate, rate) {
                (Some(old), Some(new)) => {
                    self.bucket.cap(&old, now.mono_us, self.outstanding);
                    self.bucket.refitted(&old, &new, now.mono_us, self.outstanding)
                }
                (None, Some(new)) => (Bucket::empty(&new, now.mono_us), 0),
                (_, None) => (Bucket::default(), 0),
            };
            self.bucket = bucket;
            self.shares.given += dropped;
            self.rate = rate;
        }
        if let Some(rate) = self.rate
            && tokens > 0
        {
            self.bucket.put_back(&rate, tokens);
            self.bucket.cap(&rate, now.mono_us, self.outstanding);
        }
        self.publish();
    }

    /// What the ledger is told of the share; `None` where nothing is shared.
    pub(super) fn claim(&mut self, now: Now) -> Option<ShareClaim> {
        let is_limited = self.terms.rate.is_some() || self.terms.concurrency.is_some();
        if !self.setting.shared || !(is_limited || self.has_share()) {
            return None;
        }
        // What is said of a period for its own sake asks for no share of what nobody wants.
        let is_idle = now.mono_us.saturating_sub(self.asked_us) >= LEAVE_US && !self.has_share();
        if is_idle && self.shares.left_us.is_none() {
            return None;
        }
        self.measure(now);
        let slots_held = u32::try_from(self.slots().0).unwrap_or(u32::MAX);
        if let Some(share) = self.shares.held {
            let out = self.node.rate_outstanding();
            if self.rate.is_none_or(|rate| out <= rate.burst) {
                self.shares.applied = share.serial;
            }
        }
        let shares = &self.shares;
        Some(ShareClaim {
            serial: shares.applied,
            since_us: shares.counted_us,
            demand: shares.demand,
            given: shares.given,
            taken: shares.tokens,
            slots_held,
            slots_want: u32::from(shares.slots_want),
            leaves: shares.leaves || is_idle,
        })
    }

    /// What the ledger is told of the share when the process ends: nothing of it is used any more.
    pub(super) fn last_claim(&self) -> Option<ShareClaim> {
        let shares = &self.shares;
        shares.held.map(|share| ShareClaim {
            serial: share.serial,
            since_us: shares.counted_us,
            demand: 0,
            given: shares.given,
            taken: shares.tokens,
            slots_held: 0,
            slots_want: 0,
            leaves: true,
        })
    }

    fn measure(&mut self, now: Now) {
        let count = self.shares.counted + self.node.rate_spent();
        let (before, at_us) = self.shares.measured;
        let elapsed_us = now.mono_us.saturating_sub(at_us);
        if elapsed_us >= DEMAND_US_MIN {
            let recent = u128::from(count - before) * 10_000_000 / u128::from(elapsed_us);
            let recent = u64::try_from(recent).unwrap_or(u64::MAX);
            self.shares.demand = self.shares.demand / 2 + recent / 2 + (recent & 1);
            self.shares.measured = (count, now.mono_us);
        }
    }

    /// Says what has changed of the share, and that it is still used; gives it away when it is not.
    pub(super) fn tell_share(&mut self, now: Now, mail: &mut Mail) {
        let waits_for_slot = self
            .queue
            .front()
            .is_some_and(|head| head.need.is_some_and(|need| need.slot) && !head.slot);
        self.shares.slots_want &= waits_for_slot;
        let Some(share) = self.shares.held else {
            if self.is_leaving() && self.is_claim_due(now) {
                self.tell(now, mail);
            }
            return;
        };
        let slots_held = u32::try_from(self.slots().0).unwrap_or(u32::MAX);
        let idle_us = now.mono_us.saturating_sub(self.asked_us);
        if idle_us >= LEAVE_US && slots_held == 0 && self.outstanding == 0 && self.queue.is_empty()
        {
            self.leave(now, mail);
            return;
        }
        let claimed = self.shares.claimed;
        let is_within = self.rate.is_none_or(|rate| self.node.rate_outstanding() <= rate.burst);
        let is_applied = claimed.serial != share.serial && is_within;
        let is_over = claimed.slots_held > share.slots && slots_held < claimed.slots_held;
        let is_wanting = self.shares.slots_want != (claimed.slots_want > 0);
        if is_over || slots_held > share.slots {
            self.recall(now, |recall| recall.slots = true, mail);
        }
        if is_applied || is_over || is_wanting || self.is_claim_due(now) {
            self.tell(now, mail);
        }
    }

    /// Gives the share away, with what is in the bucket.
    fn leave(&mut self, now: Now, mail: &mut Mail) {
        if let Some(rate) = self.rate {
            self.shares.given += self.bucket.level(&rate, now.mono_us);
        }
        self.shares.leaves = true;
        self.tell(now, mail);
        let left_us = self.last_stamp_us;
        let Shares { counted_us, tokens, given, measured, counted, claimed, claimed_us, .. } =
            self.shares;
        self.shares = Shares {
            counted_us,
            tokens,
            given,
            measured,
            counted,
            claimed,
            claimed_us,
            since_us: left_us + 1,
            left_us: Some(left_us),
            ..Shares::default()
        };
        self.rate = None;
        self.bucket = Bucket::default();
        self.publish();
    }
}
