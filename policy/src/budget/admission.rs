//! What a shard is told about one request: admitted with a ticket, refused, or to wait.
//!
//! Out of `ShardBudgets`, into the exchange. Always holds: an admitted request's ticket is settled exactly once, or
//! its slot and charge stay taken.

use super::{EntitlementId, Period, PeriodId};

/// Names a request that waits for the owner or the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(pub u64);

/// The answer to `admit`.
#[derive(Debug)]
#[must_use]
pub enum Admission {
    /// Known at once.
    Decided(Decided),
    /// Known later, through `poll_resolved`.
    Pending(WaitId),
}

/// A verdict on rows 11 to 15 of the decision table.
#[derive(Debug)]
#[must_use]
pub enum Decided {
    /// Rows 14 and 15.
    Admitted(Admitted),
    /// Rows 11 to 13.
    Refused(Refusal),
    /// It cannot be known whether units are left. The caller answers 503 `ledger_unreachable`, or forwards as
    /// `unmetered`, as the site says.
    Unknown {
        /// Seconds after which asking again makes sense.
        retry_after_s: u64,
    },
}

/// An admitted request.
#[derive(Debug)]
pub struct Admitted {
    /// To be settled when the exchange ends.
    pub ticket: Ticket,
    /// Within the limit or past it.
    pub reason: Reason,
    /// After the charge.
    pub figures: Figures,
}

/// Why a request was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Row 15.
    Ok,
    /// Row 14.
    Overage,
}

/// Which limit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Row 11, `rate_limited`.
    Rate,
    /// Row 12, `concurrency_limited`.
    Concurrency,
    /// Row 13, `quota_exhausted`.
    Quota,
}

/// A refused request.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The first row that refused.
    pub by: Refused,
    /// Whole seconds, at least 1.
    pub retry_after_s: u64,
    /// At the refusal.
    pub figures: Figures,
}

/// An entitlement's numbers, for headers and `/.payfence/usage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Units per period; absent: unlimited.
    pub limit: Option<u64>,
    /// Units used in this period, corrections past the limit included.
    pub used: u64,
    /// Limit less use, at least 0; absent: unlimited.
    pub remaining: Option<u64>,
    /// The current period.
    pub period: Period,
    /// The bucket; absent: no rate limit.
    pub rate: Option<RateFigures>,
}

/// A bucket's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateFigures {
    /// Configured requests per unit.
    pub limit: u64,
    /// The unit in seconds.
    pub unit_s: u64,
    /// Whole requests the bucket holds.
    pub holds: u64,
    /// Seconds until it is full, rounded up.
    pub full_in_s: u64,
}

/// What an admitted request holds. Give it back through `settle`, exactly once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is dropped leaks its concurrency slot"]
pub struct Ticket {
    pub(super) id: EntitlementId,
    pub(super) period: PeriodId,
    pub(super) charge: u64,
    pub(super) slot: bool,
}

impl Ticket {
    /// The entitlement it was admitted under.
    #[must_use]
    pub fn entitlement(&self) -> EntitlementId {
        self.id
    }

    /// The period it was charged to.
    #[must_use]
    pub fn period(&self) -> PeriodId {
        self.period
    }

    /// Units charged so far.
    #[must_use]
    pub fn charge(&self) -> u64 {
        self.charge
    }
}

/// What becomes of a charge at the exchange's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// It stays.
    Keep,
    /// All of it is given back: nothing was delivered.
    Refund,
    /// It becomes this many units (`PayFence-Cost`).
    Correct(u64),
}

/// A settled request, for its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The period that was charged.
    pub period: PeriodId,
    /// The charge after refund or correction.
    pub charge: u64,
}

/// The answer to `usage`.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub enum Usage {
    /// Known at once.
    Ready(Figures),
    /// Known later, through `poll_resolved`, as `Outcome::Usage` or `Outcome::Decided(Unknown)`.
    Pending(WaitId),
    /// Too many wait already.
    Unknown,
}

/// What a waiting call came to.
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// Of `admit`; or of `usage` where it is `Unknown`.
    Decided(Decided),
    /// Of `usage`.
    Usage(Figures),
}
