//! One request's path against the rules of its site: every spelling asked, the strictest answer given.
//!
//! In: method and path. Out: a [`Match`], or why the path is refused.
//! Always holds: the answer does not depend on the order in which spellings are found; a path without anything to
//! undo is answered without a search, and nothing is allocated once the scratch is warm.

use super::answer::{
    Access, Match, PathRejected, RejectCause, Rule, RuleConflict, RuleRef, Settings, Spelling,
};
use super::closure::{Closure, Traits};
use super::fold::fold_into;
use super::literal::Letters;
use super::rules::Rules;
use super::segments::Segments;
use super::tally::{Nearness, Reading, Tally};

/// Space that resolving needs. One for each thread; it grows to what the worst path took and stays.
#[derive(Debug, Default)]
pub struct Scratch {
    closure: Closure,
    segments: Segments,
    paid: Vec<RuleRef>,
}

impl Scratch {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// The rules of one site, ready to answer.
#[derive(Debug)]
pub struct Matcher {
    rules: Rules,
    settings: Settings,
}

impl Matcher {
    /// Prepares `rules`; [`RuleRef::Rule`] will speak of them by their index here.
    ///
    /// # Errors
    /// Two rules of the same shape whose methods overlap, neither set within the other.
    pub fn new(rules: &[Rule<'_>], settings: Settings) -> Result<Self, RuleConflict> {
        Ok(Self { rules: Rules::new(rules, settings)?, settings })
    }

    /// Answers for `method` and `path`: the path as the origin will get it, without query. The `*` of `OPTIONS *`
    /// asks about the root.
    ///
    /// # Errors
    /// A path to be answered 400: not rooted, with a control byte or above the root in some spelling, or with more
    /// spellings than are examined.
    pub fn resolve<'s>(
        &self,
        method: &[u8],
        path: &[u8],
        scratch: &'s mut Scratch,
    ) -> Result<Match<'s>, PathRejected> {
        let Scratch { closure, segments, paid } = scratch;
        self.tally(method, path, closure, segments, paid).map(Tally::finish)
    }

    fn tally<'s>(
        &self,
        method: &[u8],
        path: &[u8],
        closure: &mut Closure,
        segments: &mut Segments,
        paid: &'s mut Vec<RuleRef>,
    ) -> Result<Tally<'s>, PathRejected> {
        let refuse = |cause| PathRejected { cause };
        let path = rooted(path).map_err(refuse)?;
        let traits = Traits::of(path);
        traits.check().map_err(refuse)?;
        let mut tally = Tally::new(self.settings.default_paid, traits.ends_with_slash(), paid);
        if traits.is_plain() {
            self.read(method, path, traits, true, segments, |_, reading| {
                tally.add(reading, || false);
            });
            return Ok(tally);
        }
        closure.fill(path).map_err(refuse)?;
        for (index, (text, traits)) in closure.iter().enumerate() {
            self.read(method, text, traits, index == 0, segments, |_, reading| {
                tally.add(reading, || closure.has_with_slash(text));
            });
        }
        Ok(tally)
    }

    /// Splits one spelling and reports what it leads to: exactly, then folded where that may differ.
    fn read<'m>(
        &'m self,
        method: &[u8],
        path: &[u8],
        traits: Traits,
        is_sent: bool,
        segments: &mut Segments,
        mut report: impl FnMut(Letters, Reading<'m>),
    ) {
        let candidate = self.rules.split(path, traits.is_literal(), segments);
        let mut ask = |letters, nearness| {
            let rule = self.rules.find(method, candidate, letters);
            let reading = Reading {
                rule,
                nearness: if is_sent { nearness } else { Nearness::Other },
                ends_with_slash: traits.ends_with_slash(),
                is_directory_itself: rule
                    .is_some_and(|rule| rule.is_directory_itself(candidate.segments)),
            };
            report(letters, reading);
        };
        ask(Letters::Exact, Nearness::Sent);
        if !self.settings.case_sensitive && (self.rules.has_case || traits.has_case()) {
            ask(Letters::Folded, Nearness::SentFolded);
        }
    }

    /// Every way to read `path`, each once, with what it leads to; the path as sent is first. Of a path that is
    /// refused, the ways found until then. For `policy explain`: it allocates.
    #[must_use]
    pub fn spellings(&self, method: &[u8], path: &[u8]) -> Vec<Spelling> {
        let Scratch { mut closure, mut segments, mut paid } = Scratch::new();
        let Ok(path) = rooted(path) else { return Vec::new() };
        let nameless = match self.tally(method, path, &mut closure, &mut segments, &mut paid) {
            // A nameless spelling then shares the answer of its directory.
            Ok(tally) if tally.excepts_directory() => {
                let answer = tally.finish();
                answer.logged.map(|rule| (rule, answer.access))
            }
            _ => self.settings.default_paid.then_some((RuleRef::Default, Access::Paid)),
        };
        // A path that is plain was answered without a search; one that is refused left what was found.
        if Traits::of(path).is_plain() {
            let _plain_has_one = closure.fill(path);
        }
        let mut found: Vec<Spelling> = Vec::new();
        for (index, (text, traits)) in closure.iter().enumerate() {
            self.read(method, text, traits, index == 0, &mut segments, |letters, reading| {
                let named = reading.rule.map(|rule| (RuleRef::Rule(rule.index), rule.access));
                let answer = named.or(nameless);
                let spelling = Spelling {
                    text: shown(text, letters),
                    rule: answer.map(|(rule, _)| rule),
                    access: answer.map_or(Access::Free, |(_, access)| access),
                };
                if !found.contains(&spelling) {
                    found.push(spelling);
                }
            });
        }
        found
    }
}

fn shown(text: &[u8], letters: Letters) -> String {
    let mut folded = Vec::new();
    let text = match letters {
        Letters::Exact => text,
        Letters::Folded => {
            fold_into(text, &mut folded);
            &folded
        }
    };
    String::from_utf8_lossy(text).into_owned()
}

fn rooted(path: &[u8]) -> Result<&[u8], RejectCause> {
    match path {
        b"*" => Ok(b"/"),
        [b'/', ..] => Ok(path),
        _ => Err(RejectCause::NotRooted),
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
