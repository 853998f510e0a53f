//! The ledger in memory: leases units of each entitlement and period to nodes.
//!
//! In: `LeaseRequest`s of nodes. Out: `LeaseReply`s.
//! Always holds: what nodes hold or have used, and what is free, make up what the terms allow in a period. A node
//! that is gone keeps its lease counted as used. A request that comes twice, or late, changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::account::{Loan, lease_size};
use super::mail::IdMap;
use super::message::{LeaseReply, LeaseRequest, Totals};
use super::{Carried, EntitlementId, Message, Now, Period, PeriodId, ShardId, Terms};

/// No node: earlier starts of those that lease here.
const EARLIER: u64 = u64::MAX;
/// Accounts are kept this long after their period, for late refunds.
const KEEP_S: i64 = 3_600;
/// How often `tick` looks for accounts that are over.
const SWEEP_US: u64 = 60_000_000;
/// Periods of one entitlement kept at most: clocks that jump must not fill the memory.
const PERIODS_MAX: usize = 8;

/// One node's lease of one period.
#[derive(Debug)]
struct Node {
    node: u64,
    shard: ShardId,
    granted: u64,
    returned: u64,
    totals: Totals,
    /// Units a request waits for, while other nodes are asked for theirs.
    waits_for: u64,
}

impl Node {
    /// Stands for what was used before this start.
    fn earlier(used: u64) -> Self {
        let totals = Totals { charged: used, ..Totals::default() };
        Self { node: EARLIER, shard: ShardId(0), granted: used, returned: 0, totals, waits_for: 0 }
    }

    fn loan(&self) -> Loan {
        Loan { granted: self.granted, returned: self.returned, used: self.totals.net() }
    }
}

/// One period of one entitlement.
#[derive(Debug)]
struct Account {
    period: Period,
    terms: Terms,
    nodes: Vec<Node>,
}

/// What an account comes to, for invariants and `/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Units nodes hold or have used.
    pub committed: u64,
    /// Units not leased; `None` where there is no bound.
    pub free: Option<u64>,
    /// Units used, as reported.
    pub used: u64,
}

/// What one node has of one period, for the ledger's own log: absolute, what was used before included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The period.
    pub period: Period,
    /// Units leased, ever.
    pub granted: u64,
    /// Units given back unused.
    pub returned: u64,
    /// Units used, as last reported.
    pub used: u64,
}

/// Every entitlement's leases.
#[derive(Debug, Default)]
pub struct Ledger {
    carried: Arc<Carried>,
    accounts: IdMap<Vec<Account>>,
    outbox: VecDeque<(u64, ShardId, Message)>,
    swept_us: u64,
}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one, going on from what was used before.
    #[must_use]
    pub fn carrying(carried: Arc<Carried>) -> Self {
        Self { carried, ..Self::default() }
    }

    /// Takes one message of a shard of `node`. Answers come out of `drain_outbox`.
    pub fn on_message(&mut self, node: u64, shard: ShardId, message: &Message) {
        let Message::LeaseRequest(request) = message else { return };
        let accounts = self.accounts.entry(request.id).or_default();
        let Some(account) = account_of(accounts, request, &self.carried) else { return };
        account.take(node, shard, request);
        account.lease(node, request, &mut self.outbox);
        account.serve_waiting(request.id, &mut self.outbox);
    }

    /// Answers to carry: node, shard, message.
    pub fn drain_outbox(&mut self) -> impl Iterator<Item = (u64, ShardId, Message)> + '_ {
        self.outbox.drain(..)
    }

    /// Forgets periods that are long over. Call every now and then.
    pub fn tick(&mut self, now: Now) {
        if now.mono_us.saturating_sub(self.swept_us) < SWEEP_US {
            return;
        }
        self.swept_us = now.mono_us;
        self.accounts.retain(|_, accounts| {
            accounts.retain(|account| now.unix_s < account.period.end_s.saturating_add(KEEP_S));
            !accounts.is_empty()
        });
    }

    /// What `node` has of one period.
    #[must_use]
    pub fn leased(&self, node: u64, id: EntitlementId, period: PeriodId) -> Option<Leased> {
        let accounts = self.accounts.get(&id)?;
        let account = accounts.iter().find(|account| account.period.id == period)?;
        let known = account.nodes.iter().find(|known| known.node == node)?;
        let before = account.nodes.iter().find(|known| known.node == EARLIER);
        let before = before.map_or(0, |earlier| earlier.totals.net());
        Some(Leased {
            period: account.period,
            granted: known.granted.saturating_add(before),
            returned: known.returned,
            used: known.totals.net().saturating_add(before),
        })
    }

    /// The account of one period.
    #[must_use]
    pub fn balance(&self, id: EntitlementId, period: PeriodId) -> Option<Balance> {
        let accounts = self.accounts.get(&id)?;
        let account = accounts.iter().find(|account| account.period.id == period)?;
        Some(Balance {
            committed: account.committed(),
            free: account.free(),
            used: account.nodes.iter().map(|node| node.totals.net()).sum(),
        })
    }
}

/// The account a request is for. Where there are too many, the one that ended first is forgotten.
fn account_of<'a>(
    accounts: &'a mut Vec<Account>,
    request: &LeaseRequest,
    carried: &Carried,
) -> Option<&'a mut Account> {
    let id = request.period.id;
    if accounts.iter().all(|account| account.period.id != id) {
        if accounts.len() >= PERIODS_MAX {
            let ended = accounts.iter().enumerate().min_by_key(|(_, known)| known.period.end_s);
            if let Some((index, _)) = ended {
                accounts.swap_remove(index);
            }
        }
        let past = carried.get(request.id).filter(|past| past.period.id == id);
        let nodes = past.map(|past| Node::earlier(past.used)).into_iter().collect();
        accounts.push(Account { period: request.period, terms: request.terms, nodes });
    }
    accounts.iter_mut().find(|account| account.period.id == id)
}

impl Account {
    fn committed(&self) -> u64 {
        let sum = |sum: u64, node: &Node| sum.saturating_add(node.loan().committed());
        self.nodes.iter().fold(0, sum)
    }

    fn free(&self) -> Option<u64> {
        self.terms.ceiling().map(|ceiling| ceiling.saturating_sub(self.committed()))
    }

    /// Takes a node's totals. They only grow, so the larger is the later.
    fn take(&mut self, node: u64, shard: ShardId, request: &LeaseRequest) {
        if request.terms.version > self.terms.version {
            self.terms = request.terms;
        }
        self.period.end_s = self.period.end_s.max(request.period.end_s);
        let index = self.nodes.iter().position(|known| known.node == node).unwrap_or_else(|| {
            let totals = Totals::default();
            let node = Node { node, shard, granted: 0, returned: 0, totals, waits_for: 0 };
            self.nodes.push(node);
            self.nodes.len() - 1
        });
        let Some(known) = self.nodes.get_mut(index) else { return };
        known.shard = shard;
        known.returned = known.returned.max(request.returned);
        known.totals.charged = known.totals.charged.max(request.totals.charged);
        known.totals.refunded = known.totals.refunded.max(request.totals.refunded);
        known.totals.corrected = known.totals.corrected.max(request.totals.corrected);
        if request.closed {
            known.granted = known.granted.min(known.returned.saturating_add(known.totals.net()));
        }
    }

    /// Leases units to the node that asks, and answers. A node that does not know yet what it has already been
    /// leased is told again, and gets no more.
    fn lease(
        &mut self,
        node: u64,
        request: &LeaseRequest,
        outbox: &mut VecDeque<(u64, ShardId, Message)>,
    ) {
        if request.need == 0 && request.demand == 0 || request.closed {
            return;
        }
        let (free, limit) = (self.free(), self.terms.limit);
        let others_hold =
            self.nodes.iter().any(|other| other.node != node && other.loan().unspent() > 0);
        let Some(known) = self.nodes.iter_mut().find(|known| known.node == node) else { return };
        if known.granted <= request.granted {
            let units = lease_size(limit, free, request.need, request.demand);
            known.granted = known.loan().granted_after(units);
            let lacks = units < request.need && others_hold;
            known.waits_for = if lacks { request.need - units } else { 0 };
        }
        let lacks = known.waits_for > 0;
        self.reply(node, request.id, false, outbox);
        if lacks {
            let holders = self.nodes.iter().filter(|other| other.loan().unspent() > 0);
            let holders: Vec<u64> = holders.map(|other| other.node).collect();
            for holder in holders.into_iter().filter(|holder| *holder != node) {
                self.reply(holder, request.id, true, outbox);
            }
        }
    }

    /// Leases what has come back to the nodes whose requests wait for it.
    fn serve_waiting(&mut self, id: EntitlementId, outbox: &mut VecDeque<(u64, ShardId, Message)>) {
        let mut served = Vec::new();
        for index in 0..self.nodes.len() {
            let free = self.free().unwrap_or(u64::MAX);
            let Some(node) = self.nodes.get_mut(index) else { break };
            let units = node.waits_for.min(free);
            if units > 0 {
                node.granted = node.loan().granted_after(units);
                node.waits_for -= units;
                served.push(node.node);
            }
        }
        for node in served {
            self.reply(node, id, false, outbox);
        }
    }

    fn reply(
        &self,
        node: u64,
        id: EntitlementId,
        recall: bool,
        outbox: &mut VecDeque<(u64, ShardId, Message)>,
    ) {
        let Some(known) = self.nodes.iter().find(|known| known.node == node) else { return };
        let others = self.nodes.iter().filter(|other| other.node != node);
        let elsewhere = others.map(|other| other.totals.net()).sum();
        let (granted, returned) = (known.granted, known.returned);
        let period = self.period.id;
        let reply = LeaseReply { id, period, granted, returned, elsewhere, recall };
        outbox.push_back((node, known.shard, Message::LeaseReply(reply)));
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
