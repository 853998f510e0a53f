//! Time and randomness, which the control plane takes from outside so that tests can set them.
//!
//! Out: milliseconds since 1970, random bytes.
//! Always holds: nothing else in the crate reads a clock or asks the operating system for randomness.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where time and randomness come from.
pub trait World: Debug + Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;

    /// Fills `bytes` with randomness fit for secrets.
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl World for System {
    #[expect(clippy::disallowed_methods, reason = "this is the control plane's clock")]
    fn now_ms(&self) -> i64 {
        // A clock before 1970 reads as 1970: nothing has expired then, and nothing is lost.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives randomness once it has started");
    }
}
