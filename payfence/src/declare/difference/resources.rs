//! Resources: which are made, changed, archived, and in which order.
//!
//! In: the resources that are and that are wanted. Out: lines, steps, and what cannot be done in one go.
//! Always holds: at every moment what a request meets is what the old resources say of it or what the new ones say. So those that come do
//! so from the most specific to the least, all before any goes, and those that go do so from the least specific to the most: whatever
//! decides on a request then is the most specific of the old or of the new resources that match it.
//!
//! Lists of plans and tokens name patterns that are there. So where there are lists, a resource that comes is made out of service first, and
//! one that goes is taken out of service before they stop naming it. Out of service is a resource that covers a method nobody sends.

use std::collections::BTreeSet;

use policy::method::MethodSet;
use serde_json::{Value as Json, json};

use super::super::form::{Fields, Kind, SiteForm, sorted, words};
use super::{Act, Found, Stage, Step, changes, patch, shown};

/// The methods of resources that are not in service yet, and no more, begin so; each has its own, so that none contradicts another.
const NEXT: &str = "PAYFENCE-NEXT-";
const PAST: &str = "PAYFENCE-PAST-";

/// How specific a resource is; the more specific, the smaller. Segments one by one, one that ends after one that goes on, then methods.
type Rank = (Vec<u8>, usize);

/// A resource by its key.
type Named<'a> = (&'a String, &'a Fields);

/// What is done to resources, by how specific they are.
#[derive(Default)]
struct Moves {
    come: Vec<(Rank, Step)>,
    go: Vec<(Rank, Step)>,
}

impl Found<'_> {
    pub(super) fn resources(&mut self) {
        let (is, wanted) = (&self.is.form.resources, &self.wanted.form.resources);
        let is_case = self.is.form.settings.get("case_sensitive");
        let switches_case = is_case != self.wanted.form.settings.get("case_sensitive");
        if switches_case && !self.is_new && is != wanted {
            let reason = "`case_sensitive` cannot change together with resources, since each changes what the other means on the way; apply \
                          one of them first";
            self.faults.push(format!("site {}: {reason}", self.wanted.form.slug));
        }
        let mut moves = Moves::default();
        for (key, new) in wanted {
            if let Some(old) = is.get(key).filter(|old| *old != new) {
                self.change_in_place((key, old), new, &mut moves);
            }
        }
        let mut old: Vec<Named<'_>> =
            is.iter().filter(|(key, _)| !wanted.contains_key(*key)).collect();
        let new: Vec<Named<'_>> = wanted.iter().filter(|(key, _)| !is.contains_key(*key)).collect();
        let folds = is_case.is_none();
        let contradicted: Vec<Vec<&String>> = new
            .iter()
            .map(|(_, new)| {
                old.iter()
                    .filter(|(_, old)| contradict(old, new, folds))
                    .map(|(key, _)| *key)
                    .collect()
            })
            .collect();
        for ((key, fields), rivals) in new.iter().zip(&contradicted) {
            let is_alone = |rival: &String| {
                contradicted.iter().filter(|rivals| rivals.contains(&rival)).count() == 1
            };
            match rivals.as_slice() {
                [] => self.create_resource(key, fields, &mut moves),
                [rival] if is_alone(rival) => {
                    let at = old.iter().position(|(key, _)| key == rival);
                    if let Some(at) = at {
                        self.replace((key, fields), old.remove(at), &mut moves);
                    }
                }
                _ => self.fault(Kind::Resource, key, IN_ONE_GO),
            }
        }
        for (key, fields) in old {
            self.end_resource(key, fields, &mut moves);
        }
        moves.come.sort_by(|(one, _), (other, _)| one.cmp(other));
        moves.go.sort_by(|(one, _), (other, _)| other.cmp(one));
        self.steps.extend(moves.come.into_iter().map(|(_, step)| (Stage::ResourceCome, step)));
        self.steps.extend(moves.go.into_iter().map(|(_, step)| (Stage::ResourceGo, step)));
    }

    /// Lists of plans and tokens, as they are and as they are wanted.
    fn lists(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        (listed(&self.is.form), listed(&self.wanted.form))
    }

    fn create_resource(&mut self, key: &str, fields: &Fields, moves: &mut Moves) {
        self.line('+', Kind::Resource, key, &shown(fields));
        let (is_named, is_wanted) = self.lists();
        if is_named.is_empty() && !is_wanted.contains(pattern_of(fields)) {
            let step = self.made(Kind::Resource, key, Act::Create(fields.clone()));
            moves.come.push((rank_of(fields), step));
        } else if self.is_new {
            self.step(Stage::ResourceNew, Kind::Resource, key, Act::Create(fields.clone()));
        } else {
            let mut idle = fields.clone();
            let method = format!("{NEXT}{}", self.steps.len());
            idle.insert("methods".to_owned(), json!([method]));
            let act = Act::Change(patch(&idle, fields));
            self.step(Stage::ResourceNew, Kind::Resource, key, Act::Create(idle));
            moves.come.push((rank_of(fields), self.made(Kind::Resource, key, act)));
        }
    }

    /// The key is the old one's: it is what the row is found by.
    fn change_in_place(&mut self, (key, old): Named<'_>, new: &Fields, moves: &mut Moves) {
        let patch = patch(old, new);
        self.line('~', Kind::Resource, key, &changes(old, &patch).join(", "));
        moves.come.push((rank_of(new), self.made(Kind::Resource, key, Act::Change(patch))));
    }

    /// Makes one of another that contradicts it, so that they cannot be there both.
    fn replace(&mut self, (key, new): Named<'_>, (old_key, old): Named<'_>, moves: &mut Moves) {
        let (is_named, is_wanted) = self.lists();
        let renames = pattern_of(old) != pattern_of(new);
        if renames && (is_named.contains(pattern_of(old)) || is_wanted.contains(pattern_of(new))) {
            self.fault(Kind::Resource, key, RENAMED);
        }
        let (had, has) = (words(old.get("methods")), words(new.get("methods")));
        if had == has {
            self.change_in_place((old_key, old), new, moves);
            return;
        }
        let whole = patch(old, new);
        if whole.len() > 1 {
            self.fault(Kind::Resource, key, IN_ONE_GO);
        }
        self.line('~', Kind::Resource, old_key, &changes(old, &whole).join(", "));
        let both =
            Fields::from_iter([("methods".into(), sorted(had.into_iter().chain(has)).into())]);
        moves.come.push((rank_of(new), self.made(Kind::Resource, old_key, Act::Change(both))));
        moves.go.push((rank_of(new), self.made(Kind::Resource, old_key, Act::Change(whole))));
    }

    fn end_resource(&mut self, key: &str, fields: &Fields, moves: &mut Moves) {
        self.line('-', Kind::Resource, key, "archived");
        let pattern = pattern_of(fields);
        let stays = self.wanted.form.resources.values().any(|other| pattern_of(other) == pattern);
        let is_named = self.lists().0.contains(pattern);
        let act = if is_named && !stays {
            self.step(Stage::ResourceEnd, Kind::Resource, key, Act::End);
            let method = format!("{PAST}{}", self.steps.len());
            Act::Change(Fields::from_iter([("methods".into(), json!([method]))]))
        } else {
            Act::End
        };
        moves.go.push((rank_of(fields), self.made(Kind::Resource, key, act)));
    }
}

const IN_ONE_GO: &str = "it matches the same paths as what the control plane has, for some of the same methods, and the one cannot be made of \
                         the other in one go; apply a file without either first";
const RENAMED: &str = "it matches the same paths as the one it replaces, and plans or tokens name one of them; keep the old spelling, or first \
                       apply a file in which nothing names it";

/// All the patterns that lists of plans and tokens name.
fn listed(form: &SiteForm) -> BTreeSet<&str> {
    let parts = form.plans.values().chain(form.tokens.values());
    parts.flat_map(|part| words(part.get("resources"))).collect()
}

fn pattern_of(fields: &Fields) -> &str {
    fields.get("pattern").and_then(Json::as_str).unwrap_or_default()
}

fn methods_of(fields: &Fields) -> MethodSet {
    MethodSet::new(words(fields.get("methods")))
}

/// The segments of a pattern with what they are: 0 text, 1 one segment, 2 everything below, 3 any number.
fn segments_of(pattern: &str) -> Vec<(u8, &str)> {
    let parts: Vec<&str> = pattern.split('/').skip(1).collect();
    let last = parts.len().saturating_sub(1);
    let mut segments: Vec<(u8, &str)> = Vec::with_capacity(parts.len());
    for (at, part) in parts.into_iter().enumerate() {
        let segment = match part {
            "**" => (3, ""),
            "*" if at == last => (2, ""),
            "*" => (1, ""),
            name if name.starts_with('{') && name.ends_with('}') => (1, ""),
            text => (0, text),
        };
        // Several of them in a row say what one says.
        if segment.0 != 3 || segments.last() != Some(&segment) {
            segments.push(segment);
        }
    }
    segments
}

fn rank_of(fields: &Fields) -> Rank {
    let segments = segments_of(pattern_of(fields)).into_iter().map(|(kind, _)| kind);
    let methods = methods_of(fields).names().count();
    (segments.chain([u8::MAX]).collect(), if methods == 0 { usize::MAX } else { methods })
}

/// Whether two resources cannot be there both: the same shape, methods in common, and neither the more specific.
fn contradict(one: &Fields, other: &Fields, folds_case: bool) -> bool {
    let is_same = |one: &str, other: &str| {
        if folds_case { one.to_lowercase() == other.to_lowercase() } else { one == other }
    };
    let (a, b) = (segments_of(pattern_of(one)), segments_of(pattern_of(other)));
    let have_one_shape =
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && is_same(a.1, b.1));
    let (a, b) = (methods_of(one), methods_of(other));
    have_one_shape && a.overlaps(&b) && a.is_subset_of(&b) == b.is_subset_of(&a)
}
