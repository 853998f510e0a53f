//! The literal segments of patterns, and the segments of a path prepared for comparison with them.
//!
//! In: a pattern's literal; one spelling of a path. Out: whether segment and literal are the same text.
//! Always holds: a segment equals a literal when its bytes do, or when they do once the escapes are undone that an
//! honest client has to write: those of bytes that no path may hold plain (RFC 3986, section 3.3), and of bytes that some
//! pattern of the site itself writes escaped. So `/café/*` names `/caf%C3%A9/x` as sent, and `/%6Fpen` is not `/open`.

use super::bytes::{hex_pair, may_stand_plain};
use super::fold::fold_into;

/// A literal segment of a pattern, escapes undone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Literal {
    plain: Box<[u8]>,
    folded: Box<[u8]>,
    escaped: EscapedSet,
}

impl Literal {
    /// A literal of these bytes, of which `escaped` were written as escapes.
    pub(crate) fn new(plain: Vec<u8>, escaped: Vec<u8>) -> Self {
        let mut folded = Vec::with_capacity(plain.len());
        fold_into(&plain, &mut folded);
        let mut set = EscapedSet::default();
        escaped.into_iter().for_each(|byte| set.insert(byte));
        Self { plain: plain.into(), folded: folded.into(), escaped: set }
    }

    /// Its bytes.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Its bytes with letter case folded.
    pub(crate) fn folded(&self) -> &[u8] {
        &self.folded
    }

    pub(crate) fn escaped(&self) -> EscapedSet {
        self.escaped
    }
}

/// ASCII bytes that patterns write as escapes; others need no entry, they can be written in no other way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct EscapedSet(u128);

impl EscapedSet {
    fn insert(&mut self, byte: u8) {
        if byte < 0x80 {
            self.0 |= 1 << byte;
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether an honest client may write `byte` as an escape.
    fn allows(self, byte: u8) -> bool {
        !may_stand_plain(byte) || self.0 >> byte & 1 == 1
    }
}

/// How letters compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letters {
    /// Byte for byte.
    Exact,
    /// With letter case folded.
    Folded,
}

/// One spelling of a path, split at slashes, with the forms that literals are compared to. Reused between paths.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    spans: Vec<Span>,
    /// Segments with their honest escapes undone, where that changes them.
    honest: Vec<u8>,
    /// Folded forms of segments that are not plain ASCII.
    folded: Vec<u8>,
}

/// One segment: where it stands in the path, and where its other forms stand in the buffers.
#[derive(Clone, Copy, Debug)]
struct Span {
    raw: Range,
    raw_folded: Option<Range>,
    honest: Option<Range>,
    honest_folded: Option<Range>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    start: usize,
    end: usize,
}

impl Range {
    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

fn append(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Range {
    let start = buffer.len();
    write(buffer);
    Range { start, end: buffer.len() }
}

impl Segments {
    /// Splits `path`, which begins with a slash.
    pub(crate) fn split(&mut self, path: &[u8], escaped: EscapedSet) {
        self.spans.clear();
        self.honest.clear();
        self.folded.clear();
        let mut start = 1;
        for part in path.get(1..).unwrap_or_default().split(|byte| *byte == b'/') {
            let raw = Range { start, end: start + part.len() };
            start = raw.end + 1;
            let span = self.prepare(part, raw, escaped);
            self.spans.push(span);
        }
    }

    fn prepare(&mut self, part: &[u8], raw: Range, escaped: EscapedSet) -> Span {
        let mut span = Span { raw, raw_folded: None, honest: None, honest_folded: None };
        if !part.is_ascii() {
            span.raw_folded = Some(append(&mut self.folded, |out| fold_into(part, out)));
        }
        if part.contains(&b'%') {
            let honest = append(&mut self.honest, |out| undo_honest_escapes(part, escaped, out));
            let text = honest.of(&self.honest);
            if text != part {
                span.honest = Some(honest);
                span.honest_folded = Some(append(&mut self.folded, |out| fold_into(text, out)));
            }
        }
        span
    }

    /// How many segments there are; at least one.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether the segment at `index` is there and not empty.
    pub(crate) fn is_filled(&self, index: usize) -> bool {
        self.spans.get(index).is_some_and(|span| span.raw.start < span.raw.end)
    }

    /// Whether the segment at `index` of `path` (the one that was split) is `literal`.
    pub(crate) fn equals(
        &self,
        index: usize,
        path: &[u8],
        literal: &Literal,
        letters: Letters,
    ) -> bool {
        let Some(span) = self.spans.get(index) else { return false };
        let raw = span.raw.of(path);
        match letters {
            Letters::Exact => {
                raw == &*literal.plain
                    || span.honest.is_some_and(|at| at.of(&self.honest) == &*literal.plain)
            }
            Letters::Folded => {
                let as_is = match span.raw_folded {
                    Some(at) => at.of(&self.folded) == &*literal.folded,
                    None => raw.eq_ignore_ascii_case(&literal.folded),
                };
                as_is
                    || span.honest_folded.is_some_and(|at| at.of(&self.folded) == &*literal.folded)
            }
        }
    }
}

fn undo_honest_escapes(part: &[u8], escaped: EscapedSet, out: &mut Vec<u8>) {
    let mut rest = part;
    while let Some((&byte, tail)) = rest.split_first() {
        match hex_pair(tail) {
            Some((value, after)) if byte == b'%' && escaped.allows(value) => {
                out.push(value);
                rest = after;
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
}
