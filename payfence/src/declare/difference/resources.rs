//! Resources: which are made, changed, archived, and when.
//!
//! In: the resources that are and that are wanted. Out: lines and steps.
//! Always holds: where lists of plans or tokens say what is let in, a new paid resource is in service only after they name it, and one that
//! goes is out of service before they stop naming it. Out of service is a resource that covers a method nobody sends: its pattern is there
//! to be named, and what it stood for is as the other resources say.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::super::form::{Fields, Kind, words};
use super::{Act, Found, Stage, changes, patch, shown};

/// The methods of resources that are not in service yet, and no more, begin so; each has its own, so that none contradicts another.
const NEXT: &str = "PAYFENCE-NEXT-";
const PAST: &str = "PAYFENCE-PAST-";

impl Found<'_> {
    pub(super) fn resources(&mut self) {
        let (is, wanted) = (&self.is.form.resources, &self.wanted.form.resources);
        for (key, fields) in wanted {
            if let Some(old) = is.get(key) {
                self.change_resource(key, old, fields);
            }
        }
        let mut old: Vec<(&String, &Fields)> =
            is.iter().filter(|(key, _)| !wanted.contains_key(*key)).collect();
        let named = self.named();
        for (key, fields) in wanted.iter().filter(|(key, _)| !is.contains_key(*key)) {
            let pattern = pattern_of(fields);
            let place = old.iter().position(|(_, old)| pattern_of(old) == pattern);
            let place =
                place.or_else(|| old.iter().position(|(_, old)| shape_of(old) == shape_of(fields)));
            let Some(place) = place else {
                self.create_resource(key, fields);
                continue;
            };
            let (old_key, old_fields) = old.remove(place);
            if pattern_of(old_fields) != pattern && named.contains(pattern_of(old_fields)) {
                let reason = "it matches the same paths as the one it replaces, which plans or tokens name by its old spelling; keep that \
                     spelling, or first apply a file in which nothing names it";
                self.fault(Kind::Resource, key, reason);
            }
            self.change_resource(old_key, old_fields, fields);
        }
        for (number, (key, fields)) in (1..).zip(old) {
            self.end_resource(key, fields, named.contains(pattern_of(fields)), number);
        }
    }

    /// The patterns that plans and tokens name now.
    fn named(&self) -> BTreeSet<String> {
        let form = &self.is.form;
        let parts = form.plans.values().chain(form.tokens.values());
        parts.flat_map(|part| words(part.get("resources"))).map(str::to_owned).collect()
    }

    fn create_resource(&mut self, key: &str, fields: &Fields) {
        self.line('+', Kind::Resource, key, &shown(fields));
        if is_free(fields) {
            let stage = if self.is_new { Stage::ResourceNew } else { Stage::ResourceFree };
            self.step(stage, Kind::Resource, key, Act::Create(fields.clone()));
            return;
        }
        let form = &self.is.form;
        let mut parts = form.plans.values().chain(form.tokens.values());
        if !parts.any(|part| part.contains_key("resources")) {
            self.step(Stage::ResourceNew, Kind::Resource, key, Act::Create(fields.clone()));
            return;
        }
        let number = self.steps.len();
        let mut idle = fields.clone();
        idle.insert("methods".to_owned(), json!([format!("{NEXT}{number}")]));
        self.step(Stage::ResourceNew, Kind::Resource, key, Act::Create(idle.clone()));
        self.step(Stage::ResourceStrict, Kind::Resource, key, Act::Change(patch(&idle, fields)));
    }

    /// The key is the old one's: it is what the row is found by.
    fn change_resource(&mut self, key: &str, old: &Fields, new: &Fields) {
        let patch = patch(old, new);
        if patch.is_empty() {
            return;
        }
        self.line('~', Kind::Resource, key, &changes(old, &patch).join(", "));
        let stage = if is_free(new) { Stage::ResourceFree } else { Stage::ResourceStrict };
        self.step(stage, Kind::Resource, key, Act::Change(patch));
    }

    fn end_resource(&mut self, key: &str, fields: &Fields, is_named: bool, number: usize) {
        self.line('-', Kind::Resource, key, "archived");
        let pattern = pattern_of(fields);
        let stays = self.wanted.form.resources.values().any(|other| pattern_of(other) == pattern);
        if !is_named || stays {
            self.step(Stage::ResourcePast, Kind::Resource, key, Act::End);
            return;
        }
        let idle = Fields::from_iter([("methods".into(), json!([format!("{PAST}{number}")]))]);
        self.step(Stage::ResourcePast, Kind::Resource, key, Act::Change(idle));
        self.step(Stage::ResourceEnd, Kind::Resource, key, Act::End);
    }
}

fn pattern_of(fields: &Fields) -> &str {
    fields.get("pattern").and_then(Json::as_str).unwrap_or_default()
}

fn is_free(fields: &Fields) -> bool {
    fields.get("access").is_some_and(|access| access == "free")
}

/// What two patterns have in common that match the same paths: names of segments say nothing.
fn shape_of(fields: &Fields) -> String {
    let segments: Vec<&str> = pattern_of(fields).split('/').collect();
    let last = segments.len().saturating_sub(1);
    let shape = segments.iter().enumerate().map(|(at, segment)| {
        let is_name = segment.starts_with('{') && segment.ends_with('}');
        if is_name || (*segment == "*" && at != last) { "{}" } else { *segment }
    });
    let shape: Vec<&str> = shape.collect();
    format!("{} {}", words(fields.get("methods")).join(","), shape.join("/"))
}
