//! From rows to the model that snapshots are compiled of.
//!
//! In: rows of sites and their parts, of subscriptions and tokens. Out: `policy::model`, and where its parts are.
//! Always holds: a site or subscription that cannot be read is left out and named in the log, so that one damaged row
//! stops nobody else's changes; what is left out answers as unknown.

use std::collections::{BTreeMap, HashMap, HashSet};

use ipnet::IpNet;
use policy::model::{self, Status};
use policy::token::TokenHash;
use serde_json::Value as Json;

use crate::domain::plan_terms;
use crate::domain::policy_text::{Part, SiteText, check};
use crate::domain::site::{PlanDraft, SiteDraft};
use crate::secrets::Keyring;
use crate::storage::{
    Adjustment, Plan, PlanRevision, Resource, Site, SiteRows, SubscriptionRows, Token,
};

/// All sites as the compiler takes them.
#[derive(Debug, Default)]
pub struct Sites {
    /// The model; subscriptions are left out.
    pub sites: Vec<model::Site>,
    places: HashMap<String, Place>,
}

/// Where a site and its plans are in the model.
#[derive(Debug)]
struct Place {
    site: u32,
    plans: HashMap<String, u32>,
}

/// A subscription in the model, by its site's position.
pub type Placed = (u32, model::Subscription);

impl Sites {
    /// Of all rows; what is sealed in them is opened. Earlier terms of plans count where a period can still run that began under them.
    #[must_use]
    pub fn new(rows: SiteRows, keyring: &Keyring, now_ms: i64) -> Self {
        let mut resources: HashMap<String, Vec<Resource>> = HashMap::new();
        for row in rows.resources {
            resources.entry(row.site_id.clone()).or_default().push(row);
        }
        let mut plans: HashMap<String, Vec<Plan>> = HashMap::new();
        for row in rows.plans {
            plans.entry(row.site_id.clone()).or_default().push(row);
        }
        let mut revisions: HashMap<String, Vec<PlanRevision>> = HashMap::new();
        for row in rows.revisions {
            revisions.entry(row.plan_id.clone()).or_default().push(row);
        }
        let mut made = Self::default();
        for site in rows.sites {
            let resources = resources.remove(&site.id).unwrap_or_default();
            let mut plans = plans.remove(&site.id).unwrap_or_default();
            fit_archived(&mut plans, &resources);
            match site_of(&site, &resources, &plans, keyring) {
                Ok(mut model) => {
                    let parts = (&site, resources.as_slice(), keyring);
                    add_earlier(&mut model, parts, &plans, &revisions, now_ms);
                    made.add(&site, &plans, model);
                }
                Err(reason) => {
                    tracing::error!(
                        site = site.id,
                        reason,
                        "a site cannot be read; nodes are not told of it"
                    );
                }
            }
        }
        made
    }

    fn add(&mut self, row: &Site, plans: &[Plan], model: model::Site) {
        let position = |plan: &Plan| {
            let at = model.plans.iter().position(|known| known.id == plan.reference)?;
            Some((plan.id.clone(), u32::try_from(at).ok()?))
        };
        let plans = plans.iter().filter_map(position).collect();
        let site = u32::try_from(self.sites.len()).unwrap_or(u32::MAX);
        self.places.insert(row.id.clone(), Place { site, plans });
        self.sites.push(model);
    }

    /// A subscription; none where its site or plan is no more, or it cannot be read.
    #[must_use]
    pub fn subscription(&self, rows: &SubscriptionRows) -> Option<Placed> {
        let row = &rows.subscription;
        let place = self.places.get(&row.site_id)?;
        let plan = *place.plans.get(&row.plan_id)?;
        let Some(status) = status_of(&row.status) else {
            tracing::error!(subscription = row.id, "its status is none; nodes are not told of it");
            return None;
        };
        let subscription = model::Subscription {
            id: row.reference.clone(),
            plan,
            customer: rows.customer.clone(),
            status,
            past_due_since_s: row.past_due_since_ms.map(seconds),
            period_anchor_s: row.period_anchor_ms.map(seconds),
            adjustments: adjustments_of(&rows.adjustments),
            tokens: rows.tokens.iter().filter_map(token_of).collect(),
        };
        Some((place.site, subscription))
    }
}

fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1_000)
}

fn status_of(word: &str) -> Option<Status> {
    Status::WORDS.iter().find(|(known, _)| *known == word).map(|(_, status)| *status)
}

/// Adjustments with the same end become one, so that there are few.
fn adjustments_of(rows: &[Adjustment]) -> Vec<model::Adjustment> {
    let mut by_end: BTreeMap<i64, i64> = BTreeMap::new();
    for row in rows {
        let units = by_end.entry(row.expires_at_ms.map_or(i64::MAX, seconds)).or_default();
        *units = units.saturating_add(row.units);
    }
    by_end.into_iter().map(|(until_s, units)| model::Adjustment { until_s, units }).collect()
}

fn token_of(row: &Token) -> Option<model::Token> {
    let token = || -> Result<model::Token, String> {
        let hash: [u8; 32] =
            row.hash.as_slice().try_into().map_err(|_| "its hash is none".to_owned())?;
        let networks: Vec<String> = list(row.allow_from.as_deref())?.unwrap_or_default();
        let allow_from = networks.iter().map(|text| network(text)).collect::<Result<_, _>>()?;
        let patterns: Option<Vec<String>> = list(row.resources.as_deref())?;
        // By name, those of archived resources too: where a pattern comes back, the token has it again.
        let resources = patterns.map(|mut patterns| {
            patterns.sort_unstable();
            patterns.dedup();
            patterns
        });
        Ok(model::Token {
            id: row.reference.clone(),
            hash: TokenHash(hash),
            expires_at_s: row.expires_at_ms.map(seconds),
            is_revoked: row.revoked_at_ms.is_some(),
            allow_from,
            resources,
        })
    };
    token()
        .inspect_err(|reason| {
            tracing::error!(
                token = row.id,
                reason,
                "a token cannot be read; nodes are not told of it"
            );
        })
        .ok()
}

fn list(text: Option<&str>) -> Result<Option<Vec<String>>, String> {
    text.map(serde_json::from_str).transpose().map_err(|error| error.to_string())
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("`{text}` is no network"))
}

fn site_of(
    site: &Site,
    resources: &[Resource],
    plans: &[Plan],
    keyring: &Keyring,
) -> Result<model::Site, String> {
    let broken = |error: serde_json::Error| error.to_string();
    let mut draft: SiteDraft = serde_json::from_str(&site.settings).map_err(broken)?;
    if let Some(sealed) = &site.sealed_headers {
        let plain = keyring.open(&site.id, sealed).map_err(|error| error.to_string())?;
        draft.origin_headers = Some(serde_json::from_slice(&plain).map_err(broken)?);
    }
    let keys = draft.policy_keys();
    let resources: Vec<Part> = resources
        .iter()
        .map(|row| Ok((row.id.clone(), serde_json::from_str(&row.settings).map_err(broken)?)))
        .collect::<Result<_, String>>()?;
    let plans: Vec<Part> = plans
        .iter()
        .map(|row| {
            let draft: PlanDraft = serde_json::from_str(&row.settings).map_err(broken)?;
            Ok((row.id.clone(), draft.policy_keys(&row.reference)))
        })
        .collect::<Result<_, String>>()?;
    let text = SiteText { site: &keys, resources: &resources, plans: &plans, subscriptions: &[] };
    check(&text, "sites").map_err(|faults| {
        let faults = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message));
        faults.collect::<Vec<_>>().join("; ")
    })
}

/// Plans that were archived while somebody paid for them are served beside those that took their names, and include of the site's resources what
/// is left: nobody can correct them any more, and a plan that does not fit would take its whole site with it.
fn fit_archived(plans: &mut [Plan], resources: &[Resource]) {
    let live = plans.iter().filter(|plan| plan.archived_at_ms.is_none());
    let mut names: HashSet<String> = live.map(|plan| plan.reference.clone()).collect();
    let pattern = |row: &Resource| -> Option<Json> {
        serde_json::from_str::<Json>(&row.settings).ok()?.get("pattern").cloned()
    };
    let patterns: Vec<Json> = resources.iter().filter_map(pattern).collect();
    for plan in plans.iter_mut().filter(|plan| plan.archived_at_ms.is_some()) {
        if !names.insert(plan.reference.clone()) {
            plan.reference.clone_from(&plan.id);
        }
        let Ok(mut settings) = serde_json::from_str::<Json>(&plan.settings) else { continue };
        if let Some(named) = settings.get_mut("resources").and_then(Json::as_array_mut) {
            named.retain(|name| patterns.contains(name));
            plan.settings = settings.to_string();
        }
    }
}

/// Gives each plan what it said before.
fn add_earlier(
    model: &mut model::Site,
    (site, resources, keyring): (&Site, &[Resource], &Keyring),
    plans: &[Plan],
    revisions: &HashMap<String, Vec<PlanRevision>>,
    now_ms: i64,
) {
    for plan in plans {
        let known = revisions.get(&plan.id).map(Vec::as_slice).unwrap_or_default();
        let live = plan_terms::earlier(plan, known);
        if live.is_empty() {
            continue;
        }
        let at = model.plans.iter().position(|known| known.id == plan.reference);
        let Some(place) = at.and_then(|at| model.plans.get_mut(at)) else { continue };
        for revision in live {
            let before = Plan { settings: revision.settings.clone(), ..plan.clone() };
            let said = site_of(site, resources, &[before], keyring);
            let terms = said.and_then(|said| {
                said.plans.into_iter().next().ok_or_else(|| "it is none".to_owned())
            });
            match terms {
                Ok(terms) => {
                    let until_s = seconds(revision.applies_until_ms);
                    let unit = terms.quota.map_or(model::Unit::Month, |quota| quota.per);
                    // Twice the nominal length is longer than any period of that unit.
                    let longest_s = i64::try_from(2 * unit.nominal_s()).unwrap_or(i64::MAX);
                    if until_s.saturating_add(longest_s) > seconds(now_ms) {
                        place.earlier.push(model::EarlierTerms { until_s, terms });
                    }
                }
                Err(reason) => {
                    tracing::error!(
                        plan = plan.id,
                        reason,
                        "earlier terms cannot be read; running periods have the later ones"
                    );
                }
            }
        }
        let too_many = place.earlier.len().saturating_sub(model::EARLIER_MAX);
        place.earlier.drain(..too_many);
    }
}
