//! Which invoice an increment comes onto, by the time that it counts at.
//!
//! In: that time, what is known of the billing periods, the present. Out: the time at which it is billed still.
//! Always holds: a time is only moved on, and only where the invoice that it belongs to takes nothing more, or Stripe takes nothing of
//! so long ago; at most to the last second that is over, since an invoice that is made now has nothing of this one; what was used in a
//! trial stays in it, since it is free there.

/// How long after its period an invoice is a draft still, with room: Stripe finalises it about an hour after it was made.
pub(super) const DRAFT_S: i64 = 3_000;
/// Stripe takes events of the last 35 days.
pub const OLDEST_S: i64 = 34 * 86_400;
/// No billing period is shorter: what is no longer before its end is within it.
const SHORTEST_S: i64 = 27 * 86_400;

/// A billing period, Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BillingPeriod {
    /// Its first second.
    pub start_s: i64,
    /// The first second after it.
    pub end_s: i64,
    /// The first second after the trial, where there was one.
    pub trial_end_s: Option<i64>,
}

/// The time that use of a time has to count at, so that an invoice has it.
pub(super) fn at_s(used_s: i64, period: Option<BillingPeriod>, now_s: i64) -> i64 {
    let is_too_old = now_s.saturating_sub(used_s) > OLDEST_S;
    let over_s = now_s.saturating_sub(1);
    let Some(period) = period else { return if is_too_old { over_s } else { used_s } };
    if period.trial_end_s.is_some_and(|end_s| used_s < end_s) {
        return used_s;
    }
    // What is known may be of before a renewal that nobody has told of yet.
    let turned_s = if period.end_s <= now_s { period.end_s } else { period.start_s };
    if used_s >= turned_s {
        return if is_too_old { over_s } else { used_s };
    }
    if now_s.saturating_sub(turned_s) >= DRAFT_S {
        return over_s;
    }
    let is_of_the_draft = turned_s.saturating_sub(used_s) <= SHORTEST_S;
    if is_of_the_draft { used_s } else { turned_s.saturating_sub(1).min(now_s) }
}

#[cfg(test)]
#[path = "billed_tests.rs"]
mod tests;
