//! A node's lease of one period: what it holds of the ledger, and when it asks for more.
//!
//! In: the owner shard's use and needs, the ledger's replies. Out: lease requests.
//! Always holds: one request is under way at most, asked again after a second; totals only grow.

use std::sync::Arc;

use super::cells::PeriodUse;
use super::message::{LeaseReply, LeaseRequest, Totals};
use super::{EntitlementId, Now, Period, Terms};

/// A request without a reply is sent again after this long.
const AGAIN_US: u64 = 1_000_000;
/// Use is reported this long after it changed, at the latest.
pub(super) const REPORT_US: u64 = 1_000_000;
/// A lease that was not used for this long goes back.
const IDLE_US: u64 = 10_000_000;
/// Demand is reckoned over no shorter a time than this.
const DEMAND_US_MIN: u64 = 100_000;

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
}

impl Lease {
    pub(super) fn new(period: Period, shards: u16, now: Now) -> Self {
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
        }
    }

    /// Units held, used ones included.
    pub(super) fn held(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }

    /// Asks for what requests wait for, or ahead of need; `None` where a request is under way.
    pub(super) fn ask(
        &mut self,
        now: Now,
        id: EntitlementId,
        terms: &Terms,
        need: u64,
    ) -> Option<LeaseRequest> {
        let under_way = self.asked_us.is_some_and(|at_us| now.mono_us < at_us + AGAIN_US);
        if under_way {
            return None;
        }
        self.asked_us = Some(now.mono_us);
        let demand = self.demand(now).max(1);
        self.measured = (self.used.totals().net(), now.mono_us);
        Some(self.message(id, terms, need, demand))
    }

    /// Units ten seconds of the present demand would use.
    fn demand(&self, now: Now) -> u64 {
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
        self.known = true;
        self.asked_us = None;
        // A reply without more units says that there are none: no more asking ahead of need.
        self.last_grant = reply.granted.saturating_sub(self.granted);
        self.granted = self.granted.max(reply.granted);
        // Given back before this account was last forgotten.
        self.returned = self.returned.max(reply.returned);
        self.used.set_elsewhere(reply.elsewhere);
    }

    /// Gives free units back.
    pub(super) fn give_back(&mut self, units: u64) {
        self.returned = self.returned.saturating_add(units);
        self.last_grant = 0;
    }

    /// Whether nothing was used for long enough that free units should go back.
    pub(super) fn is_idle(&self, now: Now) -> bool {
        now.mono_us.saturating_sub(self.changed_us) >= IDLE_US
    }

    /// What the ledger has not been told yet.
    pub(super) fn report(
        &mut self,
        now: Now,
        id: EntitlementId,
        terms: &Terms,
    ) -> Option<LeaseRequest> {
        if self.used.totals() == self.reported {
            return None;
        }
        self.changed_us = now.mono_us;
        Some(self.message(id, terms, 0, 0))
    }

    /// The last word on a period, but for late refunds.
    pub(super) fn close(&mut self, id: EntitlementId, terms: &Terms) -> LeaseRequest {
        self.closed = true;
        self.message(id, terms, 0, 0)
    }

    /// Totals as they are, asking for nothing.
    pub(super) fn tell(&mut self, id: EntitlementId, terms: &Terms) -> LeaseRequest {
        self.message(id, terms, 0, 0)
    }

    fn message(
        &mut self,
        id: EntitlementId,
        terms: &Terms,
        need: u64,
        demand: u64,
    ) -> LeaseRequest {
        self.reported = self.used.totals();
        LeaseRequest {
            id,
            period: self.period,
            terms: *terms,
            totals: self.reported,
            returned: self.returned,
            granted: self.granted,
            need,
            demand,
            closed: self.closed,
        }
    }
}
