//! The ledger's messages as they go over the wire, and nothing else of it.
//!
//! In and out: `policy::budget`'s messages, which are plain data. Always holds: of two requests about the same entitlement and period the
//! later one says all that both say, so that only one need be sent.
//!
//! A field is only ever added to these messages with a new [`PROTOCOL`](super::PROTOCOL).

pub use policy::budget::message::{LeaseReply as Reply, LeaseRequest as Request};

/// Names what a request is about: later ones of the same replace it, for all they hold are running totals.
#[must_use]
pub fn key_of(request: &Request) -> (u128, u64) {
    (request.id.0, request.period.id.0)
}

/// The later of two requests about the same, with what the earlier one has asked for and the later one says nothing of.
#[must_use]
pub fn merged(earlier: &Request, later: &Request) -> Request {
    if later.closed {
        return *later;
    }
    Request {
        need: earlier.need.max(later.need),
        demand: earlier.demand.max(later.demand),
        share: later.share.or(earlier.share),
        ..*later
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
