//! Exact accounting for quotas, rates and concurrency over the shards of a node.
//!
//! In: requests to admit, their settlements, messages of other shards and of the ledger, the time. Out: verdicts,
//! tickets, messages to send. One idea at three scales: whoever owns units lends part of them. The ledger leases to
//! a node's owner shard, the owner lends to the shards where requests arrive.
//! Always holds: used + lent + free = limit at each lender, every unit names its period, every total only grows, and
//! nobody is refused while units are left.

pub mod account;
pub mod admission;
mod borrower;
pub mod bucket;
pub mod carried;
pub mod cells;
pub mod clock;
mod entry;
mod last_word;
mod lease;
pub mod ledger;
mod mail;
pub mod message;
mod owned;
mod owner;
pub mod period;
pub mod reference;
pub mod shard;
pub mod sim;
pub mod terms;

use serde::{Deserialize, Serialize};

pub use admission::{
    Admission, Admitted, Decided, Figures, Outcome, RateFigures, Reason, Refusal, Refused, Settle,
    Settled, Ticket, Usage, WaitId,
};
pub use carried::{Carried, CarriedUse, Past};
pub use clock::LedgerClock;
pub use last_word::LastWord;
pub use ledger::{Account, Authority, Borrower, Leased, Ledger, LedgerNow, Posted};
pub use mail::owner_of;
pub use message::{Destination, LeaseReply, LeaseRequest, Message, Share, ShareClaim, Source};
pub use period::Period;
pub use shard::{Config, Counts, ShardBudgets};
pub use terms::{Calendar, Overage, RateTerms, Terms, Unit};

/// What is counted: one subscription of one site. Uniformly distributed (a hash), so it is its own hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntitlementId(pub u128);

impl std::hash::Hash for EntitlementId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // The low half chooses the owner shard, so that half is not uniform within one.
        state.write_u64((self.0 >> 64) as u64);
    }
}

/// One core of a node, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u16);

/// Names one quota period of an entitlement. Only ever grows, whatever the clock does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PeriodId(pub u64);

/// The time as the caller read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// A clock that never steps, in microseconds from any start; the same for all shards of a process.
    pub mono_us: u64,
    /// The wall clock, in whole seconds since 1970. May step either way.
    pub unix_s: i64,
}

#[cfg(test)]
mod shared_tests;
