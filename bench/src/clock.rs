//! Reads the clocks for the benchmarks, whose subject is time, and waits for conditions.
//!
//! Always holds: nothing else in this crate reads a clock or waits without a deadline.
#![expect(clippy::disallowed_methods, reason = "the one place of this crate that reads clocks")]

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// The monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970, for the date of a record.
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Asks `condition` every 10 ms until it holds; false when `limit` passed first.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = now() + limit;
    loop {
        if condition() {
            return true;
        }
        if now() >= deadline {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits for `span`, where there is no condition to wait for.
pub fn pause(span: Duration) {
    wait_until(span, || false);
}

/// Expires every `period`, which a reading of it waits for.
pub fn periodic_timer(period: Duration) -> Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let every =
        Timespec { tv_sec: period.as_secs().cast_signed(), tv_nsec: period.subsec_nanos().into() };
    let spec = Itimerspec { it_interval: every, it_value: every };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
    Ok(timer)
}
