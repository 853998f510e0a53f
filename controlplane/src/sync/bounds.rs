//! How much the feed keeps and reads at once, and when a base is due.
//!
//! In: nothing, or a test's own. Out: [`Bounds`].
//! Always holds: each bound is one of the whole process, however many nodes there are, but for the piece, which is one of a stream.

use std::time::Duration;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of changes that are kept in memory.
    pub kept_bytes: usize,
    /// Changes that are kept there.
    pub kept: usize,
    /// Bytes of those that a stream is given at once; one change it is given however long.
    pub piece_bytes: usize,
    /// Pages of the outbox's rows of which changes are made at once, for nodes that need what is not kept; with none they wait for ever.
    pub lanes: usize,
    /// Bytes of such changes that are remembered for each of those, for nodes that need the same.
    pub lane_bytes: usize,
    /// A base spares a node the changes up to it where they are more entries of the outbox than this.
    pub catch_up: u64,
    /// A new base is due once so many subscriptions and tokens have changed, or [`DUE_PART`] of the last one, whichever is more.
    pub due_weight: usize,
    /// Between two bases that nobody waits for.
    pub base_pause: Duration,
}

/// The part of a base that has to change before it is due.
pub const DUE_PART: usize = 8;

impl Default for Bounds {
    fn default() -> Self {
        Self {
            kept_bytes: 64 << 20,
            kept: 100_000,
            piece_bytes: 1 << 20,
            lanes: 3,
            lane_bytes: 8 << 20,
            catch_up: 20_000,
            due_weight: 20_000,
            base_pause: Duration::from_secs(30),
        }
    }
}
