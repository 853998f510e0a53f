//! The ledger: leases units of each entitlement and period to nodes, and splits rates and slots between them.
//!
//! In: `LeaseRequest`s of nodes. Out: `LeaseReply`s.
//! Always holds: what nodes hold or have used, and what is free, make up what the terms allow in a period. A node
//! that is gone keeps its lease counted as used. A request that comes twice, or late, changes nothing.
//! The arithmetic is that of one `Account`, plain data that can be stored; `Ledger` keeps accounts in memory, for a
//! node that runs from a policy file.

use std::collections::VecDeque;

use super::mail::IdMap;
use super::{EntitlementId, Message, Now, Period, PeriodId, ShardId};

mod agree;
mod split;
mod state;
mod take;

pub use split::{FORGET_MS, SHARE_VALID_MS};
pub use state::{
    Account, Authority, Borrower, LedgerNow, Member, NODES_MAX, NodeLease, PERIODS_MAX,
    PeriodBooks, Pool, Posted,
};

/// Accounts are kept this long after their period, for late refunds.
const KEEP_S: i64 = 3_600;
/// How often `tick` looks for accounts that are over.
const SWEEP_US: u64 = 60_000_000;

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

/// Every entitlement's leases, in memory, for the node they are on.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: IdMap<Account>,
    outbox: VecDeque<(u64, ShardId, Message)>,
    swept_us: u64,
}

impl Ledger {
    /// An empty one. What was used before comes with the requests.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one message of a shard of `node`. Answers come out of `drain_outbox`.
    pub fn on_message(&mut self, node: u64, shard: ShardId, message: &Message) {
        let Message::LeaseRequest(request) = message else { return };
        let now = LedgerNow { unix_ms: 0, authority: Authority::Node };
        let from = Borrower { node, start: 0, shard };
        let account =
            self.accounts.entry(request.id).or_insert_with(|| Account::open(request, now));
        let replies = account.take(from, request, now).into_iter();
        self.outbox.extend(replies.map(|posted| {
            (posted.node, posted.shard, Message::LeaseReply(Box::new(posted.reply)))
        }));
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
        self.accounts.retain(|_, account| {
            account.books.retain(|books| now.unix_s < books.period.end_s.saturating_add(KEEP_S));
            !account.books.is_empty()
        });
    }

    /// What `node` has of one period.
    #[must_use]
    pub fn leased(&self, node: u64, id: EntitlementId, period: PeriodId) -> Option<Leased> {
        let books = self.accounts.get(&id)?.period(period)?;
        let lease = books.lease(node)?;
        Some(Leased {
            period: books.period,
            granted: lease.granted.saturating_add(lease.before()),
            returned: lease.returned,
            used: lease.totals.net().saturating_add(lease.before()),
        })
    }

    /// The account of one period.
    #[must_use]
    pub fn balance(&self, id: EntitlementId, period: PeriodId) -> Option<Balance> {
        let account = self.accounts.get(&id)?;
        let books = account.period(period)?;
        Some(Balance {
            committed: books.committed(),
            free: books.free(&account.terms),
            used: books.leases.iter().map(|lease| lease.totals.net()).sum(),
        })
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
