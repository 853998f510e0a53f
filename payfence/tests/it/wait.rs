//! Waiting for conditions, and loopback addresses that no other test uses.
//!
//! Always holds: every wait has a deadline, after which the test fails and says what it waited for.
#![expect(clippy::disallowed_methods, reason = "tests wait with deadlines, which need a clock")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long anything may take before a test fails. Long: a busy machine is no failure.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Asks `condition` every few milliseconds until it gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_within(DEADLINE, what, condition)
}

/// The same for what may take longer.
#[track_caller]
pub fn wait_within<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let is_time_left = time_left(deadline);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(is_time_left(), "waited {deadline:?} in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// How long `action` took.
pub fn timed<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = action();
    (result, start.elapsed())
}

/// Says for so long that there is time left.
pub fn time_left(of: Duration) -> impl Fn() -> bool {
    let elapsed = stopwatch();
    move || elapsed() < of
}

/// Says how much time has gone by since.
pub fn stopwatch() -> impl Fn() -> Duration {
    let start = Instant::now();
    move || start.elapsed()
}

/// Tells threads that look at it to stop, whatever ends the one that has it.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Seconds since 1970.
pub fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a clock before the year 292 billion")
}

/// An address that is this process's alone: Linux binds all of 127/8, and the process id says which one. Free ports of
/// 127.0.0.1 would race with other tests, all the more since shards listen with SO_REUSEPORT.
pub fn own_address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(10_001);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 1 + high, middle, 1 + low % 254);
    // Two ids that fall together (254 of 256) still differ here.
    let port = PORT.fetch_add(1, Ordering::Relaxed) + u16::from(low / 254) * 1000;
    SocketAddr::from((ip, port))
}
