//! One entitlement's account at the ledger, as plain data that can be stored.
//!
//! In: rows read from storage. Out: the same rows, changed by `Account::take` and `Account::declare_dead`.
//! Always holds: everything the ledger must remember of an entitlement is here, so whoever has the rows can serve the
//! next request; lists are short (periods and nodes of one entitlement).

use serde::{Deserialize, Serialize};

use super::super::account::Loan;
use super::super::message::{Cut, LeaseReply, LeaseRequest, Totals};
use super::super::{EntitlementId, Period, PeriodId, ShardId, Terms};

/// Periods of one entitlement kept at most, for late reports.
pub const PERIODS_MAX: usize = 8;
/// Nodes of one entitlement kept at most in one period.
pub const NODES_MAX: usize = 1_024;

/// Who asks: a shard of one start of a node. Starts of a node are numbered as they begin, by the ledger's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borrower {
    /// The node.
    pub node: u64,
    /// Its start: a later one ends those before.
    pub start: u64,
    /// The shard that owns the entitlement there.
    pub shard: ShardId,
}

/// Who says which period it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The ledger, by its own clock: nodes' clocks may differ.
    Ledger,
    /// The node, the only one: ledger and node are one machine.
    Node,
}

/// When a request is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerNow {
    /// The clock of the ledger, one for all who serve it (the database's), in milliseconds since 1970.
    pub unix_ms: i64,
    /// Who says which period it is.
    pub authority: Authority,
}

impl LedgerNow {
    /// In whole seconds.
    pub(super) fn unix_s(&self) -> i64 {
        self.unix_ms.div_euclid(1_000)
    }
}

/// One entitlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The entitlement.
    pub id: EntitlementId,
    /// Grows with each request taken.
    pub serial: u64,
    /// The newest terms any node has come with.
    pub terms: Terms,
    /// The period all nodes are in.
    pub current: Period,
    /// That period, the one after it, and some before, in no order.
    pub books: Vec<PeriodBooks>,
    /// Nodes that share rate and slots.
    pub members: Vec<Member>,
    /// What of the rate no node has.
    pub pool: Pool,
}

/// One period of an entitlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodBooks {
    /// The period.
    pub period: Period,
    /// Each node's lease.
    pub leases: Vec<NodeLease>,
}

/// One node's lease of one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLease {
    /// The node.
    pub node: u64,
    /// The start that holds the lease.
    pub start: u64,
    /// The owner shard there.
    pub shard: ShardId,
    /// Units leased to this start, cumulative.
    pub granted: u64,
    /// Units it gave back, cumulative.
    pub returned: u64,
    /// Use it reported.
    pub totals: Totals,
    /// Units earlier starts have used.
    pub earlier: u64,
    /// Units earlier starts held when their journal was lost: counted as used.
    pub lost: u64,
    /// The node's journal since its last loss.
    pub journal: u64,
    /// The stamp of the last request.
    pub stamp_us: u64,
    /// Units a request waits for, while other nodes are asked for theirs.
    pub waits_for: u64,
    /// Until when, on the ledger's clock.
    pub waits_until_ms: i64,
    /// The node is done with the period.
    pub closed: bool,
    /// An operator has said that the node is gone: what it held counts as used.
    pub dead: bool,
    /// When it was last heard of, on the ledger's clock.
    pub seen_ms: i64,
}

/// One node's part of rate and slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: u64,
    /// The start that has the part.
    pub start: u64,
    /// The stamp from which on `tokens` and `given` are counted.
    pub since_us: u64,
    /// The owner shard there.
    pub shard: ShardId,
    /// The last share given.
    pub serial: u64,
    /// Its rate.
    pub rate: Cut,
    /// What of it stays when it runs out.
    pub floor: Cut,
    /// The most the node may be using: larger than `rate` until it has said that it uses that.
    pub out: Cut,
    /// The most of it that stays when it runs out.
    pub out_floor: Cut,
    /// Whole rate units handed out, cumulative.
    pub tokens: u64,
    /// Whole rate units given back, cumulative.
    pub given: u64,
    /// Requests of its last ten seconds.
    pub demand: u64,
    /// Slots of the last share.
    pub slots: u32,
    /// The most slots it may be using.
    pub slots_out: u32,
    /// Slots it uses or has lent, as it last said.
    pub slots_held: u32,
    /// Slots its requests wait for.
    pub slots_want: u32,
    /// The stamp of its last request.
    pub stamp_us: u64,
    /// When its share runs out, on the ledger's clock.
    pub until_ms: i64,
    /// When it was last heard of.
    pub seen_ms: i64,
    /// It has run out, and only `floor` is left.
    pub is_over: bool,
    /// It has said that it wants no share.
    pub has_left: bool,
}

/// The part of the rate that no node has: it fills like any bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Rate units in it, in thousandths.
    pub level_milli: u64,
    /// When that was reckoned, on the ledger's clock.
    pub at_ms: i64,
    /// The whole burst that `level_milli` was reckoned for; 0 for an account that had no rate limit yet.
    pub burst: u64,
}

/// A reply on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// To this node.
    pub node: u64,
    /// Meant for this start of it.
    pub start: u64,
    /// To its owner shard.
    pub shard: ShardId,
    /// What is said.
    pub reply: LeaseReply,
}

impl Posted {
    /// What the present start of the node is told. One that came after the ledger last heard of the node learns that
    /// it is asked for what earlier ones held, and nothing else; an earlier one, nothing.
    #[must_use]
    pub fn for_start(&self, start: u64) -> Option<LeaseReply> {
        if start == self.start {
            return Some(self.reply);
        }
        let asks = LeaseReply {
            granted: 0,
            returned: 0,
            serial: 0,
            stamp_us: 0,
            lease_us: 0,
            coming: false,
            share: None,
            ..self.reply
        };
        (self.reply.recall && start > self.start).then_some(asks)
    }
}

impl NodeLease {
    /// A lease of nothing.
    pub(super) fn new(from: Borrower, request: &LeaseRequest) -> Self {
        Self {
            node: from.node,
            start: from.start,
            shard: from.shard,
            granted: 0,
            returned: 0,
            totals: Totals::default(),
            earlier: request.carried.units,
            lost: 0,
            journal: request.carried.journal,
            stamp_us: 0,
            waits_for: 0,
            waits_until_ms: 0,
            closed: false,
            dead: false,
            seen_ms: 0,
        }
    }

    /// This start's lease as a loan.
    #[must_use]
    pub fn loan(&self) -> Loan {
        Loan { granted: self.granted, returned: self.returned, used: self.totals.net() }
    }

    /// Units that are not free because of this node.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.loan().committed().saturating_add(self.before())
    }

    /// Units used, as far as the ledger can know: where nobody can be asked, what is held.
    #[must_use]
    pub fn used(&self) -> u64 {
        let now = if self.dead { self.loan().committed() } else { self.totals.net() };
        now.saturating_add(self.before())
    }

    /// Units earlier starts have used, or count as having used.
    pub(super) fn before(&self) -> u64 {
        self.earlier.saturating_add(self.lost)
    }

    /// Units that could be called in.
    #[must_use]
    pub fn unspent(&self) -> u64 {
        if self.dead { 0 } else { self.loan().unspent() }
    }
}

impl PeriodBooks {
    /// Units nodes hold or have used.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.leases.iter().map(NodeLease::committed).fold(0, u64::saturating_add)
    }

    /// Units used.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.leases.iter().map(NodeLease::used).fold(0, u64::saturating_add)
    }

    /// Units not leased; `None` where there is no bound.
    #[must_use]
    pub fn free(&self, terms: &Terms) -> Option<u64> {
        terms.ceiling().map(|ceiling| ceiling.saturating_sub(self.committed()))
    }

    /// A node's lease.
    #[must_use]
    pub fn lease(&self, node: u64) -> Option<&NodeLease> {
        self.leases.iter().find(|lease| lease.node == node)
    }

    pub(super) fn lease_mut(&mut self, node: u64) -> Option<&mut NodeLease> {
        self.leases.iter_mut().find(|lease| lease.node == node)
    }
}

impl Account {
    /// The books of one period.
    #[must_use]
    pub fn period(&self, id: PeriodId) -> Option<&PeriodBooks> {
        self.books.iter().find(|books| books.period.id == id)
    }
}
