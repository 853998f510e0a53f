//! What shards and the ledger say to each other about units.
//!
//! In and out: `ShardBudgets` and `Ledger`; the caller carries them, in order between any two, as late as it may be.
//! Always holds: totals are cumulative and only grow, and name their period; a message that comes twice changes
//! nothing. Within a node what was spent and returned is read from the shared cells, so a message only has to say
//! "look".

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::carried::CarriedUse;
use super::cells::{NodeUse, PeriodUse};
use super::{EntitlementId, Period, Refused, ShardId, Terms, Unit};

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
    LeaseRequest(Box<LeaseRequest>),
    /// The ledger's answer.
    LeaseReply(Box<LeaseReply>),
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
    /// Grows when the owner turns to other cells: to another period, mostly a later one.
    pub turn: u64,
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
    /// It could not be told in time.
    Unknown,
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
            Self::Unknown | Self::Admit { .. } => None,
            Self::Refuse { by, .. } => Some(by),
        }
    }
}

/// Cumulative totals of one period at one borrower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// The entitlement.
    pub id: EntitlementId,
    /// The period, current, next or past, as the node has it.
    pub period: Period,
    /// What the entitlement allows.
    pub terms: Terms,
    /// Use on this node since it started.
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
    /// What earlier starts of this node have used of the period.
    pub carried: CarriedUse,
    /// The node's monotonic clock when this was written, in microseconds: replies carry it back, and of two requests
    /// of one start the one with the higher stamp is the later.
    pub stamp_us: u64,
    /// What the node has and wants of rate and slots; `None` where it shares neither with other nodes.
    pub share: Option<ShareClaim>,
}

/// A node's part of an entitlement's rate and slots, as the node has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareClaim {
    /// The last share that has been put in force here; 0 for none.
    pub serial: u64,
    /// The stamp from which on the cumulative numbers of the share, in both directions, are counted: an owner that had
    /// forgotten the entitlement begins anew, with an empty bucket.
    pub since_us: u64,
    /// Requests of the last ten seconds.
    pub demand: u64,
    /// Whole rate units taken out of the bucket because a lower share has no room for them, cumulative.
    pub given: u64,
    /// Whole rate units taken into it of those handed to the node, cumulative.
    pub taken: u64,
    /// Slots in use or lent to shards.
    pub slots_held: u32,
    /// Slots that requests wait for.
    pub slots_want: u32,
    /// The node wants no share any more; its bucket's units are among `given`.
    pub leaves: bool,
}

/// The ledger's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReply {
    /// The entitlement.
    pub id: EntitlementId,
    /// The period the units are of.
    pub period: Period,
    /// Units leased to this start of the node, cumulative.
    pub granted: u64,
    /// Units it has given back, as far as the ledger knows, cumulative.
    pub returned: u64,
    /// Units used elsewhere, by earlier starts, or held by nodes that cannot be asked.
    pub elsewhere: u64,
    /// Asks for the units not used: `returned` should grow, and an answer is due in any case.
    pub recall: bool,
    /// Units are being called in from other nodes: another reply follows when they have come.
    pub coming: bool,
    /// The period that all nodes are in.
    pub current: Period,
    /// Grows with each change at the ledger: of two replies the one with the higher serial is the later.
    pub serial: u64,
    /// The stamp of the last request the ledger has seen of this start.
    pub stamp_us: u64,
    /// And of the last that was about this period: what was said of it later, as that it is closed, is not in here.
    pub lease_us: u64,
    /// The node's part of rate and slots.
    pub share: Option<Share>,
}

/// A node's part of an entitlement's rate and slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Names it; grows with each change.
    pub serial: u64,
    /// The unit of the rates here: as fine as the limit's needs to be split.
    pub unit: Unit,
    /// Requests per unit, and the bucket's capacity.
    pub rate: Cut,
    /// What stays of them once the share has run out.
    pub floor: Cut,
    /// Whole rate units handed to this start with larger shares, cumulative.
    pub tokens: u64,
    /// Slots.
    pub slots: u32,
    /// More slots may come to a node that says it wants some.
    pub slots_may_grow: bool,
    /// Microseconds from the stamp for which it is valid.
    pub valid_us: u64,
}

/// Part of a rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Requests that flow in per unit.
    pub requests: u64,
    /// The bucket's capacity.
    pub burst: u64,
}

impl Cut {
    /// The smaller of each.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { requests: self.requests.min(other.requests), burst: self.burst.min(other.burst) }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { requests: self.requests.max(other.requests), burst: self.burst.max(other.burst) }
    }
}
