//! What came to the webhook endpoints, counted.
//!
//! In: outcomes. Out: numbers that only grow, for `/metrics`.
//! Always holds: one counter an outcome, whatever the request carried.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Kept.
    Kept,
    /// Kept before.
    Known,
    /// Refused: larger than allowed, or broken off.
    Unreadable,
    /// Refused: no signature that can be read.
    Unsigned,
    /// Refused: signed with no secret of ours.
    Forged,
    /// Refused: signed too long ago or in the future.
    Old,
    /// Refused: signed, but no event.
    Malformed,
    /// Refused: of the other mode.
    OtherMode,
    /// Refused: of an account that none of ours connected.
    Foreign,
    /// Refused: the mode has no secrets.
    NoSecrets,
    /// Not kept, to be sent again: too many at once, or the database is away.
    Unavailable,
}

const WORDS: [(Outcome, &str); 11] = [
    (Outcome::Kept, "kept"),
    (Outcome::Known, "known"),
    (Outcome::Unreadable, "unreadable"),
    (Outcome::Unsigned, "unsigned"),
    (Outcome::Forged, "forged"),
    (Outcome::Old, "old"),
    (Outcome::Malformed, "malformed"),
    (Outcome::OtherMode, "other_mode"),
    (Outcome::Foreign, "foreign"),
    (Outcome::NoSecrets, "no_secrets"),
    (Outcome::Unavailable, "unavailable"),
];

/// The counters.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; WORDS.len()]);

impl Counters {
    /// Counts one.
    pub fn count(&self, outcome: Outcome) {
        if let Some(counter) = self.0.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All of them, by their words.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        WORDS.iter().zip(&self.0).map(|((_, word), count)| (*word, count.load(Ordering::Relaxed)))
    }
}

impl Outcome {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        WORDS.iter().find(|(outcome, _)| *outcome == self).map_or("", |(_, word)| word)
    }
}
