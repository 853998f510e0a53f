//! What was used before this start of the node, as its journal tells.
//!
//! In: the books of earlier starts. Out: for each entitlement the last period that was counted, and its use. Always holds: it
//! does not change while the node runs; the ledger and every owner shard begin from the same one.

use super::mail::IdMap;
use serde::{Deserialize, Serialize};

use super::{EntitlementId, Period, PeriodId};

/// The last period of an entitlement that was counted, and the use others than this owner have made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// The period.
    pub period: Period,
    /// Units used in it.
    pub used: u64,
}

/// What earlier starts of a node have used of one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedUse {
    /// Units that are known to be used.
    pub units: u64,
    /// That is all of it, as far as one unbroken journal goes: what those starts held beyond was not used. Otherwise
    /// it counts as used.
    pub whole: bool,
    /// Names the journal: another one once anything of it was lost.
    pub journal: u64,
}

/// Periods before the last one that are kept of an entitlement: a node whose clock was wrong has counted in several at once.
const EARLIER_MAX: usize = 4;

/// Periods of an entitlement before its last.
#[derive(Debug, Default)]
struct Earlier {
    /// The latest of them.
    kept: Vec<Past>,
    /// The latest that is not kept.
    dropped: Option<PeriodId>,
}

/// The past of every entitlement that has one.
#[derive(Debug, Default)]
pub struct Carried {
    known: IdMap<Past>,
    earlier: IdMap<Earlier>,
    journal: u64,
}

impl Carried {
    /// With room for so many entitlements.
    #[must_use]
    pub fn with_capacity(entitlements: usize) -> Self {
        let known = IdMap::with_capacity_and_hasher(entitlements, Default::default());
        Self { known, earlier: IdMap::default(), journal: 0 }
    }

    /// Adds the use of one period. Of several periods of an entitlement the last is the one that is gone on from; some before
    /// it are kept as well.
    pub fn add(&mut self, id: EntitlementId, past: Past) {
        let known = self.known.entry(id).or_insert(past);
        if known.period.id == past.period.id {
            return;
        }
        let earlier = match known.period.id < past.period.id {
            true => std::mem::replace(known, past),
            false => past,
        };
        self.earlier.entry(id).or_default().add(earlier);
    }

    /// What is known of an entitlement.
    #[must_use]
    pub fn get(&self, id: EntitlementId) -> Option<Past> {
        self.known.get(&id).copied()
    }

    /// Names the journal this comes from. It must get another name, for good, whenever some of it is found gone and
    /// nothing stands in for it: what starts before that held then counts as used.
    pub fn set_journal(&mut self, journal: u64) {
        self.journal = journal;
    }

    /// What earlier starts have used of a period.
    #[must_use]
    pub fn use_in(&self, id: EntitlementId, period: PeriodId) -> CarriedUse {
        let journal = self.journal;
        let earlier = self.earlier.get(&id);
        let kept = earlier.into_iter().flat_map(|earlier| &earlier.kept);
        let found =
            self.known.get(&id).into_iter().chain(kept).find(|past| past.period.id == period);
        let is_dropped =
            earlier.and_then(|earlier| earlier.dropped).is_some_and(|last| period <= last);
        let units = found.map_or(0, |past| past.used);
        CarriedUse { units, whole: found.is_some() || !is_dropped, journal }
    }

    /// How many entitlements have a past.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

impl Earlier {
    fn add(&mut self, past: Past) {
        self.kept.push(past);
        if self.kept.len() > EARLIER_MAX {
            let first = self.kept.iter().enumerate().min_by_key(|(_, past)| past.period.id);
            if let Some((index, _)) = first {
                let gone = self.kept.swap_remove(index);
                self.dropped = self.dropped.max(Some(gone.period.id));
            }
        }
    }
}
