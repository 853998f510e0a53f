//! The segments in a folder, and what lies in one of them.
//!
//! In: a folder, files. Out: their numbers, blocks found whole or damaged, ranges of rows. Always holds: a file is read through a
//! window of bounded size; nothing is believed without its checksum.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::format::{self, BLOCK_BYTES_MAX, BLOCK_HEAD_BYTES, BlockHead, SEGMENT_HEAD_BYTES};
use crate::disk::DiskFile;

/// Bytes read at a time where blocks are small. A large one is read once its head has said how large, so that no byte of it is
/// read twice.
const READ_AHEAD_BYTES: usize = 8 << 10;
const DIGITS: usize = 16;

/// Consecutive rows of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowRange {
    /// Random number of the start that decided them.
    pub epoch: u64,
    /// The shard that decided them.
    pub shard: u16,
    /// The first one's number.
    pub first_seq: u64,
    /// How many they are.
    pub rows: u64,
}

impl RowRange {
    pub(super) fn of(head: &BlockHead) -> Self {
        let BlockHead { epoch, shard, first_seq, rows, .. } = *head;
        Self { epoch, shard, first_seq, rows: u64::from(rows) }
    }

    /// The number after the last one.
    #[must_use]
    pub fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.rows)
    }
}

/// Adds a block's rows to ranges that are kept as few as can be.
pub(super) fn add_range(ranges: &mut Vec<RowRange>, head: &BlockHead) {
    let new = RowRange::of(head);
    if new.rows == 0 {
        return;
    }
    let same = |range: &&mut RowRange| (range.epoch, range.shard) == (new.epoch, new.shard);
    match ranges.iter_mut().rev().find(same) {
        Some(range) if range.end_seq() == new.first_seq => range.rows += new.rows,
        _ => ranges.push(new),
    }
}

/// Where the segment with this number is kept.
pub(super) fn path_of(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:016}.spool"))
}

/// Numbers of the segments in a folder, ascending. Other files are left alone.
pub(super) fn list(folder: &Path) -> Result<Vec<u64>, Error> {
    let failed = |source| Error::io("cannot list", folder, source);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".spool"));
        let is_number = |number: &&str| {
            number.len() == DIGITS && number.bytes().all(|digit| digit.is_ascii_digit())
        };
        if let Some(Ok(number)) = number.filter(is_number).map(str::parse) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The numbers of the oldest and the newest segment in a folder; `None` where there is none, or no folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn extent(folder: &Path) -> Result<Option<(u64, u64)>, Error> {
    match list(folder) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        numbers => {
            let numbers = numbers?;
            Ok(numbers.first().copied().zip(numbers.last().copied()))
        }
    }
}

/// A part of a file, held in memory, and the rows of the block that was found in it last.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    at: u64,
    rows: Vec<u8>,
}

impl Window {
    /// Bytes of the file from `offset`: `wanted` of them (at most [`BLOCK_BYTES_MAX`]), fewer where the file ends.
    pub(super) fn view(
        &mut self,
        file: &dyn DiskFile,
        offset: u64,
        wanted: usize,
    ) -> io::Result<&[u8]> {
        let wanted = wanted.min(BLOCK_BYTES_MAX);
        if self.held(offset, wanted).len() < wanted {
            let length = wanted.max(READ_AHEAD_BYTES);
            if self.bytes.capacity() < length {
                // The system's memory is blank as it comes.
                self.bytes = vec![0; length];
            } else {
                self.bytes.resize(length, 0);
            }
            self.at = offset;
            let read = file.read_at(&mut self.bytes, offset);
            self.bytes.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        Ok(self.held(offset, wanted))
    }

    /// What is in memory of these bytes.
    pub(super) fn held(&self, offset: u64, wanted: usize) -> &[u8] {
        let start = offset.checked_sub(self.at).and_then(|start| usize::try_from(start).ok());
        let held = start.and_then(|start| self.bytes.get(start..)).unwrap_or_default();
        held.get(..wanted).unwrap_or(held)
    }

    /// The rows of the block that was found whole last.
    pub(super) fn rows(&self) -> &[u8] {
        &self.rows
    }

    /// The same, to keep; not copied where they fill their memory.
    pub(super) fn take_rows(&mut self) -> Vec<u8> {
        if self.rows.len() * 2 > self.rows.capacity() {
            return std::mem::take(&mut self.rows);
        }
        self.rows.clone()
    }

    /// Unpacks the rows of this head; whether they are what was written, and how many of their bytes are in memory.
    fn unpack(&mut self, head: &format::ReadHead, offset: u64) -> (bool, usize) {
        let mut rows = std::mem::take(&mut self.rows);
        let stored = self.held(offset, head.length);
        let unpacked = (head.unpack(stored, &mut rows), stored.len());
        self.rows = rows;
        unpacked
    }

    /// Forgets what was read, since the writer may have cut and written it anew.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
    }
}

/// What stands at a place of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// The end of the file.
    End,
    /// A block; its rows are in the window.
    Whole(format::ReadHead),
    /// A block whose rows are not what was written, and all of whose bytes are there.
    Damaged(format::ReadHead),
    /// No block, or not all of it.
    Broken,
}

/// Looks at the block at `offset`.
pub(super) fn examine(
    window: &mut Window,
    file: &dyn DiskFile,
    segment: u64,
    offset: u64,
) -> io::Result<Found> {
    let bytes = window.view(file, offset, BLOCK_HEAD_BYTES)?;
    if bytes.is_empty() {
        return Ok(Found::End);
    }
    let Some(head) = format::read_block_head(bytes, segment) else { return Ok(Found::Broken) };
    let rows_at = offset + BLOCK_HEAD_BYTES as u64;
    window.view(file, rows_at, head.length)?;
    Ok(match window.unpack(&head, rows_at) {
        (true, _) => Found::Whole(head),
        (false, held) if held == head.length => Found::Damaged(head),
        (false, _) => Found::Broken,
    })
}

/// What a walk through a segment found.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The end of the last whole block; the head's end where there is none.
    pub(super) whole_until: u64,
    /// Rows of whole blocks.
    pub(super) ranges: Vec<RowRange>,
    /// Damaged blocks that whole ones follow: place, and what they held.
    pub(super) damaged: Vec<(u64, format::ReadHead)>,
}

/// Reads a segment from `offset` to the end of its last whole block.
pub(super) fn walk(file: &dyn DiskFile, segment: u64, offset: u64) -> io::Result<Contents> {
    let mut window = Window::default();
    let mut contents = Contents { whole_until: offset, ..Contents::default() };
    let mut doubtful = Vec::new();
    let mut at = offset;
    loop {
        match examine(&mut window, file, segment, at)? {
            Found::Whole(head) => {
                add_range(&mut contents.ranges, &head.head);
                contents.damaged.append(&mut doubtful);
                at += head.block_bytes();
                contents.whole_until = at;
            }
            Found::Damaged(head) => {
                doubtful.push((at, head));
                at += head.block_bytes();
            }
            Found::End | Found::Broken => return Ok(contents),
        }
    }
}

/// The ranges of rows in a segment by the heads of its blocks alone: a few reads of few bytes.
pub(super) fn ranges(file: &dyn DiskFile, segment: u64) -> io::Result<Vec<RowRange>> {
    let mut ranges = Vec::new();
    let mut at = SEGMENT_HEAD_BYTES;
    let mut bytes = [0; BLOCK_HEAD_BYTES];
    loop {
        let read = file.read_at(&mut bytes, at)?;
        let head = bytes.get(..read).and_then(|bytes| format::read_block_head(bytes, segment));
        let Some(head) = head else { return Ok(ranges) };
        add_range(&mut ranges, &head.head);
        at += head.block_bytes();
    }
}
