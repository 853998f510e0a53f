//! The sandbox's time: the machine's, or one that stands until it is moved.
//!
//! In: a start and advances. Out: seconds since 1970.
//! Always holds: time never goes back; a fixed clock moves by [`Clock::advance`] alone.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where the sandbox's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockStart {
    /// The machine's clock; what was advanced is added.
    Real,
    /// It stands at this second since 1970 until it is moved.
    Fixed(i64),
}

/// The running clock.
#[derive(Debug)]
pub struct Clock {
    start: ClockStart,
    advanced_s: i64,
    latest: i64,
}

impl Clock {
    /// A clock that begins as `start` says.
    pub fn new(start: ClockStart) -> Self {
        Self { start, advanced_s: 0, latest: i64::MIN }
    }

    /// Now, in seconds since 1970.
    pub fn now(&mut self) -> i64 {
        let base = match self.start {
            ClockStart::Real => wall(),
            ClockStart::Fixed(at) => at,
        };
        self.latest = self.latest.max(base + self.advanced_s);
        self.latest
    }

    /// Moves time on.
    pub fn advance(&mut self, seconds: i64) {
        self.advanced_s += seconds.max(0);
    }
}

/// The machine's clock, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the sandbox's one reading of the machine's clock")]
pub fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
