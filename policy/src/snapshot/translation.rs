//! From what a base calls sites, plans and resources to what the sites in force call them.
//!
//! In: the base's archive, the sites. Out: positions. A site is known by its slug, a plan by its id within the site, a resource by
//! pattern and methods, and where only its methods changed by its pattern.
//! Always holds: what is no more has no position; nothing of one site is ever read as another's.

use std::collections::HashMap;

use super::Part;
use super::layout::{ArchivedBody, ArchivedResourceRow, ArchivedSiteRow, NO_INDEX};
use crate::ids::{PlanIndex, ResourceIndex, SiteIndex};

/// The positions.
#[derive(Debug)]
pub(super) struct Translation {
    sites: Vec<u32>,
    plans: Vec<u32>,
    resources: Vec<u32>,
}

impl Translation {
    pub(super) fn new(base: &ArchivedBody, sites: &Part) -> Self {
        let mut translation = Self {
            sites: vec![NO_INDEX; base.sites.len()],
            plans: vec![NO_INDEX; base.plans.len()],
            resources: vec![NO_INDEX; base.resources.len()],
        };
        let body = sites.body();
        for (place, old) in translation.sites.iter_mut().zip(base.sites.iter()) {
            let Some(index) = sites.names.slugs.get(old.slug.as_bytes()) else { continue };
            let Some(new) = body.sites.get(index.index()) else { continue };
            *place = index.0;
            let plans = translation.plans.get_mut(old.plans.range()).unwrap_or_default();
            translate_plans(base, old, (body, new), plans);
            let resources =
                translation.resources.get_mut(old.resources.range()).unwrap_or_default();
            translate_resources(base, old, (body, new), resources);
        }
        translation
    }

    pub(super) fn site(&self, of_base: SiteIndex) -> Option<SiteIndex> {
        there(&self.sites, of_base.index()).map(SiteIndex)
    }

    pub(super) fn plan(&self, of_base: PlanIndex) -> Option<PlanIndex> {
        there(&self.plans, of_base.index()).map(PlanIndex)
    }

    pub(super) fn resource(&self, of_base: u32) -> Option<ResourceIndex> {
        there(&self.resources, of_base as usize).map(ResourceIndex)
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
    let by_id: HashMap<&str, u32> =
        rows.iter().map(|plan| plan.id.as_str()).zip(new.plans.start.to_native()..).collect();
    let rows = base.plans.get(old.plans.range()).unwrap_or_default();
    for (place, plan) in places.iter_mut().zip(rows) {
        *place = by_id.get(plan.id.as_str()).copied().unwrap_or(NO_INDEX);
    }
}

fn translate_resources(
    base: &ArchivedBody,
    old: &ArchivedSiteRow,
    (body, new): (&ArchivedBody, &ArchivedSiteRow),
    places: &mut [u32],
) {
    let rows = body.resources.get(new.resources.range()).unwrap_or_default();
    let mut by_pattern: HashMap<&str, Vec<(u32, &ArchivedResourceRow)>> = HashMap::new();
    for (row, position) in rows.iter().zip(new.resources.start.to_native()..) {
        by_pattern.entry(row.pattern.as_str()).or_default().push((position, row));
    }
    let rows = base.resources.get(old.resources.range()).unwrap_or_default();
    for (place, row) in places.iter_mut().zip(rows) {
        let Some(same) = by_pattern.get(row.pattern.as_str()) else { continue };
        let exact = same.iter().find(|(_, other)| {
            other
                .methods
                .iter()
                .map(|method| method.as_str())
                .eq(row.methods.iter().map(|method| method.as_str()))
        });
        *place = exact.or(same.first()).map_or(NO_INDEX, |(position, _)| *position);
    }
}
