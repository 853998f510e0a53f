//! The one place that reads time.
//!
//! Out: pairs of monotonic and wall-clock nanoseconds. A shard reads once per turn through [`TurnClock`] and hands
//! the value to everything that needs a time, so that all of a turn sees one instant.
//! Always holds: monotonic values of one [`Clock`] and its copies compare with each other on every thread and never
//! go back; the wall clock may step either way.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One instant, by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since the clock was started; for durations and deadlines.
    pub mono_ns: u64,
    /// Nanoseconds since 1970-01-01T00:00:00Z; for periods, expiry and what people read.
    pub unix_ns: i64,
}

impl Now {
    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[must_use]
    pub fn unix_s(&self) -> i64 {
        self.unix_ns.div_euclid(1_000_000_000)
    }

    /// Time since `earlier` by the monotonic clock; zero when `earlier` is later.
    #[must_use]
    pub fn since(&self, earlier: Now) -> Duration {
        Duration::from_nanos(self.mono_ns.saturating_sub(earlier.mono_ns))
    }
}

/// Reads time. Copies share one origin, so their monotonic values compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now. A process makes one and copies it.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Both times.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    #[must_use]
    pub fn now(&self) -> Now {
        let mono_ns = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // A wall clock set before 1970 counts backwards from it rather than failing.
        let unix_ns = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        };
        Now { mono_ns, unix_ns }
    }
}

/// A shard's view of time: read once per turn, the same all through it.
#[derive(Debug)]
pub struct TurnClock {
    clock: Clock,
    now: Cell<Now>,
}

impl TurnClock {
    /// A view that already holds the present.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, now: Cell::new(clock.now()) }
    }

    /// Reads the clocks; called at the start of a turn.
    pub fn refresh(&self) -> Now {
        let now = self.clock.now();
        self.now.set(now);
        now
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now.get()
    }
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
