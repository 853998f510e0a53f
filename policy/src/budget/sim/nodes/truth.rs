//! What is true of one entitlement over all simulated nodes, kept by plain counting.
//!
//! In: every decision and settlement. Out: an error in words for the first that breaks a promise.
//! Always holds: never more is admitted in a period than the limit, than burst and rate in any window, than slots; a
//! quota is refused only when all of it is used.

use std::collections::BTreeMap;

use super::super::super::message::Cut;
use super::super::super::reference::SlowBucket;
use super::super::super::{
    Account, Admitted, EntitlementId, Period, PeriodId, Refusal, Refused, Terms, Ticket,
};
use super::super::check::slack;

/// Use of one period.
#[derive(Clone, Debug)]
struct Used {
    period: Period,
    all: u64,
    /// By node, and what of it its journal still knows.
    nodes: BTreeMap<usize, (u64, u64)>,
}

#[derive(Debug)]
pub(super) struct Truth {
    pub(super) id: EntitlementId,
    /// Terms, from when on they come, and within how long every node has them.
    terms: Vec<(u64, u64, Terms)>,
    used: BTreeMap<PeriodId, Used>,
    slots: BTreeMap<usize, u64>,
    bucket: Option<SlowBucket>,
    /// Use may pass the limit: corrections upwards, unmetered requests.
    is_loose: bool,
    /// Use has gone down: a refusal may have been right a moment ago.
    has_refunds: bool,
    /// Units of unmetered requests that are counted once the node knows where.
    pub(super) unplaced: u64,
    pub(super) has_losses: bool,
    pub(super) has_deaths: bool,
    /// A node that ran was declared dead: its share of rate and slots was given away.
    pub(super) is_split_loosely: bool,
}

impl Truth {
    pub(super) fn new(id: EntitlementId, terms: Terms, mono_us: u64, is_loose: bool) -> Self {
        Self {
            id,
            terms: vec![(0, 0, terms)],
            used: BTreeMap::new(),
            slots: BTreeMap::new(),
            bucket: terms.rate.map(|rate| SlowBucket::full(&slack(&rate), mono_us)),
            is_loose,
            has_refunds: false,
            unplaced: 0,
            has_losses: false,
            has_deaths: false,
            is_split_loosely: false,
        }
    }

    pub(super) fn newest(&self) -> Terms {
        self.terms.last().map_or(Terms::UNKNOWN, |(.., terms)| *terms)
    }

    pub(super) fn change(&mut self, now_us: u64, spread_us: u64, terms: Terms) {
        self.terms.push((now_us, spread_us, terms));
    }

    /// The terms a request comes under at a node.
    pub(super) fn terms_at(&self, node: usize, now_us: u64) -> Terms {
        let has = |(at_us, spread_us, _): &&(u64, u64, Terms)| {
            now_us >= at_us + spread_us * node as u64 / 4
        };
        self.terms.iter().rev().find(has).map_or(Terms::UNKNOWN, |(.., terms)| *terms)
    }

    /// Only one set of terms has ever been.
    fn is_steady(&self) -> bool {
        self.terms.windows(2).all(|pair| matches!(pair, [a, b] if a.2.same_as(&b.2)))
    }

    /// Most that any terms have allowed in a period.
    fn ceiling(&self) -> Option<u64> {
        let all: Option<Vec<u64>> = self.terms.iter().map(|(.., terms)| terms.ceiling()).collect();
        all.and_then(|all| all.into_iter().max())
    }

    pub(super) fn used(&self, period: PeriodId) -> u64 {
        self.used.get(&period).map_or(0, |used| used.all)
    }

    /// The use of the newest period, from `period` on.
    pub(super) fn used_lately(&self, period: PeriodId) -> u64 {
        self.used.range(period..).next_back().map_or(0, |(_, used)| used.all)
    }

    pub(super) fn used_by(&self, period: PeriodId, node: usize) -> u64 {
        let used = self.used.get(&period).and_then(|used| used.nodes.get(&node));
        used.map_or(0, |(units, _)| *units)
    }

    pub(super) fn admitted(
        &mut self,
        now_us: u64,
        cost: u64,
        admitted: &Admitted,
    ) -> Result<(), String> {
        let used = self.used(admitted.ticket.period) + cost;
        if let Some(most) = self.ceiling()
            && cost > 0
            && !self.is_loose
            && used > most
        {
            let period = admitted.figures.period;
            return Err(format!("{used} of {most} units of {period:?} admitted"));
        }
        if !self.is_steady() || self.is_split_loosely {
            return Ok(());
        }
        let terms = self.newest();
        if let (Some(rate), Some(bucket)) = (terms.rate, &mut self.bucket)
            && !bucket.take(&slack(&rate), now_us)
        {
            return Err(format!("more than burst + rate × time admitted, {rate:?}"));
        }
        let slots: u64 = self.slots.values().sum();
        if let Some(most) = terms.concurrency
            && slots >= u64::from(most)
        {
            return Err(format!("{slots} of {most} slots in use, and another: {:?}", self.slots));
        }
        Ok(())
    }

    /// A request is charged, metered or not.
    pub(super) fn charged(&mut self, node: usize, ticket: &Ticket, period: Period) {
        let fresh = || Used { period, all: 0, nodes: BTreeMap::new() };
        let used = self.used.entry(ticket.period).or_insert_with(fresh);
        used.all += ticket.charge;
        let (here, journal) = used.nodes.entry(node).or_default();
        *here += ticket.charge;
        *journal += ticket.charge;
        if ticket.slot {
            *self.slots.entry(node).or_default() += 1;
        }
    }

    pub(super) fn settled(
        &mut self,
        _now_us: u64,
        node: usize,
        period: PeriodId,
        (before, after): (u64, u64),
        slot: bool,
    ) {
        self.is_loose |= after > before;
        self.has_refunds |= after < before;
        if slot && let Some(slots) = self.slots.get_mut(&node) {
            *slots = slots.saturating_sub(1);
        }
        let Some(used) = self.used.get_mut(&period) else { return };
        used.all = used.all + after - before;
        if let Some((here, journal)) = used.nodes.get_mut(&node) {
            *here = *here + after - before;
            *journal = (*journal + after).saturating_sub(before);
        }
    }

    pub(super) fn refused(
        &self,
        _since_us: u64,
        cost: u64,
        refusal: &Refusal,
    ) -> Result<(), String> {
        let is_exact = self.is_steady()
            && !self.has_refunds
            && !self.has_losses
            && !self.has_deaths
            && self.unplaced == 0;
        let period = refusal.figures.period.id;
        let used = self.used(period);
        if refusal.by == Refused::Quota && is_exact && !self.newest().refuses(used, cost) {
            let terms = self.newest();
            return Err(format!(
                "refused by quota: cost {cost}, used {used} in {period:?}, {terms:?}"
            ));
        }
        Ok(())
    }

    /// A node went down: its slots are free; where its journal is lost, some of it is.
    pub(super) fn node_gone(&mut self, _now_us: u64, node: usize, loses: bool) {
        self.slots.remove(&node);
        self.has_losses |= loses;
        for used in self.used.values_mut().filter(|_| loses) {
            if let Some((_, journal)) = used.nodes.get_mut(&node) {
                *journal /= 2;
            }
        }
    }

    /// What a node's journal says of each period.
    pub(super) fn journal_of(&self, node: usize) -> impl Iterator<Item = (Period, u64)> + '_ {
        self.used.values().filter_map(move |used| {
            used.nodes.get(&node).map(|(_, journal)| (used.period, *journal))
        })
    }

    /// The ledger leases no more than there is, and counts no node for less than it has used of its lease.
    pub(super) fn check(&self, account: &Account) -> Result<(), String> {
        let Some(most) = self.ceiling() else { return Ok(()) };
        for books in &account.books {
            let committed = books.committed();
            let used = self.used(books.period.id);
            if self.is_loose {
                continue;
            }
            let reported = books.used();
            if committed > most && self.is_steady() {
                return Err(format!("{committed} of {most} units leased: {books:?}"));
            }
            if reported > committed {
                return Err(format!("more reported than leased: {books:?}"));
            }
            if !self.is_steady() {
                continue;
            }
            for lease in &books.leases {
                let node = usize::try_from(lease.node).unwrap_or(0);
                let used = self.used_by(books.period.id, node);
                if used > lease.committed() {
                    return Err(format!("a node used {used}, the ledger counts {lease:?}"));
                }
            }
            if used > most {
                return Err(format!("{used} of {most} used: {books:?}"));
            }
        }
        for member in &account.members {
            let [rate, floor] = [(member.rate, member.out), (member.floor, member.out_floor)];
            let is_within = |(said, out): (Cut, Cut)| said.min(out) == said;
            if !is_within(rate) || !is_within(floor) || !is_within((member.out_floor, member.out)) {
                return Err(format!("a share is larger than what it counts as: {member:?}"));
            }
        }
        let rates: u64 = account.members.iter().map(|member| member.out.burst).sum();
        if let Some(rate) = self.newest().rate
            && self.is_steady()
            && rates + account.pool.level_milli / 1_000 > rate.burst
        {
            return Err(format!("more burst shared than there is: {account:?}"));
        }
        Ok(())
    }
}
