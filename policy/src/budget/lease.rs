//! A node's lease of one period: what it holds of the ledger, and when it asks for more.
//!
//! In: the owner shard's use and needs, the ledger's replies. Out: lease requests.
//! Always holds: one request is under way at most, asked again after a second; totals only grow.

use std::sync::Arc;

use super::carried::CarriedUse;
use super::cells::PeriodUse;
use super::message::{LeaseReply, LeaseRequest, ShareClaim, Totals};
use super::{EntitlementId, Now, Period, Terms};

/// A request without a reply is sent again after this long.
const AGAIN_US: u64 = 1_000_000;
/// Use is reported this long after it changed, at the latest.
pub(super) const REPORT_US: u64 = 1_000_000;
/// A lease that was not used for this long goes back.
const IDLE_US: u64 = 10_000_000;
/// Demand is reckoned over no shorter a time than this.
const DEMAND_US_MIN: u64 = 100_000;

/// A reply that brings nothing lets the next request wait this long.
const NOTHING_US: u64 = 50_000;
/// More of the next period is asked for this long after the last time, at the soonest.
const AHEAD_AGAIN_US: u64 = 10_000_000;

/// What every request to the ledger carries, whatever it is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cover {
    pub(super) id: EntitlementId,
    pub(super) terms: Terms,
    pub(super) stamp_us: u64,
    pub(super) share: Option<ShareClaim>,
}

/// The lease of one period.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) period: Period,
    pub(super) used: Arc<PeriodUse>,
    pub(super) granted: u64,
    pub(super) returned: u64,
    /// The ledger has answered once, so use elsewhere is known.
    pub(super) known: bool,
    asked_us: Option<u64>,
    reported: Totals,
    changed_us: u64,
    /// Use and time at the last request, for demand.
    measured: (u64, u64),
    last_grant: u64,
    closed: bool,
    carried: CarriedUse,
    /// Replies to what was said before this lease was begun are of an earlier one.
    born_us: u64,
    /// The newest reply's.
    serial: u64,
    ahead_us: Option<u64>,
    /// A request waits for what was asked last.
    waits: bool,
    /// What each shard had been lent when the period was left.
    pub(super) left_with: Box<[u64]>,
}

impl Lease {
    pub(super) fn new(period: Period, shards: u16, now: Now, carried: CarriedUse) -> Self {
        Self {
            period,
            used: Arc::new(PeriodUse::new(shards)),
            granted: 0,
            returned: 0,
            known: false,
            asked_us: None,
            reported: Totals::default(),
            changed_us: now.mono_us,
            measured: (0, now.mono_us),
            last_grant: 0,
            closed: false,
            carried,
            born_us: now.mono_us,
            serial: 0,
            ahead_us: None,
            waits: false,
            left_with: Box::default(),
        }
    }

    /// Units held, used ones included.
    pub(super) fn held(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }

    /// Asks for what requests wait for, or ahead of need; `None` where a request is under way.
    pub(super) fn ask(&mut self, now: Now, cover: &Cover, need: u64) -> Option<LeaseRequest> {
        let under_way = self.asked_us.is_some_and(|at_us| now.mono_us < at_us + AGAIN_US);
        if under_way {
            return None;
        }
        self.asked_us = Some(now.mono_us);
        self.waits = need > 0;
        let demand = self.demand(now).max(1);
        self.measured = (self.used.totals().net(), now.mono_us);
        Some(self.message(cover, need, demand))
    }

    /// Asks for units of a period that has not begun, for a demand as that of now.
    pub(super) fn ask_ahead(
        &mut self,
        now: Now,
        cover: &Cover,
        demand: u64,
    ) -> Option<LeaseRequest> {
        let again_us = if self.known { AHEAD_AGAIN_US } else { AGAIN_US };
        let is_soon = self.ahead_us.is_some_and(|at_us| now.mono_us < at_us + again_us);
        if is_soon || (self.known && self.granted >= demand.max(1)) {
            return None;
        }
        self.ahead_us = Some(now.mono_us);
        Some(self.message(cover, 0, demand.max(1)))
    }

    /// Units ten seconds of the present demand would use.
    pub(super) fn demand(&self, now: Now) -> u64 {
        let (used, at_us) = self.measured;
        let units = self.used.totals().net().saturating_sub(used);
        let elapsed_us = now.mono_us.saturating_sub(at_us).max(DEMAND_US_MIN);
        let demand = u128::from(units) * 10_000_000 / u128::from(elapsed_us);
        u64::try_from(demand).unwrap_or(u64::MAX)
    }

    /// Half of the last lease or less is free: time to ask for more.
    pub(super) fn runs_low(&self, free: u64) -> bool {
        self.asked_us.is_none() && self.last_grant > 0 && free <= self.last_grant / 2
    }

    /// Takes a reply. One that is late or comes twice changes nothing.
    pub(super) fn take(&mut self, reply: &LeaseReply) {
        if self.is_before(reply) {
            return;
        }
        self.known = true;
        let grown = reply.granted.saturating_sub(self.granted);
        if let Some(asked_us) = self.asked_us.filter(|asked_us| reply.lease_us >= *asked_us) {
            // A reply without more units says that there are none: no more asking ahead of need.
            self.last_grant = grown;
            let again_us = match (grown, reply.coming) {
                (0, true) => Some(asked_us),
                (0, false) => Some((asked_us + NOTHING_US).saturating_sub(AGAIN_US)),
                _ => None,
            };
            self.asked_us = again_us.filter(|_| self.waits);
        } else if grown > 0 {
            self.last_grant = grown;
        }
        self.granted = self.granted.max(reply.granted);
        // Given back before this account was last forgotten.
        self.returned = self.returned.max(reply.returned);
        if reply.serial > self.serial {
            self.serial = reply.serial;
            self.used.set_elsewhere(reply.elsewhere);
        }
    }

    /// Gives free units back.
    pub(super) fn give_back(&mut self, units: u64) {
        self.returned = self.returned.saturating_add(units);
        self.last_grant = 0;
    }

    /// Its period begins: what was leased ahead has not been idle for it.
    pub(super) fn begin(&mut self, now: Now) {
        self.changed_us = self.changed_us.max(now.mono_us);
    }

    /// Whether nothing was used for long enough that free units should go back.
    pub(super) fn is_idle(&self, now: Now) -> bool {
        now.mono_us.saturating_sub(self.changed_us) >= IDLE_US
    }

    /// What the ledger has not been told yet.
    pub(super) fn report(&mut self, now: Now, cover: &Cover) -> Option<LeaseRequest> {
        if self.used.totals() == self.reported {
            return None;
        }
        self.changed_us = now.mono_us;
        Some(self.message(cover, 0, 0))
    }

    /// The last word on a period, but for late refunds.
    pub(super) fn close(&mut self, cover: &Cover) -> LeaseRequest {
        self.closed = true;
        self.message(cover, 0, 0)
    }

    /// Whether a reply is to something that was said before this lease was begun.
    pub(super) fn is_before(&self, reply: &LeaseReply) -> bool {
        reply.lease_us < self.born_us
    }

    /// Goes on with a period that was left.
    pub(super) fn reopen(&mut self, period: Period) {
        if self.closed {
            // Nobody had cells of it any more, so what was lent of it and not used went back with the rest.
            self.left_with = Box::default();
        }
        self.period = period;
        (self.closed, self.asked_us) = (false, None);
    }

    /// Whether the last word was said.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Totals as they are, asking for nothing.
    pub(super) fn tell(&mut self, cover: &Cover) -> LeaseRequest {
        self.message(cover, 0, 0)
    }

    fn message(&mut self, cover: &Cover, need: u64, demand: u64) -> LeaseRequest {
        self.reported = self.used.totals();
        if self.closed {
            // The ledger takes back what was not used, and may give it to others: what it said before it heard of this counts no
            // more, should the period be gone on with.
            self.granted = self.granted.min(self.returned.saturating_add(self.reported.net()));
            self.born_us = self.born_us.max(cover.stamp_us);
        }
        LeaseRequest {
            id: cover.id,
            period: self.period,
            terms: cover.terms,
            totals: self.reported,
            returned: self.returned,
            granted: self.granted,
            need,
            demand,
            closed: self.closed,
            carried: self.carried,
            stamp_us: cover.stamp_us,
            share: cover.share,
        }
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
