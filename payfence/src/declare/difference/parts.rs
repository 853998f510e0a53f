//! Plans, customers, subscriptions and tokens: which are made, changed, ended, and when.
//!
//! In: those that are and those that are wanted. Out: lines, steps, and what cannot be.
//! Always holds: where a list of resources changes, what either policy lets in is let in until the site's resources are as wanted; a token
//! that is to be revoked is so before anything else is done, and one that is brought along revoked is refused from its first moment.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value as Json;

use super::super::form::{Fields, Kind, sorted, words};
use super::{Act, Found, Stage, changes, patch, shown};

/// What a token is brought along with that is revoked at once: refused until it is.
const LONG_AGO: &str = "1970-01-01T00:00:00Z";

impl Found<'_> {
    pub(super) fn plans(&mut self) {
        let (is, wanted) = (&self.is.form.plans, &self.wanted.form.plans);
        for (key, fields) in wanted {
            let between = self.between(key, is.get(key), fields);
            match is.get(key) {
                None => {
                    self.line('+', Kind::Plan, key, &shown(fields));
                    self.step(Stage::Wide, Kind::Plan, key, Act::Create(between.clone()));
                    self.narrow(Kind::Plan, key, &between, fields);
                }
                Some(old) => self.change_listed(Kind::Plan, key, (old, &between, fields)),
            }
        }
        for key in is.keys().filter(|key| !wanted.contains_key(*key)) {
            self.line('-', Kind::Plan, key, "archived");
            self.step(Stage::PlanEnd, Kind::Plan, key, Act::End);
        }
    }

    /// A plan that lets in what it did, what it will, and what the plans did that its new subscriptions come from.
    fn between(&self, key: &str, old: Option<&Fields>, new: &Fields) -> Fields {
        let plan = |fields: &Fields| fields.get("plan").cloned().unwrap_or_default();
        let is = &self.is.form;
        let moved = self.wanted.form.subscriptions.iter().filter(|(_, new)| plan(new) == key);
        let moved =
            moved.filter_map(|(name, _)| is.plans.get(plan(is.subscriptions.get(name)?).as_str()?));
        let from: Vec<&Fields> = moved.chain(old).collect();
        widened(new, &from)
    }

    /// Changes what has a list of resources: first everything but that what is let in now stays let in, then the rest.
    fn change_listed(
        &mut self,
        kind: Kind,
        key: &str,
        (old, between, new): (&Fields, &Fields, &Fields),
    ) {
        let whole = patch(old, new);
        if !whole.is_empty() {
            self.line('~', kind, key, &changes(old, &whole).join(", "));
        }
        let first = patch(old, between);
        if !first.is_empty() {
            self.step(Stage::Wide, kind, key, Act::Change(first));
        }
        self.narrow(kind, key, between, new);
    }

    fn narrow(&mut self, kind: Kind, key: &str, between: &Fields, new: &Fields) {
        let last = patch(between, new);
        if !last.is_empty() {
            self.step(Stage::Narrow, kind, key, Act::Change(last));
        }
    }

    pub(super) fn customers(&mut self, known: &mut BTreeSet<String>) {
        for fields in self.wanted.form.subscriptions.values() {
            let Some(reference) = fields.get("customer").and_then(Json::as_str) else { continue };
            if known.insert(reference.to_owned()) {
                self.line('+', Kind::Customer, reference, "");
                self.step(Stage::Customer, Kind::Customer, reference, Act::Create(Fields::new()));
            }
        }
    }

    pub(super) fn subscriptions(&mut self) {
        let (is, wanted) = (&self.is.form.subscriptions, &self.wanted.form.subscriptions);
        for (key, fields) in wanted {
            let Some(old) = is.get(key) else {
                if self.is.archived_subscriptions.contains(key) {
                    let reason =
                        "it was archived and its use is kept under its name; use another id";
                    self.fault(Kind::Subscription, key, reason);
                }
                self.line('+', Kind::Subscription, key, &shown(fields));
                let act = Act::Create(fields.clone());
                self.step(Stage::Subscription, Kind::Subscription, key, act);
                continue;
            };
            if old.get("customer") != fields.get("customer") {
                let reason =
                    "its customer stays as it is, since use is counted under it; use another id";
                self.fault(Kind::Subscription, key, reason);
            }
            let patch = patch(old, fields);
            if !patch.is_empty() {
                self.line('~', Kind::Subscription, key, &changes(old, &patch).join(", "));
                let act = Act::Change(patch);
                self.step(Stage::Subscription, Kind::Subscription, key, act);
            }
        }
        for key in is.keys().filter(|key| !wanted.contains_key(*key)) {
            self.line('-', Kind::Subscription, key, "archived");
            self.step(Stage::SubscriptionEnd, Kind::Subscription, key, Act::End);
        }
    }

    pub(super) fn tokens(&mut self) {
        let (is, wanted) = (&self.is.form.tokens, &self.wanted.form.tokens);
        let by_hash: HashMap<&Json, &String> =
            is.iter().filter_map(|(key, old)| Some((old.get("sha256")?, key))).collect();
        for (key, fields) in wanted {
            let Some(old) = is.get(key) else {
                let twin = fields.get("sha256").and_then(|hash| by_hash.get(hash));
                self.create_token(key, fields, twin.map(|key| key.as_str()));
                continue;
            };
            if old.get("sha256") != fields.get("sha256") {
                let reason = "it is another key than the control plane has under this name, which stays taken; use another id";
                self.fault(Kind::Token, key, reason);
            } else if old.get("subscription") != fields.get("subscription") {
                let reason = "it stays with its subscription; issue a new one there";
                self.fault(Kind::Token, key, reason);
            } else if !is_revoked(old) {
                self.change_token(key, old, fields);
            } else if !is_revoked(fields) {
                let reason = "it is revoked and stays so; say `revoked = true`, or take it out";
                self.fault(Kind::Token, key, reason);
            }
        }
        let gone = is.iter().filter(|(key, old)| !wanted.contains_key(*key) && !is_revoked(old));
        for (key, _) in gone {
            self.line('-', Kind::Token, key, "revoked");
            self.step(Stage::Revoke, Kind::Token, key, Act::End);
        }
    }

    fn create_token(&mut self, key: &str, fields: &Fields, twin: Option<&str>) {
        if let Some(twin) = twin {
            let reason = format!(
                "the control plane has this key under the name {twin}, which stays; use that id"
            );
            self.fault(Kind::Token, key, &reason);
        }
        if self.is.archived_tokens.contains(key) {
            let reason = "a token of an archived subscription has this name, which stays taken; use another id";
            self.fault(Kind::Token, key, reason);
        }
        self.line('+', Kind::Token, key, &shown(fields));
        let mut made = fields.clone();
        made.remove("revoked");
        if is_revoked(fields) {
            made.insert("expires_at".to_owned(), LONG_AGO.into());
        }
        self.step(Stage::Token, Kind::Token, key, Act::Create(made));
        if is_revoked(fields) {
            self.step(Stage::Token, Kind::Token, key, Act::End);
        }
    }

    /// Of one that is revoked nothing else counts.
    fn change_token(&mut self, key: &str, old: &Fields, fields: &Fields) {
        if is_revoked(fields) {
            self.line('~', Kind::Token, key, "revoked");
            self.step(Stage::Revoke, Kind::Token, key, Act::End);
        } else {
            let between = widened(fields, &[old]);
            self.change_listed(Kind::Token, key, (old, &between, fields));
        }
    }
}

/// The new fields with what all of them let in: no list where one has none.
fn widened(new: &Fields, from: &[&Fields]) -> Fields {
    let mut widened = new.clone();
    let mut lists = from.iter().copied().chain([new]).map(|fields| fields.get("resources"));
    if lists.clone().all(|list| list.is_some()) {
        let all = sorted(lists.by_ref().flat_map(words));
        widened.insert("resources".to_owned(), all.into());
    } else {
        widened.remove("resources");
    }
    widened
}

fn is_revoked(fields: &Fields) -> bool {
    fields.get("revoked").is_some_and(|revoked| *revoked == Json::Bool(true))
}
