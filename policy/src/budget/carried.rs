//! What was used before this start of the node, as its journal tells.
//!
//! In: the books of earlier starts. Out: for each entitlement the last period that was counted, and its use. Always holds: it
//! does not change while the node runs; the ledger and every owner shard begin from the same one.

use super::mail::IdMap;
use super::{EntitlementId, Period};

/// The last period of an entitlement that was counted, and the use others than this owner have made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The period.
    pub period: Period,
    /// Units used in it.
    pub used: u64,
}

/// The past of every entitlement that has one.
#[derive(Debug, Default)]
pub struct Carried(IdMap<Past>);

impl Carried {
    /// With room for so many entitlements.
    #[must_use]
    pub fn with_capacity(entitlements: usize) -> Self {
        Self(IdMap::with_capacity_and_hasher(entitlements, Default::default()))
    }

    /// Adds the use of one period. Of several periods of an entitlement the last stays.
    pub fn add(&mut self, id: EntitlementId, past: Past) {
        let known = self.0.entry(id).or_insert(past);
        if known.period.id < past.period.id {
            *known = past;
        }
    }

    /// What is known of an entitlement.
    #[must_use]
    pub fn get(&self, id: EntitlementId) -> Option<Past> {
        self.0.get(&id).copied()
    }

    /// How many entitlements have a past.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
