//! Lease requests on their way to the ledger.
//!
//! In: requests of owner shards, reports that failed. Out: what the next report carries. Always holds: of one entitlement and period only the
//! latest request is kept, since all its totals are running ones; none is lost but to a later one of the same; there are never more
//! than [`WAITING_MAX`].

use std::collections::{HashMap, VecDeque};

use policy::budget::message::LeaseRequest;

use crate::wire::ledger::{key_of, merged};

/// Entitlements and periods with something to say; past it no more is taken in until some is answered.
pub(super) const WAITING_MAX: usize = 256 * 1024;

/// Requests by what they are about, in the order in which that was first said.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    order: VecDeque<(u128, u64)>,
    requests: HashMap<(u128, u64), LeaseRequest>,
}

impl Waiting {
    /// Takes a new request.
    pub(super) fn put(&mut self, request: LeaseRequest) {
        let key = key_of(&request);
        match self.requests.get_mut(&key) {
            Some(earlier) => *earlier = merged(earlier, &request),
            None => {
                self.requests.insert(key, request);
                self.order.push_back(key);
            }
        }
    }

    /// Takes the oldest out.
    pub(super) fn take(&mut self, requests_max: usize) -> Vec<LeaseRequest> {
        let count = requests_max.min(self.order.len());
        let keys = self.order.drain(..count);
        keys.filter_map(|key| self.requests.remove(&key)).collect()
    }

    /// Takes back what was not delivered; what has been said since holds.
    pub(super) fn put_back(&mut self, requests: Vec<LeaseRequest>) {
        for request in requests.into_iter().rev() {
            let key = key_of(&request);
            match self.requests.get_mut(&key) {
                Some(later) => *later = merged(&request, later),
                None => {
                    self.requests.insert(key, request);
                    self.order.push_front(key);
                }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= WAITING_MAX
    }
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
