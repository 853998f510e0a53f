//! The sum of what a path's spellings lead to: the strictest answer, and every paid resource met.
//!
//! In: readings, one for each spelling and way to compare letters, in any order. Out: the [`Match`].
//! Always holds: the result depends on which readings were added and on nothing else; a reading only ever makes it
//! stricter.

use std::cmp::Reverse;

use super::answer::{Access, Match, RuleRef};
use super::rules::Compiled;

/// Units that what no pattern names takes, on a site that is paid by default.
pub(crate) const DEFAULT_COST: u64 = 1;

/// How near a reading is to the path as sent; decides between answers that are otherwise equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nearness {
    /// Another spelling.
    Other,
    /// The path as sent, letter case folded.
    SentFolded,
    /// The path as sent.
    Sent,
}

/// What one spelling leads to, letters compared one way.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'m> {
    pub(crate) rule: Option<&'m Compiled>,
    pub(crate) nearness: Nearness,
    /// The spelling ends with a slash that is not the root.
    pub(crate) ends_with_slash: bool,
    /// The rule spells this directory out, and nothing below it was asked for.
    pub(crate) is_directory_itself: bool,
}

/// Strictness, then cost, then nearness, then the order of the rules.
type Rank = (Access, u64, Nearness, Reverse<RuleRef>);

/// Adds up readings.
pub(crate) struct Tally<'s> {
    default_paid: bool,
    /// The path was sent with a last slash, and every spelling with one is a directory that its rule spells out.
    only_directories: bool,
    /// A nameless spelling is waiting for `only_directories` to be settled.
    nameless_trimmed: bool,
    best: Option<Rank>,
    paid: &'s mut Vec<RuleRef>,
}

impl<'s> Tally<'s> {
    /// An empty sum, which will list paid resources in `paid`.
    pub(crate) fn new(
        default_paid: bool,
        sent_with_slash: bool,
        paid: &'s mut Vec<RuleRef>,
    ) -> Self {
        paid.clear();
        Self {
            default_paid,
            only_directories: sent_with_slash,
            nameless_trimmed: false,
            best: None,
            paid,
        }
    }

    /// Adds one reading. `lacks_slash` tells whether the same spelling with one slash more is a spelling too; it is
    /// asked only where that matters.
    pub(crate) fn add(&mut self, reading: Reading<'_>, lacks_slash: impl FnOnce() -> bool) {
        if reading.ends_with_slash {
            self.only_directories &= reading.is_directory_itself;
        }
        match reading.rule {
            Some(rule) => {
                let found = RuleRef::Rule(rule.index);
                self.count(rule.access, rule.cost, reading.nearness, found);
            }
            None if !self.default_paid => {}
            None if self.only_directories && !reading.ends_with_slash && lacks_slash() => {
                self.nameless_trimmed = true;
            }
            None => self.count_default(reading.nearness),
        }
    }

    fn count_default(&mut self, nearness: Nearness) {
        self.count(Access::Paid, DEFAULT_COST, nearness, RuleRef::Default);
    }

    fn count(&mut self, access: Access, cost: u64, nearness: Nearness, found: RuleRef) {
        if access == Access::Paid && !self.paid.contains(&found) {
            self.paid.push(found);
        }
        let cost = if access == Access::Paid { cost } else { 0 };
        self.best = self.best.max(Some((access, cost, nearness, Reverse(found))));
    }

    /// Whether the directory exception let a nameless spelling pass.
    pub(crate) fn excepts_directory(&self) -> bool {
        self.nameless_trimmed && self.only_directories
    }

    /// The answer.
    pub(crate) fn finish(mut self) -> Match<'s> {
        if self.nameless_trimmed && !self.only_directories {
            self.count_default(Nearness::Other);
        }
        let paid = &*self.paid;
        match self.best {
            // A free rule that names another spelling alone did not decide anything.
            None | Some((Access::Free, _, Nearness::Other, _)) => {
                Match { access: Access::Free, logged: None, cost: 0, paid }
            }
            Some((access, cost, _, Reverse(found))) => {
                Match { access, logged: Some(found), cost, paid }
            }
        }
    }
}
