//! What is compared: what a file wants, and what a control plane has.
//!
//! In: a policy file's bytes; rows as REST shows them. Out: [`Wanted`], [`Current`].
//! Always holds: the rows go through the policy file's own reader, as they do on their way to nodes; what is archived is in no form, but
//! its names are known to be taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use controlplane::domain::policy_text::{Part, SiteText, check};
use policy::model::{self, file};
use serde_json::{Value as Json, json};

use super::form::{Fields, Kind, SiteForm, resource_key, resource_of, sorted, words};
use super::named::Named;
use super::rest::{Rest, RestError};

/// A site of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedSite {
    /// All but its headers.
    pub form: SiteForm,
    /// Headers for its origin; `None` where the file says nothing of them.
    pub headers: Option<BTreeMap<String, String>>,
    /// What the file names of it.
    pub named: Named,
}

/// A row's id and version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// In paths.
    pub id: String,
    /// For `If-Match`.
    pub version: i64,
}

/// Where a row is found: the slug (empty for customers), what it is, its name.
pub type Place = (String, Kind, String);

/// Rows by place.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    rows: HashMap<Place, Held>,
    /// Names of subscriptions by id.
    subscriptions: HashMap<String, Place>,
}

impl Ids {
    /// A row as REST shows it.
    pub fn hold(&mut self, slug: &str, kind: Kind, key: &str, row: &Fields) {
        let version = row.get("version").and_then(Json::as_i64).unwrap_or_default();
        let held = Held { id: text(row, "id"), version };
        let place = (slug.to_owned(), kind, key.to_owned());
        if kind == Kind::Subscription {
            self.subscriptions.insert(held.id.clone(), place.clone());
        }
        self.rows.insert(place, held);
    }

    /// A row.
    #[must_use]
    pub fn find(&self, slug: &str, kind: Kind, key: &str) -> Option<&Held> {
        self.rows.get(&(slug.to_owned(), kind, key.to_owned()))
    }

    /// A change of a token wrote its subscription's row, too.
    pub fn touched(&mut self, subscription_id: &str) {
        let place = self.subscriptions.get(subscription_id);
        if let Some(held) = place.and_then(|place| self.rows.get_mut(place)) {
            held.version += 1;
        }
    }
}

/// A site of the control plane.
#[derive(Clone, Debug, Default)]
pub struct CurrentSite {
    /// All but its headers.
    pub form: SiteForm,
    /// The names of the headers for its origin, whose values nobody is shown.
    pub header_names: Vec<String>,
    /// Subscriptions that are archived, whose names stay taken.
    pub archived_subscriptions: BTreeSet<String>,
    /// Subscriptions that were bought through Stripe.
    pub bought: BTreeSet<String>,
    /// Tokens of archived subscriptions, whose names and hashes stay taken.
    pub archived_tokens: BTreeSet<String>,
}

/// What a control plane has.
#[derive(Clone, Debug, Default)]
pub struct Current {
    /// By slug: those that were asked for.
    pub sites: BTreeMap<String, CurrentSite>,
    /// Slugs of sites that were not asked for.
    pub others: Vec<String>,
    /// References of customers.
    pub customers: BTreeSet<String>,
    /// Where everything is.
    pub ids: Ids,
}

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The control plane did not say.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// What it says cannot be a policy.
    #[error("site {slug}: what the control plane has cannot be read as a policy: {reason}")]
    Unreadable {
        /// Which.
        slug: String,
        /// What is wrong.
        reason: String,
    },
}

/// What a policy file wants.
///
/// # Errors
/// Text for a person: all that is wrong with the file, or what of it no control plane keeps.
pub fn wanted(name: &str, bytes: &[u8]) -> Result<Vec<WantedSite>, String> {
    let parsed = file::parse(name, bytes).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let table: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let tables = table.get("sites").and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut sites = Vec::with_capacity(parsed.policy.sites.len());
    for (site, table) in parsed.policy.sites.iter().zip(tables) {
        if site.origin_tls.ca.is_some() || site.origin_tls.client.is_some() {
            return Err(format!(
                "{name}: site {}: `origin_ca`, `origin_client_cert` and `origin_client_key` name files of a node's machine, which no \
                 control plane keeps; take them out",
                site.slug
            ));
        }
        let headers = table.get("origin_headers").map(|_| headers_of(site));
        let named = table.as_table().map(|table| Named::of(site, table)).unwrap_or_default();
        sites.push(WantedSite { form: SiteForm::of(site), headers, named });
    }
    Ok(sites)
}

fn headers_of(site: &model::Site) -> BTreeMap<String, String> {
    site.origin_headers.iter().cloned().collect()
}

/// What the control plane has of the sites with these slugs; of every site where there are none.
///
/// # Errors
/// [`StateError`].
pub async fn current(rest: &Rest, slugs: Option<&BTreeSet<String>>) -> Result<Current, StateError> {
    let mut current = Current::default();
    let mut customers = HashMap::new();
    for row in rest.list("/v1/customers", &[]).await? {
        let reference = text(&row, "reference");
        customers.insert(text(&row, "id"), reference.clone());
        current.ids.hold("", Kind::Customer, &reference, &row);
        current.customers.insert(reference);
    }
    for row in rest.list("/v1/sites", &[]).await? {
        let slug = text(&row, "slug");
        if slugs.is_some_and(|slugs| !slugs.contains(&slug)) {
            current.others.push(slug);
            continue;
        }
        let rows = SiteRows::read(rest, row).await?;
        let site = rows.assemble(&slug, &customers, &mut current)?;
        current.sites.insert(slug, site);
    }
    current.others.sort();
    Ok(current)
}

/// A site's rows as REST shows them.
#[derive(Debug, Default)]
pub(super) struct SiteRows {
    pub(super) site: Fields,
    pub(super) resources: Vec<Fields>,
    pub(super) plans: Vec<Fields>,
    pub(super) subscriptions: Vec<Fields>,
    /// Those of them that were bought.
    pub(super) bought: Vec<Fields>,
    pub(super) tokens: Vec<Fields>,
}

impl SiteRows {
    async fn read(rest: &Rest, site: Fields) -> Result<Self, RestError> {
        let id = text(&site, "id");
        let within = format!("/v1/sites/{id}");
        let of_site = ("site_id", id.as_str());
        let mut rows = Self {
            resources: rest.list(&format!("{within}/resources"), &[]).await?,
            plans: rest.list(&format!("{within}/plans"), &[("archived", "true")]).await?,
            subscriptions: rest.list("/v1/subscriptions", &[of_site, ("archived", "true")]).await?,
            bought: rest.list("/v1/subscriptions", &[of_site, ("bought", "true")]).await?,
            tokens: rest.list("/v1/tokens", &[of_site, ("revoked", "true")]).await?,
            site,
        };
        rows.leave_out_archived_plans();
        Ok(rows)
    }

    /// Leaves archived plans to those who are on one all the same, as they had bought it. Such a plan goes by its id, since another may have its
    /// name, and includes of the site's resources what is left.
    fn leave_out_archived_plans(&mut self) {
        let live = self.subscriptions.iter().filter(|row| !is_set(row, "archived_at"));
        let served: BTreeSet<String> = live.map(|row| text(row, "plan_id")).collect();
        self.plans.retain(|row| !is_set(row, "archived_at") || served.contains(&text(row, "id")));
        let patterns: Vec<&Json> =
            self.resources.iter().filter_map(|row| row.get("pattern")).collect();
        for row in self.plans.iter_mut().filter(|row| is_set(row, "archived_at")) {
            row.insert("reference".to_owned(), text(row, "id").into());
            if let Some(named) = row.get_mut("resources").and_then(Json::as_array_mut) {
                named.retain(|name| patterns.contains(&name));
            }
        }
    }

    /// The site's form; where its rows are goes into `current`.
    pub(super) fn assemble(
        &self,
        slug: &str,
        customers: &HashMap<String, String>,
        current: &mut Current,
    ) -> Result<CurrentSite, StateError> {
        let unreadable = |reason: String| StateError::Unreadable { slug: slug.to_owned(), reason };
        current.ids.hold(slug, Kind::Site, slug, &self.site);
        let mut site = CurrentSite::default();
        site.header_names =
            words(self.site.get("origin_header_names")).into_iter().map(str::to_owned).collect();
        site.bought = self.bought.iter().map(|row| text(row, "reference")).collect();
        let plans: HashMap<String, String> =
            self.plans.iter().map(|row| (text(row, "id"), text(row, "reference"))).collect();
        let (subscriptions, narrowed) = self.subscriptions(&plans, customers, &mut site)?;
        let plan_parts: Vec<Part> = self.plans.iter().map(plan_part).collect();
        let resource_parts: Vec<Part> = self.resources.iter().map(resource_part).collect();
        let keys = only(&self.site, SITE_KEYS);
        let parts = SiteText {
            site: &keys,
            resources: &resource_parts,
            plans: &plan_parts,
            subscriptions: &subscriptions,
        };
        let model = check(&parts, "sites").map_err(|faults| {
            unreadable(
                faults.first().map_or_else(String::new, |f| format!("{}: {}", f.field, f.message)),
            )
        })?;
        site.form = SiteForm::of(&model);
        // A pattern that is gone from the site lets nothing in; nodes leave it out, too.
        let known: BTreeSet<&str> = model.resources.iter().map(|r| r.pattern.as_str()).collect();
        for (token, patterns) in narrowed {
            let there = patterns.into_iter().filter(|pattern| known.contains(pattern.as_str()));
            if let Some(fields) = site.form.tokens.get_mut(&token) {
                fields.insert("resources".to_owned(), sorted(there).into());
            }
        }
        self.hold_parts(slug, &model, current);
        Ok(site)
    }

    fn hold_parts(&self, slug: &str, model: &model::Site, current: &mut Current) {
        // The model keeps the order of the rows.
        for (row, resource) in self.resources.iter().zip(&model.resources) {
            current.ids.hold(slug, Kind::Resource, &resource_key(&resource_of(resource)), row);
        }
        for row in &self.plans {
            current.ids.hold(slug, Kind::Plan, &text(row, "reference"), row);
        }
        for row in self.subscriptions.iter().filter(|row| !is_set(row, "archived_at")) {
            current.ids.hold(slug, Kind::Subscription, &text(row, "reference"), row);
        }
        for row in &self.tokens {
            current.ids.hold(slug, Kind::Token, &text(row, "reference"), row);
        }
    }

    /// Subscriptions with their tokens, and the patterns of tokens that have a list: a pattern of it may be gone from the site.
    #[expect(clippy::type_complexity, reason = "two lists of pairs")]
    fn subscriptions(
        &self,
        plans: &HashMap<String, String>,
        customers: &HashMap<String, String>,
        site: &mut CurrentSite,
    ) -> Result<(Vec<Part>, Vec<(String, Vec<String>)>), StateError> {
        let mut tokens: HashMap<String, Vec<Json>> = HashMap::new();
        let mut narrowed = Vec::new();
        for row in &self.tokens {
            let reference = text(row, "reference");
            let mut keys = only(row, TOKEN_KEYS);
            if keys.get("sha256").is_none_or(Json::is_null) {
                return Err(RestError::NoHashes.into());
            }
            if is_set(row, "resources") {
                let patterns = words(row.get("resources")).into_iter().map(str::to_owned);
                narrowed.push((reference.clone(), patterns.collect()));
            }
            keys.insert("id".to_owned(), reference.into());
            keys.insert("revoked".to_owned(), is_set(row, "revoked_at").into());
            tokens.entry(text(row, "subscription_id")).or_default().push(keys.into());
        }
        let mut parts = Vec::new();
        for row in &self.subscriptions {
            let (id, reference) = (text(row, "id"), text(row, "reference"));
            let tokens = tokens.remove(&id).unwrap_or_default();
            if is_set(row, "archived_at") {
                let names = tokens.iter().filter_map(|token| token.get("id")?.as_str());
                site.archived_tokens.extend(names.map(str::to_owned));
                site.archived_subscriptions.insert(reference);
                continue;
            }
            let mut keys = only(row, SUBSCRIPTION_KEYS);
            let customer = customers.get(&text(row, "customer_id")).cloned();
            let customer = customer.unwrap_or_else(|| text(row, "customer_id"));
            let plan = plans.get(&text(row, "plan_id")).cloned();
            keys.insert("id".to_owned(), reference.into());
            keys.insert("plan".to_owned(), plan.unwrap_or_else(|| text(row, "plan_id")).into());
            keys.insert("customer".to_owned(), customer.into());
            keys.insert("tokens".to_owned(), json!(tokens));
            parts.push((id, keys));
        }
        Ok((parts, narrowed))
    }
}

const SITE_KEYS: &[&str] = &[
    "slug",
    "name",
    "origin",
    "origin_pins",
    "hosts",
    "hsts",
    "upgrade_url",
    "default",
    "case_sensitive",
    "forward_token",
    "foreign_tokens",
    "token_header",
    "token_query",
    "preserve_host",
    "allow_override_headers",
    "cors_origins",
    "connect_timeout_ms",
    "response_timeout_ms",
    "on_ledger_loss",
];
const RESOURCE_KEYS: &[&str] = &["pattern", "methods", "access", "cost"];
const PLAN_KEYS: &[&str] =
    &["quota", "rate_limit", "concurrency", "overage", "overage_cap", "grace_days", "resources"];
const SUBSCRIPTION_KEYS: &[&str] = &["status", "past_due_since", "period_anchor"];
const TOKEN_KEYS: &[&str] = &["sha256", "expires_at", "allow_from"];

fn only(row: &Fields, keys: &[&str]) -> Fields {
    let known = row.iter().filter(|(key, value)| keys.contains(&key.as_str()) && !value.is_null());
    known.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn resource_part(row: &Fields) -> Part {
    (text(row, "id"), only(row, RESOURCE_KEYS))
}

fn plan_part(row: &Fields) -> Part {
    let mut keys = only(row, PLAN_KEYS);
    keys.insert("id".to_owned(), text(row, "reference").into());
    (text(row, "id"), keys)
}

fn text(row: &Fields, field: &str) -> String {
    row.get(field).and_then(Json::as_str).unwrap_or_default().to_owned()
}

fn is_set(row: &Fields, field: &str) -> bool {
    row.get(field).is_some_and(|value| !value.is_null())
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;
