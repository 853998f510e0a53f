//! A policy file of what a control plane has.
//!
//! In: forms of sites. Out: TOML.
//! Always holds: the policy file's reader takes it, and what it reads is the same form again; the same policy is the same text; values of
//! headers for origins are not in it, a comment names them.

use serde_json::Value as Json;
use toml::Value as Toml;

use super::form::{Fields, Kind, SiteForm, words};
use super::state::{Current, CurrentSite};

/// What was written, and what could not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The file.
    pub text: String,
    /// What a reader should know, a sentence each.
    pub notes: Vec<String>,
}

/// The file.
#[must_use]
pub fn export(current: &Current) -> Exported {
    let mut exported = Exported::default();
    for site in current.sites.values() {
        if !exported.text.is_empty() {
            exported.text.push('\n');
        }
        write_site(site, &mut exported);
    }
    exported
}

fn write_site(site: &CurrentSite, exported: &mut Exported) {
    let form = &site.form;
    let text = &mut exported.text;
    text.push_str("[[sites]]\n");
    pair("slug", &form.slug.as_str().into(), text);
    pairs(&form.settings, text);
    if !site.header_names.is_empty() {
        let names = site.header_names.join(", ");
        text.push_str(&format!(
            "# origin_headers are kept for {names}; their values are shown to nobody, and stay where this file says nothing of them.\n"
        ));
    }
    for fields in form.resources.values() {
        text.push_str("\n[[sites.resources]]\n");
        pair("pattern", fields.get("pattern").unwrap_or_default(), text);
        pairs(&without(fields, &["pattern"]), text);
    }
    for (id, fields) in &form.plans {
        text.push_str("\n[[sites.plans]]\n");
        pair("id", &id.as_str().into(), text);
        pairs(fields, text);
    }
    for (id, fields) in &form.subscriptions {
        text.push_str("\n[[sites.subscriptions]]\n");
        pair("id", &id.as_str().into(), text);
        pairs(fields, text);
        write_tokens(id, form, text, &mut exported.notes);
    }
}

fn write_tokens(subscription: &str, form: &SiteForm, text: &mut String, notes: &mut Vec<String>) {
    let of_it = |fields: &Fields| fields.get("subscription").is_some_and(|id| id == subscription);
    let mut tokens = form.tokens.iter().filter(|(_, fields)| of_it(fields)).peekable();
    if tokens.peek().is_none() {
        return;
    }
    text.push_str("tokens = [\n");
    for (id, fields) in tokens {
        let mut mark = "";
        // A list of nothing but patterns that are gone lets nothing in, which a policy file cannot say.
        if fields.contains_key("resources") && words(fields.get("resources")).is_empty() {
            mark = "# ";
            notes.push(format!(
                "site {}: {} {id} may use nothing, since the patterns it names are gone; it is commented out, and revoked if this file is \
                 applied",
                form.slug,
                Kind::Token
            ));
        }
        text.push_str(&format!("    {mark}{{ id = {}", toml_of("id", &id.as_str().into())));
        for (name, value) in without(fields, &["subscription"]) {
            text.push_str(&format!(", {name} = {}", toml_of(&name, &value)));
        }
        text.push_str(" },\n");
    }
    text.push_str("]\n");
}

fn without(fields: &Fields, names: &[&str]) -> Fields {
    let kept = fields.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn pairs(fields: &Fields, text: &mut String) {
    for (name, value) in fields {
        pair(name, value, text);
    }
}

fn pair(name: &str, value: &Json, text: &mut String) {
    text.push_str(&format!("{name} = {}\n", toml_of(name, value)));
}

/// The keys whose values are dates, which TOML writes without quotes.
const INSTANTS: &[&str] = &["past_due_since", "period_anchor", "expires_at"];

/// A value in TOML; `name` is the key it stands under. A form has no null, and no number that TOML has not.
fn toml_of(name: &str, value: &Json) -> Toml {
    match value {
        Json::Null => Toml::String(String::new()),
        Json::Bool(flag) => Toml::Boolean(*flag),
        Json::Number(number) => Toml::Integer(number.as_i64().unwrap_or(i64::MAX)),
        Json::String(text) if INSTANTS.contains(&name) => {
            text.parse().map_or_else(|_| Toml::String(text.clone()), Toml::Datetime)
        }
        Json::String(text) => Toml::String(text.clone()),
        Json::Array(items) => Toml::Array(items.iter().map(|item| toml_of("", item)).collect()),
        Json::Object(fields) => Toml::Table(
            fields.iter().map(|(name, value)| (name.clone(), toml_of(name, value))).collect(),
        ),
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
