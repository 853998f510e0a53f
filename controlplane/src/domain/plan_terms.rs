//! Which terms of a plan a subscription has, after the plan was changed.
//!
//! In: the plan, its superseded terms. Out: those that count, in order; nodes choose among them by the start of a period.
//! Always holds: a change with `applies = "next_period"` leaves a period that runs as it was; one with `"now"` reaches
//! every period, and ends all earlier exceptions.
//!
//! A row of `plan_revisions` holds what the plan said before a change: `applies_until_ms` is when it was changed, so
//! periods that began before go on with it. Rows until `plans.immediate_from_ms` are void.

use crate::storage::{Plan, PlanRevision};

/// The earlier terms that some period may have, earliest first. A subscription has the first of them that ended after its period began,
/// and otherwise what the plan says now.
#[must_use]
pub fn earlier<'a>(plan: &Plan, revisions: &'a [PlanRevision]) -> Vec<&'a PlanRevision> {
    let kept = revisions.iter().filter(|row| row.applies_until_ms > plan.immediate_from_ms);
    let mut kept: Vec<&PlanRevision> = kept.collect();
    kept.sort_by_key(|revision| (revision.applies_until_ms, revision.key));
    kept
}

#[cfg(test)]
#[path = "plan_terms_tests.rs"]
mod tests;
