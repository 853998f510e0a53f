//! Every spelling of a path: all that an origin may read in it.
//!
//! In: a path as sent. Out: the set of paths reachable from it by the steps of `steps.rs`, in any order and
//! number, with percent escapes undone at most twice; or why the path is refused.
//! Always holds: the set is closed. Whatever pipeline of these steps an origin (or a chain of servers before it)
//! runs, its every intermediate and final path is in the set, because each of its stages is one edge of the search
//! below and no edge is left out. What no pipeline needs is left out by content alone: a step that changes nothing,
//! and a path already found with as many decodings left or more.
//!
//! # Why it is bounded
//!
//! No step lengthens a path, so the set is finite, but a path made for it can have thousands of spellings. The search
//! stops at [`SPELLINGS_MAX`] paths or [`WORK_BYTES_MAX`] bytes stepped over, and the request is then refused: what
//! cannot be examined in full must not pass. Honest paths have one spelling, or a few.

use super::answer::RejectCause;
use super::bytes::{hex_pair, is_unreserved};
use super::steps::{self, Step};

/// Spellings of one path that are examined; one more refuses it.
pub const SPELLINGS_MAX: usize = 512;
/// Bytes that steps may read for one path; one more refuses it. Bounds the time a hostile path takes.
pub const WORK_BYTES_MAX: usize = 320 * 1024;
/// How often escapes may be undone (PRODUCT.md: once or twice).
const DECODES_MAX: u8 = 2;
/// Slots of the index over spellings; a power of two, and never more than half of them in use.
const INDEX_SLOTS: usize = 2 * SPELLINGS_MAX;

/// What a path holds that some step would change, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits(u16);

impl Traits {
    const CONTROL: u16 = 1;
    const PERCENT: u16 = 1 << 1;
    const BACKSLASH: u16 = 1 << 2;
    const SEMICOLON: u16 = 1 << 3;
    const CUT: u16 = 1 << 4;
    const NON_ASCII: u16 = 1 << 5;
    const UPPER: u16 = 1 << 6;
    /// A byte that may lead an overlong sequence.
    const OVERLONG: u16 = 1 << 7;
    const DOUBLE_SLASH: u16 = 1 << 8;
    const DOT: u16 = 1 << 9;
    const ENCODED_DOT: u16 = 1 << 10;
    const ENCODED_SLASH: u16 = 1 << 11;
    const ENCODED_U: u16 = 1 << 12;
    const AUTHORITY: u16 = 1 << 13;
    const TRAILING: u16 = 1 << 14;
    const ENCODED_UNRESERVED: u16 = 1 << 15;

    /// Looks at every byte of `path` once, twice where there are escapes.
    pub(crate) fn of(path: &[u8]) -> Self {
        let mut seen = 0;
        let mut previous = 0;
        for &byte in path {
            seen |= CLASSES.get(usize::from(byte)).copied().unwrap_or_default();
            if previous == b'/' {
                match byte {
                    b'/' => seen |= Self::DOUBLE_SLASH,
                    b'.' => seen |= Self::DOT,
                    _ => {}
                }
            }
            previous = byte;
        }
        if previous == b'/' && path.len() > 1 {
            seen |= Self::TRAILING;
        }
        if path.starts_with(b"//") {
            seen |= Self::AUTHORITY;
        }
        if seen & Self::PERCENT != 0 {
            seen |= Self::of_escapes(path);
        }
        Self(seen)
    }

    fn of_escapes(path: &[u8]) -> u16 {
        let mut seen = 0;
        let mut window = 0_u32;
        for &byte in path {
            window = window << 8 | u32::from(byte);
            match window.to_be_bytes() {
                [_, b'%', b'2', b'f' | b'F'] => seen |= Self::ENCODED_SLASH,
                [_, _, b'%', b'u' | b'U'] => seen |= Self::ENCODED_U,
                [_, b'/', b'%', b'2'] | [b'/', b'.', b'%', b'2'] => seen |= Self::ENCODED_DOT,
                [_, b'%', high, low]
                    if hex_pair(&[high, low]).is_some_and(|(value, _)| is_unreserved(value)) =>
                {
                    seen |= Self::ENCODED_UNRESERVED;
                }
                _ => {}
            }
        }
        seen
    }

    fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    /// Whether there is nothing in it that a step might change, letter case apart.
    pub(crate) fn is_plain(self) -> bool {
        !self.has(!Self::UPPER)
    }

    /// Whether it is ASCII without escapes, so that its bytes are all there is to compare.
    pub(crate) fn is_literal(self) -> bool {
        !self.has(Self::NON_ASCII | Self::PERCENT)
    }

    /// Whether folding letter case may change it.
    pub(crate) fn has_case(self) -> bool {
        self.has(Self::UPPER | Self::NON_ASCII | Self::PERCENT)
    }

    pub(crate) fn ends_with_slash(self) -> bool {
        self.has(Self::TRAILING)
    }

    pub(crate) fn check(self) -> Result<(), RejectCause> {
        if self.has(Self::CONTROL) { Err(RejectCause::ControlByte) } else { Ok(()) }
    }
}

/// The traits that a byte has by itself.
static CLASSES: [u16; 256] = classes();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated at compile time, with an index below the length"
)]
const fn classes() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = match byte as u8 {
            0..=0x1F | 0x7F => Traits::CONTROL,
            b'%' => Traits::PERCENT,
            b'\\' => Traits::BACKSLASH,
            b';' => Traits::SEMICOLON,
            b'?' | b'#' => Traits::CUT,
            b'A'..=b'Z' => Traits::UPPER,
            0xC0 | 0xC1 | 0xE0 | 0xF0 | 0xF8 | 0xFC => Traits::NON_ASCII | Traits::OVERLONG,
            0x80.. => Traits::NON_ASCII,
            _ => 0,
        };
        byte += 1;
    }
    table
}

/// The steps that cost no decoding, each with the traits without which it changes nothing.
const STEPS: [(u16, Step); 10] = [
    (Traits::DOT, steps::resolve_dots),
    (Traits::ENCODED_DOT, steps::resolve_encoded_dots),
    (Traits::DOUBLE_SLASH, steps::merge_slashes),
    (Traits::BACKSLASH, steps::turn_backslashes),
    (Traits::SEMICOLON, steps::drop_params),
    (Traits::SEMICOLON, steps::drop_last_params),
    (Traits::TRAILING, steps::trim_slashes),
    (Traits::CUT, steps::cut_at_query),
    (Traits::AUTHORITY, steps::drop_authority),
    (Traits::OVERLONG, steps::mend_overlong),
];

/// The ways to undo percent escapes once, each with the traits without which it does nothing, or what the first does.
const DECODES: [(u16, Step); 4] = [
    (Traits::PERCENT, steps::decode),
    (Traits::ENCODED_UNRESERVED, steps::decode_unreserved),
    (Traits::ENCODED_SLASH, steps::decode_segments),
    (Traits::ENCODED_U, steps::decode_with_u),
];

/// The spellings of one path. Reused from path to path: it allocates nothing once it has grown.
#[derive(Debug, Default)]
pub(crate) struct Closure {
    text: Vec<u8>,
    nodes: Vec<Node>,
    /// Finds nodes by digest: open addressing, a node's index plus one, 0 for none. Twice as many as nodes at most.
    index: Vec<u16>,
    result: Vec<u8>,
    work_bytes: usize,
}

/// One spelling: where its text lies, and what is known of it.
#[derive(Clone, Copy, Debug)]
struct Node {
    start: usize,
    end: usize,
    digest: u64,
    traits: Traits,
}

impl Closure {
    /// Finds all spellings of `path`; the first is the path itself.
    pub(crate) fn fill(&mut self, path: &[u8]) -> Result<(), RejectCause> {
        self.text.clear();
        self.nodes.clear();
        self.index.clear();
        self.index.resize(INDEX_SLOTS, 0);
        self.work_bytes = 0;
        self.result.clear();
        self.result.extend_from_slice(path);
        self.keep()?;
        let mut level_start = 0;
        for decodes in 0..=DECODES_MAX {
            // Taking `%2e` for a dot undoes an escape, so it is left out where two have been undone already.
            let without = if decodes == DECODES_MAX { Traits::ENCODED_DOT } else { 0 };
            self.close_level(level_start, without)?;
            let level_end = self.nodes.len();
            if decodes < DECODES_MAX {
                self.decode_level(level_start, level_end)?;
            }
            level_start = level_end;
        }
        Ok(())
    }

    /// The spellings in the order they were found: those with fewer decodings first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Traits)> {
        self.nodes.iter().map(|node| (self.text_of(*node), node.traits))
    }

    /// Whether `path` with one slash more at its end is a spelling.
    pub(crate) fn has_with_slash(&self, path: &[u8]) -> bool {
        self.iter().any(|(text, _)| text.strip_suffix(b"/") == Some(path))
    }

    fn text_of(&self, node: Node) -> &[u8] {
        self.text.get(node.start..node.end).unwrap_or_default()
    }

    /// Applies all steps but decoding to the nodes from `first` on, and to what they lead to; `without` those that
    /// need this trait.
    fn close_level(&mut self, first: usize, without: u16) -> Result<(), RejectCause> {
        let mut index = first;
        while let Some(node) = self.nodes.get(index).copied() {
            for (needs, step) in STEPS {
                if node.traits.has(needs & !without) {
                    self.apply(node, step)?;
                }
            }
            index += 1;
        }
        Ok(())
    }

    /// Decodes the nodes from `first` to `end` once. All that a level holds is known before the first decoding, so
    /// a path is always kept at the level with the most decodings left.
    fn decode_level(&mut self, first: usize, end: usize) -> Result<(), RejectCause> {
        for index in first..end {
            let Some(node) = self.nodes.get(index).copied() else { break };
            for (needs, step) in DECODES {
                if node.traits.has(needs) {
                    self.apply(node, step)?;
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, node: Node, step: Step) -> Result<(), RejectCause> {
        self.work_bytes += node.end - node.start;
        if self.work_bytes > WORK_BYTES_MAX {
            return Err(RejectCause::TooManySpellings);
        }
        self.result.clear();
        step(self.text.get(node.start..node.end).unwrap_or_default(), &mut self.result)?;
        self.keep()
    }

    /// Adds `result` to the set, unless it is there.
    fn keep(&mut self) -> Result<(), RejectCause> {
        let digest = digest(&self.result);
        let Some(slot) = self.free_slot(digest) else { return Ok(()) };
        let traits = Traits::of(&self.result);
        traits.check()?;
        let start = self.text.len();
        self.text.extend_from_slice(&self.result);
        self.nodes.push(Node { start, end: self.text.len(), digest, traits });
        if self.nodes.len() > SPELLINGS_MAX {
            return Err(RejectCause::TooManySpellings);
        }
        if let (Some(entry), Ok(number)) =
            (self.index.get_mut(slot), u16::try_from(self.nodes.len()))
        {
            *entry = number;
        }
        Ok(())
    }

    /// Where in the index `result` belongs; none if it is a node already.
    fn free_slot(&self, digest: u64) -> Option<usize> {
        let mut slot = (digest >> 32) as usize % INDEX_SLOTS;
        loop {
            let number = self.index.get(slot).copied().map_or(0, usize::from);
            let Some(node) = number.checked_sub(1).and_then(|at| self.nodes.get(at)) else {
                return Some(slot);
            };
            if node.digest == digest && self.text_of(*node) == self.result {
                return None;
            }
            slot = (slot + 1) % INDEX_SLOTS;
        }
    }
}

/// Tells most different paths apart without comparing them. Two that collide are still compared, so a client that
/// builds collisions gains nothing but comparisons, of which there are at most [`SPELLINGS_MAX`] each time.
fn digest(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = bytes.len() as u64;
    for word in words {
        state = (state ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR).rotate_left(29);
    }
    for byte in rest {
        state = (state ^ u64::from(*byte)).wrapping_mul(FACTOR).rotate_left(29);
    }
    state
}

#[cfg(test)]
#[path = "closure_tests.rs"]
mod tests;
