//! What a plan allows one entitlement: quota, overage, calendar, rate, concurrency.
//!
//! In: the compiled policy. Out: `Terms`, small and `Copy`, handed along with each request.
//! Always holds: `version` orders two terms of one entitlement; terms that are equal but for it are the same terms.

use serde::{Deserialize, Serialize};

/// A calendar or rate unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    /// Nominal length in seconds, exact up to the week; 30 days for a month and 365 for a year. For rates, where no
    /// calendar applies.
    #[must_use]
    pub const fn nominal_s(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
            Self::Month => 2_592_000,
            Self::Year => 31_536_000,
        }
    }
}

/// When quota periods begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// Length of a period.
    pub unit: Unit,
    /// A moment at which a period begins (Unix seconds), past or future; absent: the calendar unit in UTC, weeks
    /// from Monday.
    pub anchor_s: Option<i64>,
}

/// What happens once a cost exceeds the units left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overage {
    /// The request is refused.
    Deny,
    /// The request is admitted and marked, while use + cost ≤ limit + cap.
    Allow {
        /// Units past the limit at most; absent: no bound.
        cap: Option<u64>,
    },
}

/// A token bucket's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateTerms {
    /// Requests that flow in per unit.
    pub requests: u64,
    /// The unit.
    pub unit: Unit,
    /// The bucket's whole capacity in requests.
    pub burst: u64,
}

impl RateTerms {
    /// Microseconds of one unit.
    #[must_use]
    pub const fn unit_us(&self) -> u64 {
        self.unit.nominal_s() * 1_000_000
    }
}

/// All that limits one entitlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Sequence of the snapshot these come from; the higher one wins.
    pub version: u64,
    /// Units per period; absent: unlimited.
    pub limit: Option<u64>,
    /// What happens past the limit.
    pub overage: Overage,
    /// The quota's periods (an unlimited plan's: the calendar month).
    pub calendar: Calendar,
    /// Requests per time; absent: unlimited.
    pub rate: Option<RateTerms>,
    /// Requests in flight at once; absent: unlimited.
    pub concurrency: Option<u32>,
}

impl Terms {
    /// Terms that any others replace: of a node that was asked about an entitlement it does not know.
    pub const UNKNOWN: Self = Self {
        version: 0,
        limit: Some(0),
        overage: Overage::Deny,
        calendar: Calendar { unit: Unit::Month, anchor_s: None },
        rate: None,
        concurrency: None,
    };

    /// Whether both allow the same, whatever snapshot they come from.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        Self { version: 0, ..*self } == Self { version: 0, ..*other }
    }

    /// Units left of the limit at this use; `None` where unlimited.
    #[must_use]
    pub fn left(&self, used: u64) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(used))
    }

    /// Row 13: the cost exceeds what is left and overage does not help.
    #[must_use]
    pub fn refuses(&self, used: u64, cost: u64) -> bool {
        self.exceeds(used, cost)
            && match self.overage {
                Overage::Deny => true,
                Overage::Allow { cap: None } => false,
                Overage::Allow { cap: Some(cap) } => {
                    let ceiling = self.limit.unwrap_or(u64::MAX).saturating_add(cap);
                    used.saturating_add(cost) > ceiling
                }
            }
    }

    /// Rows 13 and 14: the cost exceeds what is left of the limit.
    #[must_use]
    pub fn exceeds(&self, used: u64, cost: u64) -> bool {
        self.left(used).is_some_and(|left| cost > left)
    }

    /// Units that can be admitted in a period, overage included; `None` where unbounded.
    #[must_use]
    pub fn ceiling(&self) -> Option<u64> {
        match (self.limit, self.overage) {
            (None, _) | (_, Overage::Allow { cap: None }) => None,
            (Some(limit), Overage::Deny) => Some(limit),
            (Some(limit), Overage::Allow { cap: Some(cap) }) => Some(limit.saturating_add(cap)),
        }
    }
}
