//! What a policy file names: its parts, and of each the keys that are written there.
//!
//! In: a site of the file and its table. Out: names and keys, which can be kept for later.
//! Always holds: a key counts as written though it says the default; no value is kept.

use std::collections::{BTreeMap, BTreeSet};

use policy::model;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::form::{Kind, resource_key, resource_of};

/// Keys by the name of the part, by the word for its kind. The site itself is the part named by its slug.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Named {
    /// What `table` names, of which `site` was read.
    #[must_use]
    pub fn of(site: &model::Site, table: &Table) -> Self {
        let mut named = Self::default();
        named.put(Kind::Site, &site.slug, table);
        let resources = site.resources.iter().map(|resource| resource_key(&resource_of(resource)));
        for (key, table) in resources.zip(tables(table, "resources")) {
            named.put(Kind::Resource, &key, table);
        }
        for (plan, table) in site.plans.iter().zip(tables(table, "plans")) {
            named.put(Kind::Plan, &plan.id, table);
        }
        for (subscription, table) in site.subscriptions.iter().zip(tables(table, "subscriptions")) {
            named.put(Kind::Subscription, &subscription.id, table);
            for (token, table) in subscription.tokens.iter().zip(tables(table, "tokens")) {
                named.put(Kind::Token, &token.id, table);
            }
        }
        named
    }

    fn put(&mut self, kind: Kind, key: &str, table: &Table) {
        let keys = table.keys().cloned().collect();
        self.0.entry(kind.to_string()).or_default().insert(key.to_owned(), keys);
    }

    /// The keys that are written of a part; none where the part is not named.
    #[must_use]
    pub fn keys(&self, kind: Kind, key: &str) -> Option<&BTreeSet<String>> {
        self.0.get(&kind.to_string())?.get(key)
    }

    /// Whether a part is named.
    #[must_use]
    pub fn has(&self, kind: Kind, key: &str) -> bool {
        self.keys(kind, key).is_some()
    }

    /// Names what `other` names as well.
    pub fn join(&mut self, other: &Self) {
        for (kind, parts) in &other.0 {
            let known = self.0.entry(kind.clone()).or_default();
            for (key, keys) in parts {
                known.entry(key.clone()).or_default().extend(keys.iter().cloned());
            }
        }
    }
}

/// The tables of a list; what was read is in the same order.
fn tables<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t Table> {
    table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table)
}
