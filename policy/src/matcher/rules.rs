//! The rules of a site, ordered by specificity and ready to be searched.
//!
//! In: rules and settings. Out: for one spelling of a path, the most specific rule that names it, letters compared
//! exactly and folded.
//! Always holds: `ordered` runs from the most to the least specific, by an order that is total and depends on nothing
//! but the rules; a search never allocates and takes time linear in the path for each rule tried.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use aho_corasick::automaton::OverlappingState;
use aho_corasick::{AhoCorasick, AhoCorasickBuilder, Anchored, Input, StartKind};

use super::answer::{Access, Rule, RuleConflict, Settings};
use super::literal::{EscapedSet, Letters};
use super::pattern::Segment;
use super::segments::Segments;
use crate::method::MethodSet;

/// From this many rules on, candidates are found by their literal prefix instead of trying every rule.
const PREFIX_SEARCH_MIN: usize = 16;

/// All rules of one site.
#[derive(Debug)]
pub(crate) struct Rules {
    ordered: Vec<Compiled>,
    prefixes: Option<Prefixes>,
    /// How literal prefixes compare.
    letters: Letters,
    /// Bytes that some pattern writes escaped, so that clients may.
    escaped: EscapedSet,
    /// Whether exact and folded comparison can differ on a path without capitals.
    pub(crate) has_case: bool,
}

/// One rule, ready to be compared.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    /// Its index in what the caller gave.
    pub(crate) index: u32,
    pub(crate) access: Access,
    pub(crate) cost: u64,
    methods: MethodSet,
    segments: Box<[Segment]>,
    /// Literal segments and then a last `*` or slash: it names a directory as one writes it.
    is_directory: bool,
}

/// A spelling, and what is needed to compare it.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) segments: &'a Segments,
}

impl Rules {
    pub(crate) fn new(rules: &[Rule<'_>], settings: Settings) -> Result<Self, RuleConflict> {
        refuse_conflicts(rules, settings)?;
        let mut ordered: Vec<Compiled> = (0..).zip(rules).map(compile).collect();
        ordered.sort_by(compare);
        let mut escaped = EscapedSet::default();
        let mut has_case = false;
        for segment in ordered.iter().flat_map(|rule| rule.segments.iter()) {
            if let Segment::Literal(literal) = segment {
                escaped.extend(literal.escaped());
                has_case |= literal.plain() != literal.folded();
            }
        }
        let prefixes = (ordered.len() >= PREFIX_SEARCH_MIN)
            .then(|| Prefixes::new(&ordered, settings.case_sensitive))
            .flatten();
        let letters = if settings.case_sensitive { Letters::Exact } else { Letters::Folded };
        Ok(Self { ordered, prefixes, letters, escaped, has_case })
    }

    /// Splits a spelling as [`Self::find`] needs it. `is_literal`: it is ASCII without escapes.
    pub(crate) fn split<'a>(
        &self,
        path: &'a [u8],
        is_literal: bool,
        segments: &'a mut Segments,
    ) -> Candidate<'a> {
        segments.split(path, is_literal, self.escaped);
        if self.prefixes.is_some() && !is_literal {
            segments.write_canonical(path, self.letters);
        }
        Candidate { path, segments }
    }

    /// The most specific rule for `method` that names the spelling.
    pub(crate) fn find(
        &self,
        method: &[u8],
        candidate: Candidate<'_>,
        letters: Letters,
    ) -> Option<&Compiled> {
        let fits =
            |rule: &Compiled| rule.methods.contains(method) && rule.names(candidate, letters);
        match &self.prefixes {
            Some(prefixes) => prefixes
                .search(candidate.segments.canonical(candidate.path))
                .filter(|order| self.ordered.get(*order).is_some_and(fits))
                .min()
                .and_then(|order| self.ordered.get(order)),
            None => self.ordered.iter().find(|rule| fits(rule)),
        }
    }
}

fn compile((index, rule): (u32, &Rule<'_>)) -> Compiled {
    let segments = rule.pattern.segments();
    let is_directory = segments.split_last().is_some_and(|(last, front)| {
        let ends = match last {
            Segment::Rest => true,
            Segment::Literal(literal) => literal.plain().is_empty(),
            Segment::One | Segment::Many => false,
        };
        ends && front.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    });
    Compiled {
        index,
        access: rule.access,
        cost: rule.cost,
        methods: rule.methods.clone(),
        segments: segments.into(),
        is_directory,
    }
}

impl Compiled {
    /// Whether the pattern names the spelling.
    fn names(&self, candidate: Candidate<'_>, letters: Letters) -> bool {
        let count = candidate.segments.len();
        let (fixed, rest) = match self.segments.split_last() {
            Some((Segment::Rest, fixed)) => (fixed, true),
            _ => (&*self.segments, false),
        };
        // A last `*` takes one segment or more; without it, the last chunk ends where the path does.
        let end = if rest { count.saturating_sub(1) } else { count };
        let at = |chunk: &[Segment], start: usize| {
            start + chunk.len() <= end
                && chunk.iter().zip(start..).all(|(segment, index)| match segment {
                    Segment::Literal(literal) => {
                        candidate.segments.equals(index, candidate.path, literal, letters)
                    }
                    Segment::One => candidate.segments.is_filled(index),
                    Segment::Rest | Segment::Many => false,
                })
        };
        let mut chunks = fixed.split(|segment| *segment == Segment::Many);
        let head = chunks.next().unwrap_or_default();
        if count == 0 || !at(head, 0) {
            return false;
        }
        let mut position = head.len();
        let Some(mut chunk) = chunks.next() else { return rest || position == count };
        // Taking the leftmost place for each chunk between two `**` leaves the most room for those after it, so
        // nothing is ever tried twice.
        for next in chunks {
            let Some(start) = (position..=end).find(|start| at(chunk, *start)) else {
                return false;
            };
            position = start + chunk.len();
            chunk = next;
        }
        if rest {
            return (position..=end).any(|start| at(chunk, start));
        }
        end.checked_sub(chunk.len()).is_some_and(|start| start >= position && at(chunk, start))
    }

    /// Whether the spelling that this rule names is the directory the pattern spells out, with nothing below it.
    pub(crate) fn is_directory_itself(&self, segments: &Segments) -> bool {
        self.is_directory
            && segments.len() == self.segments.len()
            && !segments.is_filled(segments.len() - 1)
    }
}

/// More specific first (PRODUCT.md, Resource patterns). Where the contract is silent, that is where shapes differ in
/// their literals alone and `**` lets both name one path: the stricter, the dearer, the earlier first.
fn compare(a: &Compiled, b: &Compiled) -> Ordering {
    let ranks =
        |rule: &Compiled| -> Vec<u8> { rule.segments.iter().map(rank).chain([4]).collect() };
    let methods = |rule: &Compiled| match rule.methods.is_all() {
        true => usize::MAX,
        false => rule.methods.names().count(),
    };
    ranks(a)
        .cmp(&ranks(b))
        .then_with(|| methods(a).cmp(&methods(b)))
        .then_with(|| Reverse((a.access, a.cost)).cmp(&Reverse((b.access, b.cost))))
        .then_with(|| a.index.cmp(&b.index))
}

/// Literal before one segment before last `*` before `**`; 4 is the end, so what goes on comes before what ends.
fn rank(segment: &Segment) -> u8 {
    match segment {
        Segment::Literal(_) => 0,
        Segment::One => 1,
        Segment::Rest => 2,
        Segment::Many => 3,
    }
}

fn refuse_conflicts(rules: &[Rule<'_>], settings: Settings) -> Result<(), RuleConflict> {
    type Shape<'a> = Vec<(u8, &'a [u8])>;
    let mut seen: HashMap<Shape<'_>, Vec<(usize, &MethodSet)>> = HashMap::new();
    for (second, rule) in rules.iter().enumerate() {
        let shape = rule.pattern.segments().iter().map(|segment| match segment {
            Segment::Literal(text) if settings.case_sensitive => (rank(segment), text.plain()),
            Segment::Literal(text) => (rank(segment), text.folded()),
            _ => (rank(segment), &b""[..]),
        });
        let same = seen.entry(shape.collect()).or_default();
        for (first, methods) in same.iter() {
            if methods.overlaps(rule.methods)
                && methods.is_subset_of(rule.methods) == rule.methods.is_subset_of(methods)
            {
                return Err(RuleConflict { first: *first, second });
            }
        }
        same.push((second, rule.methods));
    }
    Ok(())
}

/// Finds the rules whose literal beginning a path begins with, in one walk along the path.
#[derive(Debug)]
struct Prefixes {
    automaton: AhoCorasick,
    /// For each prefix of the automaton, the positions in `Rules::ordered` of its rules.
    rules: Vec<Vec<usize>>,
}

impl Prefixes {
    fn new(ordered: &[Compiled], case_sensitive: bool) -> Option<Self> {
        let mut prefixes: Vec<Vec<u8>> = Vec::new();
        let mut rules: Vec<Vec<usize>> = Vec::new();
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        for (order, rule) in ordered.iter().enumerate() {
            let prefix = literal_prefix(&rule.segments, case_sensitive);
            let place = *places.entry(prefix).or_insert_with_key(|prefix| {
                prefixes.push(prefix.clone());
                rules.push(Vec::new());
                rules.len() - 1
            });
            if let Some(same) = rules.get_mut(place) {
                same.push(order);
            }
        }
        let automaton = AhoCorasickBuilder::new()
            .start_kind(StartKind::Anchored)
            .ascii_case_insensitive(!case_sensitive)
            .build(&prefixes)
            .ok()?;
        Some(Self { automaton, rules })
    }

    /// The positions of the rules whose prefix `path` begins with, in no order.
    fn search(&self, path: &[u8]) -> impl Iterator<Item = usize> {
        let mut state = OverlappingState::start();
        std::iter::from_fn(move || {
            let input = Input::new(path).anchored(Anchored::Yes);
            self.automaton.try_find_overlapping(input, &mut state).ok()?;
            state.get_match()
        })
        .filter_map(|found| self.rules.get(found.pattern().as_usize()))
        .flatten()
        .copied()
    }
}

/// What the canonical form of every path that is named must begin with: literals up to the first wildcard, or up to
/// the first literal that may equal a segment in another form than the canonical one.
fn literal_prefix(segments: &[Segment], case_sensitive: bool) -> Vec<u8> {
    let mut prefix = Vec::new();
    for segment in segments {
        let text = match segment {
            Segment::Literal(literal) if case_sensitive => literal.plain(),
            Segment::Literal(literal) => literal.folded(),
            Segment::One | Segment::Rest => {
                prefix.push(b'/');
                return prefix;
            }
            Segment::Many => break,
        };
        if text.contains(&b'/') || text.contains(&b'%') {
            break;
        }
        prefix.push(b'/');
        prefix.extend_from_slice(text);
    }
    if prefix.is_empty() {
        prefix.push(b'/');
    }
    prefix
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
