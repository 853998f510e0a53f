//! One entitlement as one shard knows it: its loans, and what can be decided with them alone.
//!
//! In: requests, the owner's answers. Out: verdicts that need nobody else, units given back.
//! Always holds: a unit is used only from a loan of its own period, before the period's end; a refusal is only given
//! when the cells of all shards show that the limit is used up.

use std::sync::Arc;

use super::cells::{NodeUse, PeriodUse};
use super::message::{Answer, Recall};
use super::{
    Admitted, Decided, EntitlementId, Figures, Now, Overage, Period, PeriodId, RateFigures, Reason,
    Refusal, Refused, ShardId, Terms, Ticket,
};

/// What a request has got of the rows before quota.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) rate: bool,
    pub(super) slot: bool,
}

/// The owner's cells and the period they are of.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) period: Period,
    pub(super) used: Arc<PeriodUse>,
    pub(super) node: Arc<NodeUse>,
    turn: u64,
}

/// Loans of one entitlement at one shard.
#[derive(Debug)]
pub(super) struct Loans {
    pub(super) id: EntitlementId,
    pub(super) shard: ShardId,
    pub(super) terms: Terms,
    /// The terms are news to the owner: nothing is decided until it has answered.
    pub(super) stale: bool,
    pub(super) view: Option<View>,
    /// Tickets of the current period that are not settled.
    pub(super) open: u64,
    /// Units of requests that went on unmetered before any cells were known.
    pub(super) unmetered: u64,
    /// Earlier periods that have tickets, and how many.
    pub(super) older: Vec<(PeriodId, Arc<PeriodUse>, u64)>,
    units_granted: u64,
    rate_granted: u64,
    rate_until_us: u64,
    slots_granted: u64,
}

/// Earlier periods kept for refunds at one shard; requests may outlive several short ones.
const OLDER_MAX: usize = 8;

impl Loans {
    pub(super) fn new(id: EntitlementId, shard: ShardId, terms: &Terms) -> Self {
        Self {
            id,
            shard,
            terms: *terms,
            stale: true,
            view: None,
            open: 0,
            unmetered: 0,
            older: Vec::new(),
            units_granted: 0,
            rate_granted: 0,
            rate_until_us: 0,
            slots_granted: 0,
        }
    }

    /// Takes the terms a request came under, where they are newer. True when loans were voided by it.
    pub(super) fn learn(&mut self, terms: &Terms) -> bool {
        if terms.version <= self.terms.version {
            return false;
        }
        let changed = !terms.same_as(&self.terms);
        self.terms = *terms;
        self.stale |= changed;
        changed && self.give_back(&Recall { id: self.id, rate: true, slots: true, units: true })
    }

    /// The cells, where they are of a period that is not over.
    pub(super) fn current(&self, now: Now) -> Option<&View> {
        let is_current = |view: &&View| now.unix_s < view.period.end_s && !view.used.is_left();
        self.view.as_ref().filter(|view| !self.stale && is_current(view))
    }

    /// Rows 11 to 15 with what is here, or `None` where the owner must be asked; `held` says how far it came.
    pub(super) fn decide(&mut self, now: Now, held: &mut Held, cost: u64) -> Option<Decided> {
        let view = self.current(now)?;
        let node_cell = view.node.cell(self.shard);
        if self.terms.rate.is_some() && !held.rate {
            let unspent = node_cell.rate_unspent(self.rate_granted);
            if unspent > 0 && now.mono_us < self.rate_until_us {
                node_cell.spend_rate();
            } else {
                return self.refuse_rate(now, view);
            }
        }
        held.rate = true;
        if let Some(slots_max) = self.terms.concurrency
            && !held.slot
        {
            if node_cell.slots(self.slots_granted).unspent() > 0 {
                node_cell.take_slot();
                held.slot = true;
            } else if view.node.slots_used() >= u64::from(slots_max) {
                return Some(self.refused(now, view, Refused::Concurrency, 1));
            } else if self.terms.refuses(view.used.used(), cost) {
                // A slot could be had elsewhere; a refusal does not need it.
                return Some(self.refuse_quota(now, view));
            } else {
                return None;
            }
        }
        let cell = view.used.cell(self.shard);
        let used = view.used.used();
        // A correction elsewhere may have taken what this loan stands for.
        let refuses = self.terms.refuses(used, cost);
        let bounded = cost > 0 && self.terms.ceiling().is_some();
        if !refuses && (!bounded || cell.loan(self.units_granted).unspent() >= cost) {
            let terms = self.terms;
            return Some(self.charge_known(now, &terms, (held.slot, cost), used));
        }
        if refuses {
            if std::mem::take(&mut held.slot) {
                node_cell.free_slot();
            }
            return Some(self.refuse_quota(now, view));
        }
        None
    }

    fn refuse_quota(&self, now: Now, view: &View) -> Decided {
        let retry_after_s = view.period.left_s(now.unix_s).max(1);
        self.refused(now, view, Refused::Quota, retry_after_s)
    }

    fn refuse_rate(&self, now: Now, view: &View) -> Option<Decided> {
        let level = view.node.level();
        let terms = level.terms?;
        if level.bucket.level(&terms, now.mono_us) > 0 || view.node.rate_outstanding() > 0 {
            return None;
        }
        let wait_us = level.bucket.next_in_us(&terms, now.mono_us);
        Some(self.refused(now, view, Refused::Rate, wait_us.div_ceil(1_000_000).max(1)))
    }

    fn refused(&self, now: Now, view: &View, by: Refused, retry_after_s: u64) -> Decided {
        let figures = figures(&self.terms, view, now);
        Decided::Refused(Refusal { by, retry_after_s, figures })
    }

    /// Admits a request and charges it: one whose units are lent to this shard, or need not be. Whether it is past
    /// the limit is told by the use that all shards can see.
    pub(super) fn charge(&mut self, now: Now, terms: &Terms, slot: bool, cost: u64) -> Decided {
        let used = self.view.as_ref().map_or(0, |view| view.used.used());
        self.charge_known(now, terms, (slot, cost), used)
    }

    fn charge_known(
        &mut self,
        now: Now,
        terms: &Terms,
        (slot, cost): (bool, u64),
        used: u64,
    ) -> Decided {
        let Some(view) = &self.view else { return Decided::Unknown { retry_after_s: 1 } };
        let past = terms.overage != Overage::Deny && terms.exceeds(used, cost);
        let reason = if past { Reason::Overage } else { Reason::Ok };
        view.used.cell(self.shard).charge(cost);
        let ticket = Ticket { id: self.id, period: view.period.id, charge: cost, slot };
        let figures = figures_at(terms, view, now, used.saturating_add(cost));
        self.open += 1;
        Decided::Admitted(Admitted { ticket, reason, figures })
    }

    /// Charges a request that goes on without units, to the period known last.
    pub(super) fn charge_unmetered(&mut self, now: Now, cost: u64) -> Option<Admitted> {
        let Some(view) = &self.view else {
            self.unmetered = self.unmetered.saturating_add(cost);
            return None;
        };
        view.used.cell(self.shard).charge(cost);
        let ticket = Ticket { id: self.id, period: view.period.id, charge: cost, slot: false };
        let figures = figures(&self.terms, view, now);
        self.open += 1;
        Some(Admitted { ticket, reason: Reason::Ok, figures })
    }

    /// The owner has refused this request.
    pub(super) fn refuse_as_told(&self, now: Now, by: Refused, retry_after_s: u64) -> Decided {
        match &self.view {
            Some(view) => self.refused(now, view, by, retry_after_s),
            None => Decided::Unknown { retry_after_s },
        }
    }

    /// Takes the owner's answer: terms, cells, totals of loans. An answer of an earlier period or incarnation than
    /// the one known changes nothing.
    /// True when units came with it.
    pub(super) fn take_answer(&mut self, answer: &Answer) -> bool {
        if answer.terms.version >= self.terms.version || answer.terms.same_as(&self.terms) {
            let version = answer.terms.version.max(self.terms.version);
            self.terms = Terms { version, ..answer.terms };
            self.stale = false;
        }
        let known = self.view.as_ref();
        if known.is_some_and(|view| answer.turn < view.turn) {
            return false;
        }
        let same_period = known.is_some_and(|view| Arc::ptr_eq(&view.used, &answer.used));
        let same_node = known.is_some_and(|view| Arc::ptr_eq(&view.node, &answer.node));
        if !same_period {
            self.leave_period();
            self.units_granted = 0;
        }
        if !same_node {
            (self.rate_granted, self.slots_granted) = (0, 0);
        }
        if answer.rate_granted > self.rate_granted {
            self.rate_until_us = answer.rate_until_us;
        }
        let has_grown = answer.units_granted > self.units_granted
            || answer.rate_granted > self.rate_granted
            || answer.slots_granted > self.slots_granted;
        self.units_granted = self.units_granted.max(answer.units_granted);
        self.rate_granted = self.rate_granted.max(answer.rate_granted);
        self.slots_granted = self.slots_granted.max(answer.slots_granted);
        self.view = Some(View {
            period: answer.period,
            used: answer.used.clone(),
            node: answer.node.clone(),
            turn: answer.turn,
        });
        answer.used.cell(self.shard).charge(std::mem::take(&mut self.unmetered));
        has_grown
    }

    fn leave_period(&mut self) {
        let open = std::mem::take(&mut self.open);
        if let Some(view) = &self.view
            && open > 0
        {
            self.older.push((view.period.id, view.used.clone(), open));
            if self.older.len() > OLDER_MAX {
                self.older.remove(0);
            }
        }
    }

    /// The cells a ticket was charged in, where they are still known.
    pub(super) fn cells_of(&self, period: PeriodId) -> Option<&PeriodUse> {
        if let Some(view) = &self.view
            && view.period.id == period
        {
            return Some(&view.used);
        }
        self.older.iter().find(|(id, ..)| *id == period).map(|(_, used, _)| &**used)
    }

    /// One ticket less.
    pub(super) fn close(&mut self, period: PeriodId) {
        if self.view.as_ref().is_some_and(|view| view.period.id == period) {
            self.open = self.open.saturating_sub(1);
        } else if let Some(older) = self.older.iter_mut().find(|(id, ..)| *id == period) {
            older.2 = older.2.saturating_sub(1);
            self.older.retain(|(.., open)| *open > 0);
        }
    }

    /// A slot granted for a waiting request is in use.
    pub(super) fn take_slot(&self) {
        if let Some(view) = &self.view {
            view.node.cell(self.shard).take_slot();
        }
    }

    /// Figures by the owner's last answer, whatever the clock here says since.
    pub(super) fn any_figures(&self, now: Now) -> Option<Figures> {
        self.view.as_ref().map(|view| figures(&self.terms, view, now))
    }

    /// The period counted here, if any is, is not the owner's any more.
    pub(super) fn has_left(&self) -> bool {
        self.view.as_ref().is_none_or(|view| view.used.is_left())
    }

    /// A slot is free again.
    pub(super) fn free_slot(&self) {
        if let Some(view) = &self.view {
            view.node.cell(self.shard).free_slot();
        }
    }

    /// Gives back what is lent and not used. True when there was any.
    pub(super) fn give_back(&mut self, what: &Recall) -> bool {
        let Some(view) = &self.view else { return false };
        let node_cell = view.node.cell(self.shard);
        let cell = view.used.cell(self.shard);
        let rate = if what.rate { node_cell.rate_unspent(self.rate_granted) } else { 0 };
        let slots = if what.slots { node_cell.slots(self.slots_granted).unspent() } else { 0 };
        let units = if what.units { cell.loan(self.units_granted).unspent() } else { 0 };
        if rate > 0 {
            node_cell.return_rate(rate);
        }
        if slots > 0 {
            node_cell.return_slots(slots);
        }
        if units > 0 {
            cell.give_back(units);
        }
        rate + slots + units > 0
    }

    /// Rate units that may still be used here.
    pub(super) fn rate_unspent(&self) -> u64 {
        let unspent = |view: &View| view.node.cell(self.shard).rate_unspent(self.rate_granted);
        self.view.as_ref().map_or(0, unspent)
    }

    /// Until when rate units may be used.
    pub(super) fn rate_until_us(&self) -> u64 {
        self.rate_until_us
    }

    /// Quota units that may still be used here.
    pub(super) fn units_unspent(&self) -> u64 {
        let unspent = |view: &View| view.used.cell(self.shard).loan(self.units_granted).unspent();
        self.view.as_ref().map_or(0, unspent)
    }

    /// Slots that are lent to this shard and idle.
    pub(super) fn slots_idle(&self) -> u64 {
        let idle = |view: &View| view.node.cell(self.shard).slots(self.slots_granted).unspent();
        self.view.as_ref().map_or(0, idle)
    }
}

/// An entitlement's numbers, as its cells have them.
pub(super) fn figures(terms: &Terms, view: &View, now: Now) -> Figures {
    figures_at(terms, view, now, view.used.used())
}

fn figures_at(terms: &Terms, view: &View, now: Now, used: u64) -> Figures {
    let rate = terms.rate.map(|rate| {
        let level = view.node.level();
        // While the owner has not heard of these terms yet, the bucket is told as full.
        let outstanding = view.node.rate_outstanding();
        let (held, full_in_us) = level.terms.map_or((rate.burst, 0), |known| {
            let held = level.bucket.level(&known, now.mono_us).saturating_add(outstanding);
            (held, level.bucket.full_in_us(&known, now.mono_us, outstanding))
        });
        RateFigures {
            limit: rate.requests,
            unit_s: rate.unit.nominal_s(),
            holds: held.min(rate.burst),
            full_in_s: full_in_us.div_ceil(1_000_000),
        }
    });
    Figures { limit: terms.limit, used, remaining: terms.left(used), period: view.period, rate }
}
