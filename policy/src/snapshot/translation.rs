//! From what a base calls sites, plans and resources to what the sites in force call them.
//!
//! In: the base's archive, the sites. Out: positions. A site is known by its slug, a plan by its id within the site. A token
//! is narrowed to patterns, each with all its rules, however many methods have one of their own: so of the rules of one
//! pattern the first stands for all.
//! Always holds: what is no more has no position; nothing of one site is ever read as another's.

use std::collections::HashMap;

use super::Part;
use super::layout::{ArchivedBody, ArchivedSiteRow, NO_INDEX};
use crate::ids::{PlanIndex, ResourceIndex, SiteIndex};

/// The positions.
#[derive(Debug)]
pub(super) struct Translation {
    sites: Vec<u32>,
    plans: Vec<u32>,
    /// By the base's positions: the first rule of the same pattern in the sites in force.
    patterns: Vec<u32>,
    /// By positions in the sites in force: the first rule of the same pattern.
    first_rules: Vec<u32>,
}

impl Translation {
    pub(super) fn new(base: &ArchivedBody, sites: &Part) -> Self {
        let mut translation = Self {
            sites: vec![NO_INDEX; base.sites.len()],
            plans: vec![NO_INDEX; base.plans.len()],
            patterns: vec![NO_INDEX; base.resources.len()],
            first_rules: vec![NO_INDEX; sites.body().resources.len()],
        };
        let body = sites.body();
        for (place, old) in translation.sites.iter_mut().zip(base.sites.iter()) {
            let Some(index) = sites.names.slugs.get(old.slug.as_bytes()) else { continue };
            let Some(new) = body.sites.get(index.index()) else { continue };
            *place = index.0;
            let plans = translation.plans.get_mut(old.plans.range()).unwrap_or_default();
            translate_plans(base, old, (body, new), plans);
            let patterns = translation.patterns.get_mut(old.resources.range()).unwrap_or_default();
            let first_rules =
                translation.first_rules.get_mut(new.resources.range()).unwrap_or_default();
            translate_patterns((base, old, patterns), (body, new, first_rules));
        }
        translation
    }

    pub(super) fn site(&self, of_base: SiteIndex) -> Option<SiteIndex> {
        there(&self.sites, of_base.index()).map(SiteIndex)
    }

    pub(super) fn plan(&self, of_base: PlanIndex) -> Option<PlanIndex> {
        there(&self.plans, of_base.index()).map(PlanIndex)
    }

    /// Whether a rule of the base and one of the sites in force, of the same site, have one pattern.
    pub(super) fn is_same_pattern(&self, of_base: u32, resource: ResourceIndex) -> bool {
        let pattern = there(&self.patterns, of_base as usize);
        pattern.is_some() && pattern == there(&self.first_rules, resource.index())
    }
}

fn there(positions: &[u32], at: usize) -> Option<u32> {
    positions.get(at).copied().filter(|position| *position != NO_INDEX)
}

fn translate_plans(
    base: &ArchivedBody,
    old: &ArchivedSiteRow,
    (body, new): (&ArchivedBody, &ArchivedSiteRow),
    places: &mut [u32],
) {
    let rows = body.plans.get(new.plans.range()).unwrap_or_default();
    let by_id: HashMap<&str, u32> = rows
        .iter()
        .zip(new.plans.start.to_native()..)
        .filter(|(plan, _)| !plan.is_earlier)
        .map(|(plan, position)| (plan.id.as_str(), position))
        .collect();
    let rows = base.plans.get(old.plans.range()).unwrap_or_default();
    for (place, plan) in places.iter_mut().zip(rows) {
        *place = by_id.get(plan.id.as_str()).copied().unwrap_or(NO_INDEX);
    }
}

fn translate_patterns(
    (base, old, patterns): (&ArchivedBody, &ArchivedSiteRow, &mut [u32]),
    (body, new, first_rules): (&ArchivedBody, &ArchivedSiteRow, &mut [u32]),
) {
    let rows = body.resources.get(new.resources.range()).unwrap_or_default();
    let mut by_pattern: HashMap<&str, u32> = HashMap::new();
    for ((row, position), first) in
        rows.iter().zip(new.resources.start.to_native()..).zip(first_rules)
    {
        *first = *by_pattern.entry(row.pattern.as_str()).or_insert(position);
    }
    let rows = base.resources.get(old.resources.range()).unwrap_or_default();
    for (place, row) in patterns.iter_mut().zip(rows) {
        *place = by_pattern.get(row.pattern.as_str()).copied().unwrap_or(NO_INDEX);
    }
}
