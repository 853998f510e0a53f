//! What goes into a matcher and what comes out of it, as plain values.
//!
//! In: rules and settings of one site. Out: the answer to one path, or why the path is refused.
//! Always holds: [`Access`] is ordered from lenient to strict, so the strictest of several answers is their maximum.

use super::pattern::Pattern;
use crate::method::MethodSet;

/// What a resource asks of a request. Ordered: the later, the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Passes without a token.
    Free,
    /// Needs a token whose plan includes the resource, with units left.
    Paid,
    /// Never passes.
    Blocked,
}

/// One resource of a site, as handed to [`super::Matcher::new`].
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Which paths.
    pub pattern: &'a Pattern,
    /// Which methods of them.
    pub methods: &'a MethodSet,
    /// What it asks.
    pub access: Access,
    /// Units a request takes; read for paid rules alone.
    pub cost: u64,
}

/// How a site matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What no pattern names is the paid resource `*` (a site's `default = "paid"`).
    pub default_paid: bool,
    /// Letters of different case are different letters.
    pub case_sensitive: bool,
}

/// Which resource an answer speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleRef {
    /// The rule at this index of the slice the matcher was built from.
    Rule(u32),
    /// What no pattern names, on a site whose default is paid: the resource `*`, cost 1.
    Default,
}

/// The answer to one request: the strictest over all the spellings of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match<'s> {
    /// The strictest access.
    pub access: Access,
    /// The resource to log. Blocked: the blocked rule. Paid: the paid one of the highest cost. Free: the free rule
    /// that names the path as sent, if any. Among equals the one that names the path as sent, then the first.
    pub logged: Option<RuleRef>,
    /// Units the request takes: the highest cost of `paid`; 0 unless `access` is paid.
    pub cost: u64,
    /// Every paid resource found in any spelling, each once; a plan must include them all.
    pub paid: &'s [RuleRef],
}

/// A path that is answered 400 and never forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path is refused: {}", cause.explain())]
pub struct PathRejected {
    /// Why.
    pub cause: RejectCause,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectCause {
    /// It does not begin with `/` (and is not the `*` of `OPTIONS *`).
    NotRooted,
    /// Some spelling holds a NUL or another control byte (0x00 to 0x1F, 0x7F).
    ControlByte,
    /// Some spelling climbs above the site's root.
    AboveRoot,
    /// It can be read in more ways than are worth examining; see [`super::closure`].
    TooManySpellings,
}

impl RejectCause {
    /// The stable machine word, for `payfence_requests_malformed_total{cause}`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRooted => "path_not_rooted",
            Self::ControlByte => "path_control_byte",
            Self::AboveRoot => "path_above_root",
            Self::TooManySpellings => "path_ambiguous",
        }
    }

    /// A sentence for the person who sent the path.
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::NotRooted => "it does not begin with `/`",
            Self::ControlByte => "it holds a control byte, plain or percent-encoded",
            Self::AboveRoot => "its dot segments climb above the root",
            Self::TooManySpellings => {
                "its escapes, dots, slashes and parameters can be read in too many ways; send it in plain form"
            }
        }
    }
}

/// Two rules of which neither is the more specific: same shape, overlapping methods, neither set within the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "resources {first} and {second} have patterns of the same shape and share methods, and neither is the more \
     specific; give one of them fewer methods, or remove one"
)]
pub struct RuleConflict {
    /// Index of the earlier rule.
    pub first: usize,
    /// Index of the later rule.
    pub second: usize,
}

/// One way to read a path, and what it leads to: a line of `policy explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling {
    /// The path so read; bytes that are not UTF-8 are shown as U+FFFD.
    pub text: String,
    /// The resource that answers it.
    pub rule: Option<RuleRef>,
    /// What that resource asks.
    pub access: Access,
}
