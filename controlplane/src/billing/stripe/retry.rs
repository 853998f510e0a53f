//! When a call is tried again, and how long before that.
//!
//! In: how a try ended; a random number. Out: yes or no; a wait.
//! Always holds: what Stripe says with `Stripe-Should-Retry` wins, and no wait is shorter than its `Retry-After`; waits grow and are spread out, so that many callers do
//! not come back in step.

use std::time::Duration;

/// How often, and how far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryRules {
    /// Tries in all, at least 1.
    pub tries_max: u32,
    /// The first wait at most; each further one is twice as long.
    pub wait_first: Duration,
    /// No wait is longer.
    pub wait_max: Duration,
}

impl Default for RetryRules {
    fn default() -> Self {
        // As Stripe's own clients have it: half a second at first, five at most.
        let (wait_first, wait_max) = (Duration::from_millis(500), Duration::from_secs(5));
        Self { tries_max: 4, wait_first, wait_max }
    }
}

/// How a try ended that brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended<'a> {
    /// Without an answer.
    Unanswered,
    /// With an error.
    Answered { status: u16, should_retry: Option<bool>, code: Option<&'a str> },
}

/// Whether another try is right.
pub(super) fn is_worth_retrying(ended: Ended<'_>) -> bool {
    match ended {
        Ended::Unanswered => true,
        Ended::Answered { should_retry: Some(told), .. } => told,
        Ended::Answered { status: 429, code, .. } => code == Some("lock_timeout"),
        Ended::Answered { status, .. } => status == 409 || status >= 500,
    }
}

/// What there were too many calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limited {
    /// All that an account is sent.
    Account,
    /// One endpoint.
    Endpoint,
    /// One object, as where something else has it locked.
    Object,
}

/// What an answer says there were too many calls for; `None` where it says nothing of the kind. `reason` is its
/// `Stripe-Rate-Limited-Reason`, which is there where Stripe knows.
pub(super) fn limited(status: u16, code: Option<&str>, reason: Option<&str>) -> Option<Limited> {
    if status != 429 {
        return None;
    }
    let is_object = code == Some("lock_timeout") || reason == Some("resource-specific");
    let is_endpoint = reason.is_some_and(|reason| reason.starts_with("endpoint-"));
    Some(match (is_object, is_endpoint) {
        (true, _) => Limited::Object,
        (_, true) => Limited::Endpoint,
        _ => Limited::Account,
    })
}

/// How long an answer says to wait before anything is sent again. Stripe gives whole seconds, with 429 and 503.
pub(super) fn retry_after(status: u16, header: Option<&str>) -> Option<Duration> {
    let is_meant = matches!(status, 429 | 503);
    let seconds = header.filter(|_| is_meant)?.trim().parse::<u32>().ok()?;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

impl RetryRules {
    /// The wait after try number `tried` (from 1); `random` is spread over its whole range.
    pub(super) fn wait(&self, tried: u32, random: u16) -> Duration {
        let doublings = tried.saturating_sub(1).min(16);
        let whole = self.wait_first.saturating_mul(1 << doublings).min(self.wait_max);
        // Between half and the whole of it.
        let share = f64::from(random) / f64::from(u16::MAX);
        whole.mul_f64(0.5 + 0.5 * share)
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
