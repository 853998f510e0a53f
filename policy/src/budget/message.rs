//! What shards and the ledger say to each other about units.
//!
//! In and out: `ShardBudgets` and `Ledger`; the caller carries them, in order between any two, as late as it may be.
//! Always holds: totals are cumulative and only grow, and name their period; a message that comes twice changes
//! nothing. Within a node what was spent and returned is read from the shared cells, so a message only has to say
//! "look".

use std::sync::Arc;

use super::cells::{NodeUse, PeriodUse};
use super::{EntitlementId, Period, PeriodId, Refused, ShardId, Terms};

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// Another shard of this node.
    Shard(ShardId),
    /// The ledger this node leases from.
    Ledger,
}

/// Where a message came from.
pub type Source = Destination;

/// One message.
#[derive(Clone, Debug)]
pub enum Message {
    /// A shard needs something of the owner.
    Ask(Ask),
    /// The owner's answer to an `Ask`.
    Answer(Box<Answer>),
    /// The owner wants back what is lent and not used.
    Recall(Recall),
    /// Units came back, or a charge of an earlier period changed: the cells say which.
    Returned(EntitlementId),
    /// A node wants units of the ledger, or tells it what was used.
    LeaseRequest(LeaseRequest),
    /// The ledger's answer.
    LeaseReply(LeaseReply),
}

/// What one request lacks, and what more would be used soon.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The entitlement.
    pub id: EntitlementId,
    /// The terms the request came under.
    pub terms: Terms,
    /// Names the question, grows with each.
    pub seq: u64,
    /// The request that waits; `None` to have figures or more units only.
    pub need: Option<Need>,
    /// Units that all requests waiting at the asking shard cost, this one included.
    pub waiting: u64,
    /// Rate units, and quota units, that would be used soon.
    pub want: u64,
}

/// What a waiting request lacks. Rows already passed at the asking shard are not asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// A rate unit.
    pub rate: bool,
    /// A concurrency slot.
    pub slot: bool,
    /// Quota units.
    pub cost: u64,
}

/// What the owner wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recall {
    /// The entitlement.
    pub id: EntitlementId,
    /// Rate units.
    pub rate: bool,
    /// Idle slots.
    pub slots: bool,
    /// Quota units.
    pub units: bool,
}

impl Recall {
    /// Whether this one asks for all that the other does.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.rate >= other.rate && self.slots >= other.slots && self.units >= other.units
    }
}

/// The owner's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The entitlement.
    pub id: EntitlementId,
    /// The question.
    pub seq: u64,
    /// For the request that waited.
    pub verdict: Option<Verdict>,
    /// The owner's terms.
    pub terms: Terms,
    /// The period the units are of.
    pub period: Period,
    /// The period's cells.
    pub used: Arc<PeriodUse>,
    /// The cells that outlive periods.
    pub node: Arc<NodeUse>,
    /// Quota units granted to this shard in the period, cumulative.
    pub units_granted: u64,
    /// Rate units lent to this shard, cumulative.
    pub rate_granted: u64,
    /// Until when rate units may be used, on the monotonic clock.
    pub rate_until_us: u64,
    /// Slots granted to this shard, cumulative.
    pub slots_granted: u64,
}

/// The owner's decision on a request that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Admitted.
    Admit {
        /// A slot was granted for it.
        slot: bool,
    },
    /// Refused by this limit.
    Refuse {
        /// The row.
        by: Refused,
        /// Whole seconds, at least 1.
        retry_after_s: u64,
    },
}

impl Verdict {
    /// The row that refused.
    #[must_use]
    pub const fn refused_by(self) -> Option<Refused> {
        match self {
            Self::Admit { .. } => None,
            Self::Refuse { by, .. } => Some(by),
        }
    }
}

/// Cumulative totals of one period at one borrower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Units charged before forwarding.
    pub charged: u64,
    /// Units given back.
    pub refunded: u64,
    /// Units added by corrections.
    pub corrected: u64,
}

impl Totals {
    /// Units used.
    #[must_use]
    pub fn net(&self) -> u64 {
        self.charged.saturating_add(self.corrected).saturating_sub(self.refunded)
    }
}

/// A node's side of a lease: asks, returns and reports in one, so that none overtakes another.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRequest {
    /// The entitlement.
    pub id: EntitlementId,
    /// The period, current, next or past.
    pub period: Period,
    /// What the entitlement allows.
    pub terms: Terms,
    /// Use on this node so far.
    pub totals: Totals,
    /// Units given back unused, cumulative.
    pub returned: u64,
    /// Units leased as far as the node knows, cumulative: a request that comes twice is not granted twice.
    pub granted: u64,
    /// Units a request waits for; 0 for none.
    pub need: u64,
    /// Units that ten seconds of the present demand would use; 0 to ask for none.
    pub demand: u64,
    /// The node is done with the period, but for late refunds.
    pub closed: bool,
}

/// The ledger's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseReply {
    /// The entitlement.
    pub id: EntitlementId,
    /// The period.
    pub period: PeriodId,
    /// Units leased to this node, cumulative.
    pub granted: u64,
    /// Units the node has given back, as far as the ledger knows, cumulative.
    pub returned: u64,
    /// Units used elsewhere, or held by nodes that cannot be asked.
    pub elsewhere: u64,
    /// Asks for the units not used: `returned` should grow.
    pub recall: bool,
}
