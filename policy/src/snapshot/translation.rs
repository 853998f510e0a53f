//! From what a base calls sites and plans to what the sites in force call them.
//!
//! In: the base's archive, the sites. Out: positions. A site is known by its slug, a plan by its id within the site.
//! Always holds: what is no more has no position; nothing of one site is ever read as another's.

use std::collections::HashMap;

use super::Part;
use super::layout::{ArchivedBody, ArchivedSiteRow, NO_INDEX};
use crate::ids::{PlanIndex, SiteIndex};

/// The positions.
#[derive(Debug)]
pub(super) struct Translation {
    sites: Vec<u32>,
    plans: Vec<u32>,
}

impl Translation {
    pub(super) fn new(base: &ArchivedBody, sites: &Part) -> Self {
        let mut translation = Self {
            sites: vec![NO_INDEX; base.sites.len()],
            plans: vec![NO_INDEX; base.plans.len()],
        };
        let body = sites.body();
        for (place, old) in translation.sites.iter_mut().zip(base.sites.iter()) {
            let Some(index) = sites.names.slugs.get(old.slug.as_bytes()) else { continue };
            let Some(new) = body.sites.get(index.index()) else { continue };
            *place = index.0;
            let plans = translation.plans.get_mut(old.plans.range()).unwrap_or_default();
            translate_plans(base, old, (body, new), plans);
        }
        translation
    }

    pub(super) fn site(&self, of_base: SiteIndex) -> Option<SiteIndex> {
        there(&self.sites, of_base.index()).map(SiteIndex)
    }

    pub(super) fn plan(&self, of_base: PlanIndex) -> Option<PlanIndex> {
        there(&self.plans, of_base.index()).map(PlanIndex)
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
