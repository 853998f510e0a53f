//! Which terms of a plan a subscription has, after the plan was changed.
//!
//! In: the plan, its superseded terms, the start of the subscription's current period. Out: settings.
//! Always holds: a change with `applies = "next_period"` leaves a period that runs as it was; one with `"now"` reaches
//! every period, and ends all earlier exceptions.
//!
//! A row of `plan_revisions` holds what the plan said before a change: `applies_until_ms` is when it was changed, so
//! periods that began before go on with it. Rows until `plans.immediate_from_ms` are void.

use crate::storage::{Plan, PlanRevision};

/// The settings (JSON) that a subscription has whose current period began at `period_start_ms`.
#[must_use]
pub fn settings<'a>(
    plan: &'a Plan,
    revisions: &'a [PlanRevision],
    period_start_ms: i64,
) -> &'a str {
    let kept = revisions.iter().filter(|revision| {
        revision.applies_until_ms > plan.immediate_from_ms
            && revision.applies_until_ms > period_start_ms
    });
    kept.min_by_key(|revision| (revision.applies_until_ms, revision.key))
        .map_or(&plan.settings, |revision| &revision.settings)
}

#[cfg(test)]
#[path = "plan_terms_tests.rs"]
mod tests;
