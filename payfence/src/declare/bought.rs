//! Subscriptions that were bought: what a file leaves as it is.
//!
//! In: what a control plane has, what is wanted of it. Out: what is wanted without taking away what is paid for; what a reader should know.
//! Always holds: a subscription that Stripe charges for stays, with its tokens and its plan, whether or not a file names it; its plan,
//! status and periods are those that Stripe says, whatever a file does. What is over goes as any other.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::form::{Fields, Kind, SiteForm};
use super::keep::keep_to_lists;
use super::state::{Current, CurrentSite, WantedSite};

/// What Stripe says of a subscription.
const OF_STRIPE: &[&str] = &["plan", "status", "past_due_since", "period_anchor"];
/// Where Stripe charges no more.
const OVER: &[&str] = &["canceled", "incomplete_expired"];

/// What is wanted, with what was bought; sentences on what is other than the file says.
#[must_use]
pub fn keep(current: &Current, mut wanted: Vec<WantedSite>) -> (Vec<WantedSite>, Vec<String>) {
    let mut notes = Vec::new();
    for site in &mut wanted {
        if let Some(is) = current.sites.get(&site.form.slug).filter(|is| !is.bought.is_empty()) {
            Keeping { is, form: &mut site.form, notes: &mut notes }.all();
        }
    }
    (wanted, notes)
}

/// Whether Stripe charges for a subscription of a site.
#[must_use]
pub fn is_charged(is: &CurrentSite, key: &str) -> bool {
    let status = is.form.subscriptions.get(key).and_then(|fields| fields.get("status"));
    is.bought.contains(key)
        && status.and_then(Json::as_str).is_some_and(|status| !OVER.contains(&status))
}

/// One site.
struct Keeping<'a> {
    is: &'a CurrentSite,
    form: &'a mut SiteForm,
    notes: &'a mut Vec<String>,
}

impl Keeping<'_> {
    fn all(&mut self) {
        let is = self.is;
        let mut unnamed = 0;
        for key in &is.bought {
            let Some(fields) = is.form.subscriptions.get(key) else { continue };
            match self.form.subscriptions.get_mut(key) {
                Some(wanted) => {
                    let differing = overwrite(wanted, fields);
                    if !differing.is_empty() {
                        let what =
                            format!("was bought, so Stripe says its {}", differing.join(", "));
                        self.note(Kind::Subscription, key, &what);
                    }
                }
                None if is_charged(is, key) => {
                    self.form.subscriptions.insert(key.clone(), fields.clone());
                    unnamed += 1;
                }
                None => continue,
            }
        }
        // They are many, and have been named by nobody.
        if unnamed > 0 {
            let slug = &self.form.slug;
            self.notes.push(format!(
                "{slug} subscriptions: {unnamed} that were bought stay, with their tokens, though the file has not got them; cancel one to end it"
            ));
        }
        self.tokens();
        self.plans();
    }

    fn note(&mut self, kind: Kind, key: &str, what: &str) {
        self.notes.push(format!("{} {kind} {key}: {what}", self.form.slug));
    }

    /// The buyers' keys, which no file knows. Those that it names are as it says.
    fn tokens(&mut self) {
        for (key, fields) in &self.is.form.tokens {
            let of = fields.get("subscription").and_then(Json::as_str).unwrap_or_default();
            if self.is.bought.contains(of) && self.form.subscriptions.contains_key(of) {
                self.form.tokens.entry(key.clone()).or_insert_with(|| fields.clone());
            }
        }
    }

    /// The plans that they are on.
    fn plans(&mut self) {
        let is = self.is;
        let mut stay: BTreeMap<String, Fields> = BTreeMap::new();
        for key in &is.bought {
            let wanted = self.form.subscriptions.get(key);
            let plan = wanted.and_then(|fields| fields.get("plan")?.as_str()).unwrap_or_default();
            let Some((plan, fields)) = is.form.plans.get_key_value(plan) else { continue };
            if self.form.plans.contains_key(plan) || stay.contains_key(plan) {
                continue;
            }
            self.note(
                Kind::Plan,
                plan,
                &format!("stays, since subscription {key}, which was bought, is on it"),
            );
            stay.insert(plan.clone(), fields.clone());
        }
        for (resource, plan) in keep_to_lists(&is.form, &mut stay, &mut self.form.resources) {
            self.note(
                Kind::Resource,
                &resource,
                &format!("stays, since it is all that plan {plan} includes"),
            );
        }
        self.form.plans.extend(stay);
    }
}

/// Makes fields what Stripe says; answers which were otherwise.
fn overwrite(wanted: &mut Fields, is: &Fields) -> Vec<&'static str> {
    let differs = |name: &&str| wanted.get(*name) != is.get(*name);
    let differing: Vec<&'static str> = OF_STRIPE.iter().copied().filter(differs).collect();
    for name in &differing {
        match is.get(*name) {
            Some(value) => drop(wanted.insert((*name).to_owned(), value.clone())),
            None => drop(wanted.remove(*name)),
        }
    }
    differing
}

#[cfg(test)]
#[path = "bought_tests.rs"]
mod tests;
