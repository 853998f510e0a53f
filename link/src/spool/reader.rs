//! Reads the spool, in the process that writes it or in another, from a position on.
//!
//! In: a folder and a position. Out: blocks in order, and what is missing between them. Always holds: what is not written whole
//! yet is not an error; what is missing is said; at most one block is in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::Position;
use super::error::{Error, Loss};
use super::format::{self, BlockHead, SEGMENT_HEAD_BYTES, SegmentHead};
use super::segments::{Found, RowRange, Window, examine, list, path_of};
use crate::disk::DiskFile;
use crate::row::{self, Stage};

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub enum Item<'a> {
    /// A block.
    Block(Block<'a>),
    /// Something is missing here.
    Lost(Loss),
}

/// A block that was read.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Where it begins.
    pub start: Position,
    /// Where it ends: a reader opened there reads what follows.
    pub end: Position,
    /// The node that wrote it.
    pub node: &'a str,
    /// What it says of its rows.
    pub head: BlockHead,
    /// Its rows, back to back.
    pub bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// Its rows, each with its number; an open one has none.
    #[must_use]
    pub fn rows(&self) -> Rows<'a> {
        Rows { bytes: self.bytes, seq: self.head.first_seq }
    }
}

/// The rows of a block. An item is the row's number, where it has one, and its bytes for [`row::read`].
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    bytes: &'a [u8],
    seq: u64,
}

impl<'a> Iterator for Rows<'a> {
    type Item = (Option<u64>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (row, rest) = self.bytes.split_at_checked(row::length(self.bytes).ok()?)?;
        self.bytes = rest;
        if row::stage(row) == Some(Stage::Open) {
            return Some((None, row));
        }
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        Some((Some(seq), row))
    }
}

/// A segment that is being read.
#[derive(Debug)]
struct Current {
    file: File,
    number: u64,
    node: String,
}

/// What [`Reader::step`] found.
enum Step {
    Nothing,
    Lost(Loss),
    Block(Position, BlockHead),
}

/// Reads the spool.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    /// What was read up to here.
    position: Position,
    current: Option<Current>,
    window: Window,
    /// The rows in the window are those of the block that was given last.
    is_given: bool,
    /// The number that should come next, by (epoch, shard).
    expected: HashMap<(u64, u16), u64>,
}

impl Reader {
    /// A reader from `from` on. The folder may be empty, or missing: nothing is there to read yet, then.
    #[must_use]
    pub fn open(folder: impl Into<PathBuf>, from: Position) -> Self {
        Self {
            folder: folder.into(),
            position: from,
            current: None,
            window: Window::default(),
            is_given: false,
            expected: HashMap::new(),
        }
    }

    /// Tells which number of a shard comes next, so that rows that are missing before the first one read are noticed.
    pub fn expect(&mut self, epoch: u64, shard: u16, next_seq: u64) {
        self.expected.insert((epoch, shard), next_seq);
    }

    /// What was read ends here.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next block, or what is missing before it; `None` while there is no more.
    ///
    /// # Errors
    /// When the disk fails, or a segment is of another version. The same is tried again with the next call.
    #[expect(clippy::should_implement_trait, reason = "its items borrow from it")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, Error> {
        self.next_within(Position { segment: u64::MAX, offset: u64::MAX })
    }

    /// As [`next`](Self::next), but nothing that ends after `limit`: what is durable, for who sends rows elsewhere.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_within(&mut self, limit: Position) -> Result<Option<Item<'_>>, Error> {
        self.is_given = false;
        let (start, head) = match self.step(limit)? {
            Step::Nothing => return Ok(None),
            Step::Lost(loss) => return Ok(Some(Item::Lost(loss))),
            Step::Block(start, head) => (start, head),
        };
        self.is_given = true;
        Ok(Some(Item::Block(Block {
            start,
            end: self.position,
            node: self.current.as_ref().map_or("", |current| current.node.as_str()),
            head,
            bytes: self.window.rows(),
        })))
    }

    /// The rows of the block that was given last, to keep; once.
    #[must_use]
    pub fn take_rows(&mut self) -> Vec<u8> {
        if std::mem::take(&mut self.is_given) { self.window.take_rows() } else { Vec::new() }
    }

    fn step(&mut self, limit: Position) -> Result<Step, Error> {
        loop {
            if self.position >= limit {
                return Ok(Step::Nothing);
            }
            if self.current.is_none() {
                match self.enter()? {
                    Some(Step::Nothing) => return Ok(Step::Nothing),
                    Some(step) => return Ok(step),
                    None => {}
                }
            }
            match self.look()? {
                Found::Whole(head) => return Ok(self.take(head, limit)),
                Found::Damaged(head) => {
                    if !self.is_over(head.block_bytes())? {
                        return Ok(Step::Nothing);
                    }
                    if !matches!(self.look()?, Found::Damaged(_)) {
                        continue;
                    }
                    return Ok(self.skip(head.block_bytes(), Some(RowRange::of(&head.head))));
                }
                Found::End => {
                    let Some(next) = self.successor()? else { return Ok(Step::Nothing) };
                    // What was seen before it was known that no more would come is looked at again.
                    if !matches!(self.look()?, Found::End) {
                        continue;
                    }
                    self.leave(next);
                }
                Found::Broken => {
                    if self.successor()?.is_none() {
                        return Ok(Step::Nothing);
                    }
                    if !matches!(self.look()?, Found::Broken) {
                        continue;
                    }
                    let bytes = self.length()?.saturating_sub(self.position.offset);
                    return Ok(self.skip(bytes, None));
                }
            }
        }
    }

    /// Opens the segment of the position, or the one that comes after what is gone. `None` when it is there.
    fn enter(&mut self) -> Result<Option<Step>, Error> {
        let wanted = self.position;
        let Some((numbers, number, file)) = self.find(wanted.segment)? else {
            return Ok(Some(Step::Nothing));
        };
        let path = path_of(&self.folder, number);
        let failed = |source| Error::io("cannot read", &path, source);
        let mut head = [0; SEGMENT_HEAD_BYTES as usize];
        let read = DiskFile::read_at(&file, &mut head, 0).map_err(failed)?;
        let length = file.length().map_err(failed)?;
        let node = match format::read_segment_head(head.get(..read).unwrap_or_default(), number) {
            SegmentHead::Known(node) => node,
            SegmentHead::OtherVersion(found) => {
                return Err(Error::Version { path, found, known: format::VERSION });
            }
            SegmentHead::Damaged => {
                let Some(next) = numbers.iter().find(|next| **next > number) else {
                    return Ok(Some(Step::Nothing));
                };
                self.position = Position::start_of(*next);
                let at = Position { segment: number, offset: 0 };
                return Ok(Some(Step::Lost(Loss::Damaged { at, bytes: length, rows: None })));
            }
        };
        self.window.forget();
        self.current = Some(Current { file, number, node });
        if number == wanted.segment && wanted.offset <= length {
            self.position.offset = wanted.offset.max(SEGMENT_HEAD_BYTES);
            return Ok(None);
        }
        self.position = Position::start_of(number);
        let is_gap = wanted != Position::START;
        Ok(is_gap.then_some(Step::Lost(Loss::Gone { from: wanted, to: self.position })))
    }

    /// All segments, and the one to read where `wanted` should be; `None` where there are none.
    fn find(&self, wanted: u64) -> Result<Option<(Vec<u64>, u64, File)>, Error> {
        loop {
            let numbers = match list(&self.folder) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    return Ok(None);
                }
                numbers => numbers?,
            };
            let Some(oldest) = numbers.first() else { return Ok(None) };
            let number = *numbers.iter().find(|number| **number >= wanted).unwrap_or(oldest);
            let path = path_of(&self.folder, number);
            match File::open(&path) {
                Ok(file) => return Ok(Some((numbers, number, file))),
                // Dropped this moment: what is left is looked at again.
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::io("cannot read", &path, source)),
            }
        }
    }

    /// What stands at the position. What is not a whole block is looked at twice, since the writer may have written it anew.
    fn look(&mut self) -> Result<Found, Error> {
        let Some(current) = &self.current else { return Ok(Found::End) };
        let (number, offset) = (current.number, self.position.offset);
        let mut found = examine(&mut self.window, &current.file, number, offset);
        if !matches!(found, Ok(Found::Whole(_))) {
            self.window.forget();
            found = examine(&mut self.window, &current.file, number, offset);
        }
        found.map_err(|source| Error::io("cannot read", &path_of(&self.folder, number), source))
    }

    fn take(&mut self, found: format::ReadHead, limit: Position) -> Step {
        let start = self.position;
        let end = Position { offset: start.offset + found.block_bytes(), ..start };
        if end > limit {
            return Step::Nothing;
        }
        let head = found.head;
        let expected = self.expected.entry((head.epoch, head.shard)).or_insert(head.first_seq);
        let (missing_from, range) = (*expected, RowRange::of(&head));
        *expected = range.end_seq().max(missing_from);
        if missing_from < head.first_seq {
            // The next call finds the same block, and what it expects after it.
            let rows = head.first_seq - missing_from;
            return Step::Lost(Loss::Rows(RowRange { first_seq: missing_from, rows, ..range }));
        }
        self.position = end;
        Step::Block(start, head)
    }

    fn skip(&mut self, bytes: u64, rows: Option<RowRange>) -> Step {
        let at = self.position;
        self.position.offset += bytes;
        if let Some(range) = rows {
            let expected = self.expected.entry((range.epoch, range.shard)).or_default();
            *expected = range.end_seq().max(*expected);
        }
        Step::Lost(Loss::Damaged { at, bytes, rows })
    }

    /// Whether the segment goes on after a block of so many bytes, so that the block will not be written anew.
    fn is_over(&self, block_bytes: u64) -> Result<bool, Error> {
        Ok(self.length()? > self.position.offset + block_bytes || self.successor()?.is_some())
    }

    fn length(&self) -> Result<u64, Error> {
        let Some(current) = &self.current else { return Ok(0) };
        current.file.length().map_err(|source| {
            Error::io("cannot read", &path_of(&self.folder, current.number), source)
        })
    }

    /// The segment after the current one.
    fn successor(&self) -> Result<Option<u64>, Error> {
        let after = self.position.segment;
        if path_of(&self.folder, after + 1).exists() {
            return Ok(Some(after + 1));
        }
        Ok(list(&self.folder)?.into_iter().find(|number| *number > after))
    }

    fn leave(&mut self, next: u64) {
        // Were there segments between, they would be gone; `enter` says so.
        let after = self.position.segment + 1;
        self.position = Position::start_of(after.min(next));
        self.current = None;
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
