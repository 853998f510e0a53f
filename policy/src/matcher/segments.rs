//! One spelling of a path, split at slashes and prepared for comparison with literals.
//!
//! In: a path. Out: its segments, each in the forms that a literal may equal.
//! Always holds: the forms are those of [`super::literal`]; a path of ASCII without escapes is not copied, and nothing
//! is allocated once the buffers have grown.

use super::bytes::hex_pair;
use super::fold::fold_into;
use super::literal::{EscapedSet, Letters, Literal};

/// The segments of one path. Reused from path to path.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    spans: Vec<Span>,
    forms: Vec<Forms>,
    /// Segments with their honest escapes undone, where that changes them.
    honest: Vec<u8>,
    /// Folded forms of segments that are not plain ASCII.
    folded: Vec<u8>,
    /// The whole path, each segment in the form nearest to a literal; empty if that is the path itself.
    canonical: Vec<u8>,
}

/// Where a segment stands in the path, and in `forms` if it has other forms.
#[derive(Clone, Copy, Debug)]
struct Span {
    raw: Range,
    forms: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Forms {
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
    /// Splits `path`, which begins with a slash. `is_literal`: it is ASCII without escapes.
    pub(crate) fn split(&mut self, path: &[u8], is_literal: bool, escaped: EscapedSet) {
        self.spans.clear();
        self.forms.clear();
        self.honest.clear();
        self.folded.clear();
        self.canonical.clear();
        let mut start = 1;
        for part in path.get(1..).unwrap_or_default().split(|byte| *byte == b'/') {
            let raw = Range { start, end: start + part.len() };
            start = raw.end + 1;
            let forms = if is_literal { None } else { self.add_forms(part, escaped) };
            self.spans.push(Span { raw, forms });
        }
    }

    fn add_forms(&mut self, part: &[u8], escaped: EscapedSet) -> Option<u32> {
        let mut forms = Forms::default();
        if !part.is_ascii() {
            forms.raw_folded = Some(append(&mut self.folded, |out| fold_into(part, out)));
        }
        if part.contains(&b'%') {
            let honest = append(&mut self.honest, |out| undo_honest_escapes(part, escaped, out));
            let text = honest.of(&self.honest);
            if text != part {
                forms.honest = Some(honest);
                forms.honest_folded = Some(append(&mut self.folded, |out| fold_into(text, out)));
            }
        }
        if forms.raw_folded.is_none() && forms.honest.is_none() {
            return None;
        }
        self.forms.push(forms);
        u32::try_from(self.forms.len() - 1).ok()
    }

    /// Writes the text that [`Self::canonical`] shows, honest escapes undone and, if so asked, letters folded.
    pub(crate) fn write_canonical(&mut self, path: &[u8], letters: Letters) {
        self.canonical.clear();
        for span in &self.spans {
            let forms = self.forms_of(*span);
            let honest = forms.honest.map(|at| at.of(&self.honest));
            let folded = forms.honest_folded.or(forms.raw_folded).map(|at| at.of(&self.folded));
            let other = if letters == Letters::Folded { folded } else { honest };
            self.canonical.push(b'/');
            self.canonical.extend_from_slice(other.unwrap_or_else(|| span.raw.of(path)));
        }
    }

    /// The path as a literal prefix that holds no percent sign would begin it, capitals of ASCII apart.
    pub(crate) fn canonical<'a>(&'a self, path: &'a [u8]) -> &'a [u8] {
        if self.canonical.is_empty() { path } else { &self.canonical }
    }

    /// How many segments there are; at least one.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether the segment at `index` is there and not empty.
    pub(crate) fn is_filled(&self, index: usize) -> bool {
        self.spans.get(index).is_some_and(|span| span.raw.start < span.raw.end)
    }

    fn forms_of(&self, span: Span) -> Forms {
        span.forms.and_then(|at| self.forms.get(at as usize)).copied().unwrap_or_default()
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
        let forms = self.forms_of(*span);
        match letters {
            Letters::Exact => {
                raw == literal.plain()
                    || forms.honest.is_some_and(|at| at.of(&self.honest) == literal.plain())
            }
            Letters::Folded => {
                let is_folded = |at: Range| at.of(&self.folded) == literal.folded();
                forms
                    .raw_folded
                    .map_or_else(|| raw.eq_ignore_ascii_case(literal.folded()), is_folded)
                    || forms.honest_folded.is_some_and(is_folded)
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
