//! The budgets of one shard: what it may admit at once, what it must ask for, and what it owns and lends.
//!
//! In: requests, settlements, messages, the time. Out: verdicts, messages, the time of the next tick.
//! Always holds: nothing here blocks; a request that waits is resolved or cancelled, by its deadline at the latest.

use std::collections::VecDeque;

use super::{
    Admission, Decided, Destination, EntitlementId, Message, Now, Outcome, Settle, Settled,
    ShardId, Source, Terms, Ticket, Usage, WaitId,
};

/// Bounds and delays of one shard's budgets.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Requests of one entitlement that may wait at one shard; past it the answer is `Unknown`.
    pub waiting_max: usize,
    /// How long a request may wait before the answer is `Unknown`.
    pub wait_us_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { waiting_max: 1_024, wait_us_max: 1_000_000 }
    }
}

/// For `/status` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entitlements with an entry at this shard.
    pub entries: usize,
    /// Entitlements this shard owns.
    pub owned: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Waits that ended with `Unknown`, in all.
    pub unknown: u64,
    /// Settlements for a period that was no longer known, in all.
    pub settled_late: u64,
}

/// One shard's budgets.
#[derive(Debug)]
pub struct ShardBudgets {
    #[allow(dead_code)]
    shard: ShardId,
    outbox: VecDeque<(Destination, Message)>,
}

impl ShardBudgets {
    /// The budgets of one of `shards` shards.
    #[must_use]
    pub fn new(shard: ShardId, _shards: u16, _config: Config) -> Self {
        Self { shard, outbox: VecDeque::new() }
    }

    /// Rows 11 to 15 of the decision table for one request of this cost.
    pub fn admit(
        &mut self,
        _now: Now,
        _id: EntitlementId,
        _terms: &Terms,
        _cost: u64,
    ) -> Admission {
        Admission::Decided(Decided::Unknown { retry_after_s: 1 })
    }

    /// The next wait that has ended. Call until `None`, after `on_message`, `tick` and `settle`.
    pub fn poll_resolved(&mut self) -> Option<(WaitId, Outcome)> {
        None
    }

    /// The client of a waiting request is gone. Resolving what has ended already is left to nobody: its ticket, if
    /// any, is settled here with a refund.
    pub fn cancel(&mut self, _now: Now, _wait: WaitId) {}

    /// Changes an admitted request's charge while it goes on (`PayFence-Cost` in the response head).
    pub fn correct(&mut self, _now: Now, _ticket: &mut Ticket, _charge: u64) {}

    /// Ends an admitted request: frees its slot, and refunds or corrects in the period it came from.
    pub fn settle(&mut self, _now: Now, ticket: Ticket, _how: Settle) -> Settled {
        Settled { period: ticket.period, charge: ticket.charge }
    }

    /// An entitlement's numbers, free of charge; also for one that was never used.
    pub fn usage(&mut self, _now: Now, _id: EntitlementId, _terms: &Terms) -> Usage {
        Usage::Pending(WaitId(0))
    }

    /// A message for this shard.
    pub fn on_message(&mut self, _now: Now, _from: Source, _message: Message) {}

    /// Messages to carry, in order. What is not taken out stays.
    pub fn drain_outbox(&mut self) -> impl Iterator<Item = (Destination, Message)> + '_ {
        self.outbox.drain(..)
    }

    /// Does what is due: deadlines, returns of idle units, recalls again, reports.
    pub fn tick(&mut self, _now: Now) {}

    /// When `tick` is due next, on the monotonic clock in microseconds.
    #[must_use]
    pub fn next_tick(&self) -> Option<u64> {
        None
    }

    /// For `/status` and metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
}
