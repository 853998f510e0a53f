//! The one form in which policies are compared.
//!
//! In: a site of the policy's model. Out: its parts by name, each a map of fields in the words of the policy file and of REST.
//! Always holds: a field that has its default is left out, lists whose order says nothing are sorted, tables have all their fields; so two
//! sites that mean the same have the same form, and a merge patch with a form's fields leaves nothing behind of what was there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use policy::model::{self, ACCESS_WORDS, Hsts, OnLedgerLoss, Overage, Scheme, UNIT_WORDS, Unit};
use serde_json::{Map, Value as Json, json};

/// Fields by name.
pub type Fields = Map<String, Json>;

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A site's own settings.
    Site,
    /// A path pattern with its methods.
    Resource,
    /// A plan.
    Plan,
    /// Who pays; of the account, not of a site.
    Customer,
    /// A customer on a plan.
    Subscription,
    /// An API key.
    Token,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Site => "site",
            Self::Resource => "resource",
            Self::Plan => "plan",
            Self::Customer => "customer",
            Self::Subscription => "subscription",
            Self::Token => "token",
        })
    }
}

/// A site in the form that is compared. Parts by the names that they keep: [`resource_key`], ids of the policy file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteForm {
    /// Its slug.
    pub slug: String,
    /// Its own fields, but for its slug and the headers for its origin.
    pub settings: Fields,
    /// `pattern`, and `methods`, `access`, `cost`.
    pub resources: BTreeMap<String, Fields>,
    /// As in the policy file, without `id`.
    pub plans: BTreeMap<String, Fields>,
    /// As in the policy file, without `id` and `tokens`.
    pub subscriptions: BTreeMap<String, Fields>,
    /// As in the policy file, without `id`, with `subscription`.
    pub tokens: BTreeMap<String, Fields>,
}

/// What a resource is known by: its methods and its pattern.
#[must_use]
pub fn resource_key(fields: &Fields) -> String {
    let methods = words(fields.get("methods")).join(",");
    let pattern = fields.get("pattern").and_then(Json::as_str).unwrap_or_default();
    if methods.is_empty() { pattern.to_owned() } else { format!("{methods} {pattern}") }
}

/// The texts of a list.
#[must_use]
pub fn words(list: Option<&Json>) -> Vec<&str> {
    list.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect()
}

impl SiteForm {
    /// The form of a site; headers for its origin and files of TLS are not in it.
    #[must_use]
    pub fn of(site: &model::Site) -> Self {
        let mut form =
            Self { slug: site.slug.clone(), settings: settings_of(site), ..Self::default() };
        for resource in &site.resources {
            let fields = resource_of(resource);
            form.resources.insert(resource_key(&fields), fields);
        }
        for plan in &site.plans {
            form.plans.insert(plan.id.clone(), plan_of(plan, site));
        }
        for subscription in &site.subscriptions {
            form.subscriptions.insert(subscription.id.clone(), subscription_of(subscription, site));
            for token in &subscription.tokens {
                let fields = token_of(token, &subscription.id);
                form.tokens.insert(token.id.clone(), fields);
            }
        }
        form
    }
}

/// Puts a field where it is not its default.
fn put(fields: &mut Fields, name: &str, is_default: bool, value: impl Into<Json>) {
    if !is_default {
        fields.insert(name.to_owned(), value.into());
    }
}

fn settings_of(site: &model::Site) -> Fields {
    let mut fields = Fields::new();
    let scheme = if site.origin.scheme == Scheme::Https { "https" } else { "http" };
    let origin = format!("{scheme}://{}{}", site.origin.authority(), site.origin.path_prefix);
    put(&mut fields, "name", site.name == site.slug, site.name.as_str());
    put(&mut fields, "origin", false, origin);
    let pins = sorted(site.origin_tls.pins.iter().map(model::pin_text));
    put(&mut fields, "origin_pins", pins.is_empty(), pins);
    let hosts = sorted(site.hosts.iter().map(ToString::to_string));
    put(&mut fields, "hosts", hosts.is_empty(), hosts);
    if let Some(Hsts { max_age_s, include_subdomains, preload }) = site.hsts {
        let hsts = json!({ "max_age_seconds": max_age_s, "include_subdomains": include_subdomains, "preload": preload });
        put(&mut fields, "hsts", false, hsts);
    }
    put(&mut fields, "upgrade_url", site.upgrade_url.is_none(), site.upgrade_url.clone());
    put(&mut fields, "default", !site.default_paid, "paid");
    for (name, is_set) in [
        ("case_sensitive", site.case_sensitive),
        ("forward_token", site.forward_token),
        ("foreign_tokens", site.foreign_tokens),
        ("preserve_host", site.preserve_host),
        ("allow_override_headers", site.allow_override_headers),
    ] {
        put(&mut fields, name, !is_set, true);
    }
    let header = site.token_header.as_str();
    put(&mut fields, "token_header", header == model::TOKEN_HEADER_DEFAULT, header);
    put(&mut fields, "token_query", site.token_query.is_none(), site.token_query.clone());
    let cors = sorted(site.cors_origins.iter().cloned());
    put(&mut fields, "cors_origins", cors.is_empty(), cors);
    let (connect, response) = (site.connect_timeout_ms, site.response_timeout_ms);
    let is_default = connect == model::CONNECT_TIMEOUT_MS_DEFAULT;
    put(&mut fields, "connect_timeout_ms", is_default, connect);
    let is_default = response == model::RESPONSE_TIMEOUT_MS_DEFAULT;
    put(&mut fields, "response_timeout_ms", is_default, response);
    let is_closed = site.on_ledger_loss == OnLedgerLoss::Closed;
    put(&mut fields, "on_ledger_loss", is_closed, "open");
    fields
}

/// A resource's fields.
#[must_use]
pub fn resource_of(resource: &model::Resource) -> Fields {
    let mut fields = Fields::new();
    put(&mut fields, "pattern", false, resource.pattern.as_str());
    let names: Vec<&str> = resource.methods.names().collect();
    // GET covers HEAD, whether HEAD was written or not.
    let has_get = names.contains(&"GET");
    let names = sorted(names.iter().filter(|name| !(has_get && **name == "HEAD")).copied());
    put(&mut fields, "methods", names.is_empty(), names);
    let word = ACCESS_WORDS.iter().find(|(_, access)| *access == resource.access);
    let word = word.map_or("paid", |(word, _)| word);
    put(&mut fields, "access", word == "paid", word);
    put(&mut fields, "cost", resource.cost == 1, resource.cost);
    fields
}

fn plan_of(plan: &model::Plan, site: &model::Site) -> Fields {
    let mut fields = Fields::new();
    if let Some(quota) = plan.quota {
        let quota = json!({ "requests": quota.requests, "per": unit(quota.per) });
        put(&mut fields, "quota", false, quota);
    }
    if let Some(rate) = plan.rate_limit {
        let rate = json!({ "requests": rate.requests, "per": unit(rate.per), "burst": rate.burst });
        put(&mut fields, "rate_limit", false, rate);
    }
    put(&mut fields, "concurrency", plan.concurrency.is_none(), plan.concurrency);
    if let Overage::Allow { cap } = plan.overage {
        put(&mut fields, "overage", false, "allow");
        put(&mut fields, "overage_cap", cap.is_none(), cap);
    }
    let is_default = plan.grace_days == model::GRACE_DAYS_DEFAULT;
    put(&mut fields, "grace_days", is_default, plan.grace_days);
    if let Some(positions) = &plan.resources {
        let at = |position: &u32| site.resources.get(usize::try_from(*position).ok()?);
        let patterns = positions.iter().filter_map(at).map(|resource| resource.pattern.as_str());
        put(&mut fields, "resources", false, sorted(patterns));
    }
    fields
}

fn subscription_of(subscription: &model::Subscription, site: &model::Site) -> Fields {
    let mut fields = Fields::new();
    let plan = usize::try_from(subscription.plan).ok().and_then(|at| site.plans.get(at));
    put(&mut fields, "plan", false, plan.map_or("", |plan| plan.id.as_str()));
    put(&mut fields, "customer", false, subscription.customer.as_str());
    put(&mut fields, "status", false, subscription.status.as_str());
    for (name, at_s) in [
        ("past_due_since", subscription.past_due_since_s),
        ("period_anchor", subscription.period_anchor_s),
    ] {
        put(&mut fields, name, at_s.is_none(), at_s.map(instant));
    }
    fields
}

fn token_of(token: &model::Token, subscription: &str) -> Fields {
    let mut fields = Fields::new();
    put(&mut fields, "subscription", false, subscription);
    put(&mut fields, "sha256", false, token.hash.to_string());
    put(&mut fields, "expires_at", token.expires_at_s.is_none(), token.expires_at_s.map(instant));
    put(&mut fields, "revoked", !token.is_revoked, true);
    let networks = sorted(token.allow_from.iter().map(ToString::to_string));
    put(&mut fields, "allow_from", networks.is_empty(), networks);
    if let Some(patterns) = &token.resources {
        put(&mut fields, "resources", false, sorted(patterns.iter().map(String::as_str)));
    }
    fields
}

fn unit(unit: Unit) -> &'static str {
    UNIT_WORDS.iter().find(|(_, known)| *known == unit).map_or("", |(word, _)| word)
}

fn instant(at_s: i64) -> String {
    Timestamp::from_second(at_s).unwrap_or(Timestamp::MAX).to_string()
}

/// Each once, in order.
pub fn sorted<T: Into<String>>(texts: impl Iterator<Item = T>) -> Vec<String> {
    texts.map(Into::into).collect::<BTreeSet<String>>().into_iter().collect()
}
