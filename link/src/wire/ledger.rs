//! The ledger's messages as they go over the wire, and nothing else of it.
//!
//! In and out: `policy::budget`'s messages. Always holds: what is converted there and back is what it was; numbers of units and calendars
//! that are not known are refused when read.
//!
//! These types mirror those of `policy::budget::message`, which know nothing of any wire: a change there is followed here, and a field is
//! only ever added at the end of [`Report`](super::Report)'s successor, with a new [`PROTOCOL`](super::PROTOCOL).

use policy::budget::message::{LeaseReply, LeaseRequest, Totals};
use policy::budget::{
    Calendar, EntitlementId, Overage, Period, PeriodId, RateTerms, Terms, Unit as PolicyUnit,
};
use serde::{Deserialize, Serialize};

/// A node's side of a lease; see [`LeaseRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    id: u128,
    period: (u64, i64, i64),
    terms: WireTerms,
    /// Charged, refunded, corrected.
    totals: (u64, u64, u64),
    returned: u64,
    granted: u64,
    need: u64,
    demand: u64,
    closed: bool,
}

/// The ledger's side; see [`LeaseReply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    id: u128,
    period: u64,
    granted: u64,
    returned: u64,
    elsewhere: u64,
    recall: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WireTerms {
    version: u64,
    limit: Option<u64>,
    overage: WireOverage,
    unit: Unit,
    anchor_s: Option<i64>,
    /// Requests, unit, burst.
    rate: Option<(u64, Unit, u64)>,
    concurrency: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum WireOverage {
    Deny,
    Allow(Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl From<PolicyUnit> for Unit {
    fn from(unit: PolicyUnit) -> Self {
        match unit {
            PolicyUnit::Second => Self::Second,
            PolicyUnit::Minute => Self::Minute,
            PolicyUnit::Hour => Self::Hour,
            PolicyUnit::Day => Self::Day,
            PolicyUnit::Week => Self::Week,
            PolicyUnit::Month => Self::Month,
            PolicyUnit::Year => Self::Year,
        }
    }
}

impl From<Unit> for PolicyUnit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Second => Self::Second,
            Unit::Minute => Self::Minute,
            Unit::Hour => Self::Hour,
            Unit::Day => Self::Day,
            Unit::Week => Self::Week,
            Unit::Month => Self::Month,
            Unit::Year => Self::Year,
        }
    }
}

impl From<&Terms> for WireTerms {
    fn from(terms: &Terms) -> Self {
        Self {
            version: terms.version,
            limit: terms.limit,
            overage: match terms.overage {
                Overage::Deny => WireOverage::Deny,
                Overage::Allow { cap } => WireOverage::Allow(cap),
            },
            unit: terms.calendar.unit.into(),
            anchor_s: terms.calendar.anchor_s,
            rate: terms.rate.map(|rate| (rate.requests, rate.unit.into(), rate.burst)),
            concurrency: terms.concurrency,
        }
    }
}

impl From<&WireTerms> for Terms {
    fn from(terms: &WireTerms) -> Self {
        Self {
            version: terms.version,
            limit: terms.limit,
            overage: match terms.overage {
                WireOverage::Deny => Overage::Deny,
                WireOverage::Allow(cap) => Overage::Allow { cap },
            },
            calendar: Calendar { unit: terms.unit.into(), anchor_s: terms.anchor_s },
            rate: terms.rate.map(|(requests, unit, burst)| RateTerms {
                requests,
                unit: unit.into(),
                burst,
            }),
            concurrency: terms.concurrency,
        }
    }
}

impl From<&LeaseRequest> for Request {
    fn from(request: &LeaseRequest) -> Self {
        let Totals { charged, refunded, corrected } = request.totals;
        Self {
            id: request.id.0,
            period: (request.period.id.0, request.period.start_s, request.period.end_s),
            terms: (&request.terms).into(),
            totals: (charged, refunded, corrected),
            returned: request.returned,
            granted: request.granted,
            need: request.need,
            demand: request.demand,
            closed: request.closed,
        }
    }
}

impl From<&Request> for LeaseRequest {
    fn from(request: &Request) -> Self {
        let (id, start_s, end_s) = request.period;
        let (charged, refunded, corrected) = request.totals;
        Self {
            id: EntitlementId(request.id),
            period: Period { id: PeriodId(id), start_s, end_s },
            terms: (&request.terms).into(),
            totals: Totals { charged, refunded, corrected },
            returned: request.returned,
            granted: request.granted,
            need: request.need,
            demand: request.demand,
            closed: request.closed,
        }
    }
}

impl From<&LeaseReply> for Reply {
    fn from(reply: &LeaseReply) -> Self {
        Self {
            id: reply.id.0,
            period: reply.period.0,
            granted: reply.granted,
            returned: reply.returned,
            elsewhere: reply.elsewhere,
            recall: reply.recall,
        }
    }
}

impl From<&Reply> for LeaseReply {
    fn from(reply: &Reply) -> Self {
        Self {
            id: EntitlementId(reply.id),
            period: PeriodId(reply.period),
            granted: reply.granted,
            returned: reply.returned,
            elsewhere: reply.elsewhere,
            recall: reply.recall,
        }
    }
}

/// Names what a request is about: later ones of the same replace it, for all they hold are running totals.
#[must_use]
pub fn key_of(request: &LeaseRequest) -> (u128, u64) {
    (request.id.0, request.period.id.0)
}

/// The later of two requests about the same, which says all that both say.
#[must_use]
pub fn merged(earlier: &LeaseRequest, later: &LeaseRequest) -> LeaseRequest {
    LeaseRequest { closed: earlier.closed || later.closed, ..*later }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
