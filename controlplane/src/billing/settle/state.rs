//! What a subscription of Stripe's means here, as pure functions.
//!
//! In: the object as fetched, what was known, the plan of its price, whether a dispute holds it. Out: status, plan, period.
//! Always holds: the outcome depends on what is fetched and on what is known, never on which event came or when, but for
//! the start of grace, which is the failed invoice's and stays until that is paid.

use crate::api::endpoints::subscriptions::SubscriptionStatus;
use crate::billing::stripe::{Subscription as Fetched, SubscriptionItem};
use crate::domain::site::{Per, PlanDraft};

/// A plan that a change may lead to.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Its id.
    pub id: &'a str,
    /// What it allows.
    pub draft: &'a PlanDraft,
}

/// What was known before.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The plan in force.
    pub plan: Terms<'a>,
    /// The plan that waits for the period's end.
    pub pending_plan_id: Option<&'a str>,
    /// The price that was fetched last.
    pub price_id: Option<&'a str>,
    /// The end of the period that was fetched last, Unix milliseconds.
    pub period_end_ms: Option<i64>,
}

/// Which plan applies, and which waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanChoice {
    /// Now.
    pub plan_id: String,
    /// From the period's end on.
    pub pending_plan_id: Option<String>,
}

/// The status here: Stripe's own word, `paused` while a dispute holds it; `None` for a word that is not known.
#[must_use]
pub fn status(fetched: &Fetched, is_held: bool) -> Option<SubscriptionStatus> {
    let status: SubscriptionStatus = serde_json::from_value(fetched.status.as_str().into()).ok()?;
    let is_served = matches!(
        status,
        SubscriptionStatus::Active | SubscriptionStatus::Trialing | SubscriptionStatus::PastDue
    );
    Some(if is_held && is_served { SubscriptionStatus::Paused } else { status })
}

/// Since when it is past due: what was known stays; else the failed invoice's time, else the period's start.
#[must_use]
pub fn past_due_since_ms(
    fetched: &Fetched,
    known_ms: Option<i64>,
    invoice_at_s: Option<i64>,
) -> Option<i64> {
    if fetched.status != "past_due" {
        return None;
    }
    known_ms.or_else(|| invoice_at_s.map(ms)).or_else(|| period(fetched).0)
}

/// The period of the part that is paid in advance, Unix milliseconds.
#[must_use]
pub fn period(fetched: &Fetched) -> (Option<i64>, Option<i64>) {
    let item: Option<&SubscriptionItem> = fetched.licensed().or(fetched.items.data.first());
    (
        item.and_then(|item| item.current_period_start).map(ms),
        item.and_then(|item| item.current_period_end).map(ms),
    )
}

/// A time at which a period begins: Stripe's anchor, from which short months leave no trace.
#[must_use]
pub fn anchor_ms(fetched: &Fetched) -> Option<i64> {
    fetched.billing_cycle_anchor.map(ms).or_else(|| period(fetched).0)
}

/// When it will end, or ended, Unix milliseconds.
#[must_use]
pub fn cancel_at_ms(fetched: &Fetched) -> Option<i64> {
    let at_end = || fetched.cancel_at_period_end.then(|| period(fetched).1).flatten();
    fetched.ended_at.or(fetched.cancel_at).map(ms).or_else(at_end)
}

/// Until when a change waits for its payment, Unix milliseconds; none where none does.
#[must_use]
pub fn upgrade_until_ms(fetched: &Fetched) -> Option<i64> {
    fetched.pending_update.as_ref()?.expires_at.map(ms)
}

/// Which plan applies: a plan that allows as much or more at once, one that allows less when the period is over, so that
/// nobody is blocked by it in the middle.
#[must_use]
pub fn plan(known: Known<'_>, target: Option<Terms<'_>>, fetched: &Fetched) -> PlanChoice {
    let stays = |pending: Option<&str>| PlanChoice {
        plan_id: known.plan.id.to_owned(),
        pending_plan_id: pending.map(ToOwned::to_owned),
    };
    // A price that is none of ours says nothing of plans.
    let Some(target) = target else { return stays(known.pending_plan_id) };
    let price_id = fetched.licensed().map(|item| item.price.id.as_str());
    if target.id == known.plan.id {
        // Moved back to the price of the plan that is in force: nothing waits any more.
        let is_moved = known.price_id.is_some() && price_id != known.price_id;
        return stays(known.pending_plan_id.filter(|_| !is_moved));
    }
    let is_over = match (period(fetched).0, known.period_end_ms) {
        (Some(start_ms), Some(end_ms)) => start_ms >= end_ms,
        _ => false,
    };
    if is_over || allows_as_much(target.draft, known.plan.draft) {
        return PlanChoice { plan_id: target.id.to_owned(), pending_plan_id: None };
    }
    stays(Some(target.id))
}

/// Whether `new` allows at least what `old` does, in units over time.
#[must_use]
pub fn allows_as_much(new: &PlanDraft, old: &PlanDraft) -> bool {
    match (&new.quota, &old.quota) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(new), Some(old)) => {
            let rate = |requests: u64, other: Per| u128::from(requests) * seconds(other);
            rate(new.requests, old.per) >= rate(old.requests, new.per)
        }
    }
}

/// How long a unit of time is, about: months and years are compared with days by it.
fn seconds(per: Per) -> u128 {
    const DAY: u128 = 86_400;
    match per {
        Per::Second => 1,
        Per::Minute => 60,
        Per::Hour => 3_600,
        Per::Day => DAY,
        Per::Week => 7 * DAY,
        Per::Month => 30 * DAY,
        Per::Year => 360 * DAY,
    }
}

fn ms(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
