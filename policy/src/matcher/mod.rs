//! Paths and patterns: which resource a request is for, decided so that no spelling of a path gets round a rule.
//!
//! In: the rules of a site; then method and path of each request. Out: the strictest answer over all spellings.
//! Always holds: whatever an origin may read in a path by any combination of the steps in PRODUCT.md (Resource
//! patterns) is among the spellings that were asked about; [`Matcher::resolve`] allocates nothing once its
//! [`Scratch`] is warm, and its time is bounded whatever the path.
//!
//! # Why no spelling is missed
//!
//! An origin, with whatever stands before it, turns the path it receives into the one it routes by in stages: undo
//! escapes, resolve dots, merge slashes and so on, in an order of its own. [`closure`] searches the graph whose nodes
//! are paths and whose edges are those stages, from the path as sent, until nothing new is found. Every pipeline is a
//! walk in that graph, so its result is a node, and each node is matched. Three things need more than this:
//!
//! - Letter case. Folding changes letters alone and no step looks at letters (hex digits apart, which are read in
//!   either case), so it can as well come last: each node is compared twice, exactly and folded.
//! - Decoding piece by piece. A router that splits first and decodes each segment sees a slash inside a segment.
//!   The step `decode_segments` stands for it: the slash stays `%2F`, which splits nothing.
//! - Escapes that honest clients cannot avoid. A literal equals a segment with those undone too (`literal.rs`), or a
//!   site that is paid by default would refuse `/caf%C3%A9/x` under a free `/café/*`. This only adds matches
//!   that an RFC 3986 comparison has as well.
//!
//! # The one exception
//!
//! On a site that is paid by default, `/open/` without its slash is `/open`, which a free `/open/*` does not name. A
//! spelling that no rule names, and that lacks just the last slash of another spelling, adds nothing when the path
//! was sent with a last slash and every spelling with one is a directory that a rule spells out in literals. So
//! `/open/` stays free, while `/open/x/..`, `/open//` and `/open` itself are paid.

mod answer;
mod bytes;
pub mod closure;
mod fold;
mod literal;
mod pattern;
#[doc(hidden)]
pub mod reference;
mod resolve;
mod rules;
mod segments;
mod steps;
mod tally;

pub use answer::{
    Access, Match, PathRejected, RejectCause, Rule, RuleConflict, RuleRef, Settings, Spelling,
};
pub use pattern::{
    PATTERN_BYTES_MAX, PATTERN_MANY_MAX, PATTERN_SEGMENTS_MAX, Pattern, PatternError,
};
pub use resolve::{Matcher, Scratch};

#[cfg(test)]
mod origin_models_tests;
#[cfg(test)]
mod origins_tests;
#[cfg(test)]
mod properties_tests;
