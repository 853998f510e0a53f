//! How long to wait before what failed is tried again.
//!
//! In: a table of delays, how often it was tried, randomness. Out: milliseconds.
//! Always holds: waits grow to the table's last one and stay there; what failed together is not tried again together.

use crate::world::World;

/// A factor from 0.8 to 1.2.
#[must_use]
pub fn jitter(world: &dyn World) -> f64 {
    let mut bytes = [0; 2];
    world.fill(&mut bytes);
    0.8 + 0.4 * f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX)
}

/// How long to wait after so many attempts.
#[must_use]
pub fn delay_ms(delays_s: &[i64], attempts: i64, jitter: f64) -> i64 {
    let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(0);
    let delay_s = delays_s.get(place).or(delays_s.last()).copied().unwrap_or(0);
    // Delays are hours at most, far within what is exact.
    (delay_s as f64 * 1_000.0 * jitter) as i64
}
