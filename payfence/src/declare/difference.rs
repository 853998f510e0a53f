//! What lies between what a control plane has and what a file wants.
//!
//! In: [`Current`], sites of the file. Out: lines for people and steps in order, or why it cannot be.
//! Always holds: every step may be refused or cut off and nothing is given away by it, nor is a request refused that the old and the new
//! policy both admit (the stages of [`Stage`]); what is not in the file is archived or revoked, in the sites of the file and nowhere else;
//! customers stay. No line holds a header's value or a token's hash.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::form::{Fields, Kind, words};
use super::state::{Current, CurrentSite, WantedSite};

mod parts;
mod resources;

/// One request to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The site's slug; of a customer, the site's that needs it.
    pub slug: String,
    /// What it is about.
    pub kind: Kind,
    /// Its name: the key of [`super::state::Ids`].
    pub key: String,
    /// What is done.
    pub act: Act,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Makes it, with these fields.
    Create(Fields),
    /// Changes it by a merge patch (RFC 7396).
    Change(Fields),
    /// Archives it, or revokes it.
    End,
}

/// When a step is taken, within its site. What takes nothing from anybody but those it should comes first; then everything that the new
/// policy needs; then what only the old policy needed goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Tokens are revoked.
    Revoke,
    /// The site is made.
    SiteNew,
    /// Resources are made that lists name before they are in service.
    ResourceNew,
    /// Plans are made, and plans and tokens let in what either policy does.
    Wide,
    Customer,
    Subscription,
    Token,
    /// Resources come into service, or are changed.
    ResourceCome,
    Site,
    /// Resources go, or, while plans name them, out of service.
    ResourceGo,
    /// Plans and tokens let in what the new policy does, and no more.
    Narrow,
    ResourceEnd,
    SubscriptionEnd,
    PlanEnd,
}

/// What there is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// One for each change: `+`, `~` or `-`, and what.
    pub lines: Vec<String>,
    /// In the order in which they are taken.
    pub steps: Vec<Step>,
}

/// Finds it. With `sets_headers` the values of headers for origins are sent even where their names are the same.
///
/// # Errors
/// Everything that a control plane cannot be brought to, a sentence each.
pub fn between(
    current: &Current,
    wanted: &[WantedSite],
    sets_headers: bool,
) -> Result<Difference, Vec<String>> {
    let mut difference = Difference::default();
    let mut faults = Vec::new();
    let mut customers = current.customers.clone();
    let none = CurrentSite::default();
    for site in in_order(current, wanted) {
        let is = current.sites.get(&site.form.slug);
        let mut found = Found {
            is: is.unwrap_or(&none),
            is_new: is.is_none(),
            wanted: site,
            lines: Vec::new(),
            steps: Vec::new(),
            faults: &mut faults,
        };
        found.settings(sets_headers);
        found.resources();
        found.plans();
        found.customers(&mut customers);
        found.subscriptions();
        found.tokens();
        let Found { lines, mut steps, .. } = found;
        steps.sort_by_key(|(stage, _)| *stage);
        difference.lines.extend(lines);
        difference.steps.extend(steps.into_iter().map(|(_, step)| step));
    }
    if faults.is_empty() { Ok(difference) } else { Err(faults) }
}

/// As in the file, but sites first that give a host away: another of the file may want it.
fn in_order<'a>(current: &Current, wanted: &'a [WantedSite]) -> Vec<&'a WantedSite> {
    let gives_away = |site: &&WantedSite| {
        let is = current.sites.get(&site.form.slug);
        let had = words(is.and_then(|is| is.form.settings.get("hosts")));
        let has = words(site.form.settings.get("hosts"));
        had.iter().any(|host| !has.contains(host))
    };
    let mut sites: Vec<&WantedSite> = wanted.iter().collect();
    sites.sort_by_key(|site| !gives_away(site));
    sites
}

/// What was found of one site.
struct Found<'a> {
    is: &'a CurrentSite,
    is_new: bool,
    wanted: &'a WantedSite,
    lines: Vec<String>,
    steps: Vec<(Stage, Step)>,
    faults: &'a mut Vec<String>,
}

impl Found<'_> {
    fn line(&mut self, sign: char, kind: Kind, key: &str, what: &str) {
        let slug = &self.wanted.form.slug;
        let name = if kind == Kind::Site { String::new() } else { format!(" {key}") };
        let what = if what.is_empty() { String::new() } else { format!(": {what}") };
        self.lines.push(format!("{sign} {slug} {kind}{name}{what}"));
    }

    fn step(&mut self, stage: Stage, kind: Kind, key: &str, act: Act) {
        let step = self.made(kind, key, act);
        self.steps.push((stage, step));
    }

    fn made(&self, kind: Kind, key: &str, act: Act) -> Step {
        Step { slug: self.wanted.form.slug.clone(), kind, key: key.to_owned(), act }
    }

    fn fault(&mut self, kind: Kind, key: &str, reason: &str) {
        self.faults.push(format!("site {}: {kind} {key}: {reason}", self.wanted.form.slug));
    }

    fn settings(&mut self, sets_headers: bool) {
        let (slug, wanted) = (self.wanted.form.slug.clone(), &self.wanted.form.settings);
        if self.is_new {
            let mut fields = wanted.clone();
            let headers = self.wanted.headers.clone().unwrap_or_default();
            let mut shown = shown(&fields);
            if !headers.is_empty() {
                let names: Vec<&str> = headers.keys().map(String::as_str).collect();
                shown.push_str(&format!(", origin_headers for {}", names.join(", ")));
                fields.insert("origin_headers".to_owned(), headers.into_iter().collect());
            }
            fields.insert("slug".to_owned(), slug.as_str().into());
            self.line('+', Kind::Site, &slug, &shown);
            self.step(Stage::SiteNew, Kind::Site, &slug, Act::Create(fields));
            return;
        }
        let mut patch = patch(&self.is.form.settings, wanted);
        let mut words: Vec<String> = changes(&self.is.form.settings, &patch);
        if let Some((headers, what)) = self.headers(sets_headers) {
            words.push(what);
            patch.insert("origin_headers".to_owned(), headers);
        }
        if !patch.is_empty() {
            self.line('~', Kind::Site, &slug, &words.join(", "));
            self.step(Stage::Site, Kind::Site, &slug, Act::Change(patch));
        }
    }

    /// The patch of the headers, and how it is told of. Values are not known, so names alone say whether there is a difference.
    fn headers(&self, sets_headers: bool) -> Option<(Json, String)> {
        let wanted = self.wanted.headers.as_ref()?;
        let lower = |name: &String| name.to_ascii_lowercase();
        let had: BTreeSet<String> = self.is.header_names.iter().map(lower).collect();
        let has: BTreeSet<String> = wanted.keys().map(lower).collect();
        if had == has && (!sets_headers || has.is_empty()) {
            return None;
        }
        let mut patch: Fields =
            wanted.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        for name in self.is.header_names.iter().filter(|name| !wanted.contains_key(*name)) {
            patch.insert(name.clone(), Json::Null);
        }
        let listed = |names: &mut dyn Iterator<Item = &String>| {
            let names: Vec<&str> = names.map(String::as_str).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(" ") }
        };
        let names = listed(&mut wanted.keys());
        let what = if had == has {
            format!("origin_headers: values of {names} set anew")
        } else {
            format!("origin_headers: {} -> {names}", listed(&mut self.is.header_names.iter()))
        };
        Some((if wanted.is_empty() { Json::Null } else { patch.into() }, what))
    }
}

/// What makes one of the other: a merge patch. Tables have all their fields in both, so nothing of a table stays behind.
fn patch(is: &Fields, wanted: &Fields) -> Fields {
    let mut patch = Fields::new();
    for (name, value) in wanted {
        if is.get(name) != Some(value) {
            patch.insert(name.clone(), value.clone());
        }
    }
    for name in is.keys().filter(|name| !wanted.contains_key(*name)) {
        patch.insert(name.clone(), Json::Null);
    }
    patch
}

/// Each change of a patch, for people.
fn changes(is: &Fields, patch: &Fields) -> Vec<String> {
    let value = |value: Option<&Json>| match value {
        None | Some(Json::Null) => "default".to_owned(),
        Some(value) => value.to_string(),
    };
    let change = |(name, new): (&String, &Json)| {
        format!("{name}: {} -> {}", value(is.get(name)), value(Some(new)))
    };
    patch.iter().map(change).collect()
}

/// Fields for people, without what tokens are known by.
fn shown(fields: &Fields) -> String {
    let shown = fields.iter().filter(|(name, _)| *name != "sha256");
    shown.map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "difference_tests.rs"]
pub mod tests;

#[cfg(test)]
#[path = "difference_walk_tests.rs"]
mod walk_tests;
