//! A file beside an administrator: what one of them made, the other does not take away.
//!
//! In: what a control plane has, what a file wants, what it named before. Out: what is wanted of all that is there.
//! Always holds: what the file names is as the file says; what it has never named stays as it is, part by part and key by key; what it
//! named and names no longer goes. What was revoked or archived stays so, since nothing brings it back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::bought::is_charged;
use super::difference::{Act, Difference, Step};
use super::form::{Fields, Kind, SiteForm, words};
use super::named::Named;
use super::state::{Current, CurrentSite, WantedSite};

/// What a file named when it was applied before, by slug.
pub type Before = BTreeMap<String, Named>;

/// What is wanted, and what a reader should know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The sites of the file with what else is to stay of them.
    pub sites: Vec<WantedSite>,
    /// What is other than the file says, a sentence each.
    pub notes: Vec<String>,
}

/// What is wanted of the sites of the file.
#[must_use]
pub fn merge(current: &Current, before: &Before, wanted: &[WantedSite]) -> Merged {
    let mut merged = Merged::default();
    let nothing = Named::default();
    for site in wanted {
        let Some(is) = current.sites.get(&site.form.slug) else {
            merged.sites.push(site.clone());
            continue;
        };
        let before = before.get(&site.form.slug).unwrap_or(&nothing);
        let mut one = Merging { is, before, site, notes: &mut merged.notes };
        let form = one.form();
        merged.sites.push(WantedSite { form, ..site.clone() });
    }
    merged
}

/// How sites go that the file named before and names no longer. One in which somebody made something by REST, or bought something, stays.
#[must_use]
pub fn ended(
    current: &Current,
    before: &Before,
    wanted: &[WantedSite],
) -> (Difference, Vec<String>) {
    let (mut difference, mut notes) = (Difference::default(), Vec::new());
    for (slug, named) in before {
        let is_wanted = wanted.iter().any(|site| site.form.slug == *slug);
        let Some(is) = current.sites.get(slug).filter(|_| !is_wanted) else { continue };
        let bought = is.form.subscriptions.keys().find(|key| is_charged(is, key));
        let why = match (bought, foreign(&is.form, named)) {
            (Some(key), _) => format!("subscription {key} was bought"),
            (None, Some((kind, key))) => format!("{kind} {key} was made by REST"),
            (None, None) => {
                end_site(slug, is, &mut difference);
                continue;
            }
        };
        notes.push(format!("{slug} site: no longer in the file, but left as it is: {why}"));
    }
    (difference, notes)
}

/// Something that uses a site and that the file has not named.
fn foreign<'a>(form: &'a SiteForm, named: &Named) -> Option<(Kind, &'a String)> {
    let subscriptions = form.subscriptions.keys().map(|key| (Kind::Subscription, key));
    let tokens = form.tokens.iter().filter(|(_, fields)| !is_revoked(fields));
    let mut parts = subscriptions.chain(tokens.map(|(key, _)| (Kind::Token, key)));
    parts.find(|(kind, key)| !named.has(*kind, key))
}

fn end_site(slug: &str, is: &CurrentSite, difference: &mut Difference) {
    let mut end = |kind, key: &String| {
        let step = Step { slug: slug.to_owned(), kind, key: key.clone(), act: Act::End };
        difference.steps.push(step);
    };
    let live = is.form.tokens.iter().filter(|(_, fields)| !is_revoked(fields));
    live.for_each(|(key, _)| end(Kind::Token, key));
    is.form.subscriptions.keys().for_each(|key| end(Kind::Subscription, key));
    end(Kind::Site, &slug.to_owned());
    difference.lines.push(format!("- {slug} site: archived with all that is in it"));
}

/// One site.
struct Merging<'a> {
    is: &'a CurrentSite,
    before: &'a Named,
    site: &'a WantedSite,
    notes: &'a mut Vec<String>,
}

impl Merging<'_> {
    fn form(&mut self) -> SiteForm {
        let (is, wanted) = (&self.is.form, &self.site.form);
        let slug = wanted.slug.clone();
        let settings = self.fields(Kind::Site, &slug, Some(&is.settings), &wanted.settings);
        let mut resources = self.parts(Kind::Resource, &is.resources, &wanted.resources);
        let subscriptions = self.subscriptions();
        let tokens = self.tokens(&subscriptions);
        let mut plans = self.parts(Kind::Plan, &is.plans, &wanted.plans);
        self.needed_plans(&subscriptions, &mut plans);
        for (resource, plan) in keep_to_lists(is, &mut plans, &mut resources) {
            let what = format!("stays, since it is all that plan {plan} includes");
            self.note(Kind::Resource, &resource, &what);
        }
        SiteForm { slug, settings, resources, plans, subscriptions, tokens }
    }

    fn note(&mut self, kind: Kind, key: &str, what: &str) {
        self.notes.push(format!("{} {kind} {key}: {what}", self.site.form.slug));
    }

    /// A part's fields: as the file says, and where neither it nor the file before says anything of a key, as it is.
    fn fields(&self, kind: Kind, key: &str, is: Option<&Fields>, wanted: &Fields) -> Fields {
        let mut fields = wanted.clone();
        let (Some(is), Some(had)) = (is, self.before.keys(kind, key)) else { return fields };
        let has = self.site.named.keys(kind, key);
        let is_said =
            |name: &String| had.contains(name) || has.is_some_and(|has| has.contains(name));
        for (name, value) in is.iter().filter(|(name, _)| !is_said(name)) {
            fields.entry(name).or_insert_with(|| value.clone());
        }
        // What means nothing without its fellow goes with it.
        if !fields.contains_key("overage") {
            fields.remove("overage_cap");
        }
        if is.get("status") != fields.get("status") && !wanted.contains_key("past_due_since") {
            fields.remove("past_due_since");
        }
        fields
    }

    /// Parts of a kind: those of the file, and those it never named.
    fn parts(
        &self,
        kind: Kind,
        is: &BTreeMap<String, Fields>,
        wanted: &BTreeMap<String, Fields>,
    ) -> BTreeMap<String, Fields> {
        let mut parts: BTreeMap<String, Fields> = wanted
            .iter()
            .map(|(key, fields)| (key.clone(), self.fields(kind, key, is.get(key), fields)))
            .collect();
        for (key, fields) in is.iter().filter(|(key, _)| !self.before.has(kind, key)) {
            parts.entry(key.clone()).or_insert_with(|| fields.clone());
        }
        parts
    }

    fn subscriptions(&mut self) -> BTreeMap<String, Fields> {
        let (is, wanted) = (&self.is.form.subscriptions, &self.site.form.subscriptions);
        let mut subscriptions = self.parts(Kind::Subscription, is, wanted);
        let ended = |key: &String| self.is.archived_subscriptions.contains(key);
        let gone: Vec<String> = subscriptions
            .keys()
            .filter(|key| {
                ended(key) && !is.contains_key(*key) && self.before.has(Kind::Subscription, key)
            })
            .cloned()
            .collect();
        for key in gone {
            subscriptions.remove(&key);
            self.note(Kind::Subscription, &key, "was archived by REST and stays so");
        }
        subscriptions
    }

    /// Tokens of the subscriptions that stay.
    fn tokens(&mut self, subscriptions: &BTreeMap<String, Fields>) -> BTreeMap<String, Fields> {
        let (is, wanted) = (&self.is.form.tokens, &self.site.form.tokens);
        let mut tokens = self.parts(Kind::Token, is, wanted);
        tokens.retain(|_, fields| {
            let subscription = fields.get("subscription").and_then(Json::as_str);
            subscription.is_some_and(|subscription| subscriptions.contains_key(subscription))
        });
        for (key, fields) in &mut tokens {
            let is_named_good = wanted.get(key).is_some_and(|fields| !is_revoked(fields));
            let Some(old) = is.get(key).filter(|old| is_revoked(old) && is_named_good) else {
                continue;
            };
            if self.before.has(Kind::Token, key) {
                old.clone_into(fields);
                self.note(Kind::Token, key, "was revoked by REST and stays so");
            }
        }
        tokens
    }

    /// A plan that the file drops stays while somebody is on it whom the file does not name.
    fn needed_plans(
        &mut self,
        subscriptions: &BTreeMap<String, Fields>,
        plans: &mut BTreeMap<String, Fields>,
    ) {
        for (subscription, fields) in subscriptions {
            let Some(key) = fields.get("plan").and_then(Json::as_str) else { continue };
            if let Some(is) = self.is.form.plans.get(key).filter(|_| !plans.contains_key(key)) {
                plans.insert(key.to_owned(), is.clone());
                let what = format!("stays, since subscription {subscription} is on it");
                self.note(Kind::Plan, key, &what);
            }
        }
    }
}

/// Lists of plans name no resource that goes. A resource that is all a plan has stays, since a list of nothing cannot be: such
/// resources, with their plans.
pub(super) fn keep_to_lists(
    is: &SiteForm,
    plans: &mut BTreeMap<String, Fields>,
    resources: &mut BTreeMap<String, Fields>,
) -> Vec<(String, String)> {
    let mut staying = Vec::new();
    for (key, fields) in plans.iter_mut() {
        let patterns: Vec<String> =
            words(fields.get("resources")).into_iter().map(str::to_owned).collect();
        let there: BTreeSet<&str> = resources.values().filter_map(pattern).collect();
        let kept: Vec<String> =
            patterns.iter().filter(|name| there.contains(name.as_str())).cloned().collect();
        if kept.len() == patterns.len() {
            continue;
        }
        if !kept.is_empty() {
            fields.insert("resources".to_owned(), kept.into());
            continue;
        }
        let named =
            |fields: &Fields| pattern(fields).is_some_and(|p| patterns.iter().any(|n| n == p));
        for (resource, is) in is.resources.iter().filter(|(_, is)| named(is)) {
            resources.insert(resource.clone(), is.clone());
            staying.push((resource.clone(), key.clone()));
        }
    }
    staying
}

fn pattern(fields: &Fields) -> Option<&str> {
    fields.get("pattern").and_then(Json::as_str)
}

fn is_revoked(fields: &Fields) -> bool {
    fields.get("revoked") == Some(&Json::Bool(true))
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
