//! The durable part of the journal: numbered rows in segments on disk, written by one thread, read by many.
//!
//! In: blocks of rows of one shard each. Out: segments in a folder, and readers of them. Always holds: a block is there whole or
//! not at all; what [`Tail::position`] passes is durable; a segment goes only as a whole, the oldest first, never before use is
//! checkpointed past it, and with a word on what was in it; damage is named and stepped over.
//!
//! A segment is not preallocated: its length is then the end of its blocks, which readers in other processes go by, and a file
//! system says that it is full when a block is written, where the caller can wait with the block in hand.

mod error;
mod format;
mod open;
mod reader;
mod segments;
mod sync;
mod tail;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

pub use error::{Error, Loss};
pub use format::{
    BLOCK_BYTES_MAX, BLOCK_HEAD_BYTES, BLOCK_ROWS_BYTES_MAX, BlockHead, NODE_BYTES_MAX,
    SEGMENT_HEAD_BYTES,
};
pub use open::{Opened, Torn};
pub use reader::{Block, Item, Reader, Rows};
pub use segments::{RowRange, extent};
pub use sync::{SyncDone, SyncJob};
pub use tail::Tail;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskFile};
use format::{Packer, Stored};
use segments::{add_range, path_of};

/// A place between two blocks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The segment's number, from 1; 0 stands for before everything.
    pub segment: u64,
    /// Bytes of the segment before it.
    pub offset: u64,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self { segment: 0, offset: 0 };

    /// Before the first block of a segment.
    #[must_use]
    pub const fn start_of(segment: u64) -> Self {
        Self { segment, offset: SEGMENT_HEAD_BYTES }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.segment, self.offset)
    }
}

/// Where and how much.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the segments; made where it is missing, for its owner alone.
    pub folder: PathBuf,
    /// Bytes after which a segment is full; lowered to a quarter of `bytes_max` where that is less.
    pub segment_bytes: u64,
    /// Bytes of all segments; past it the oldest go.
    pub bytes_max: u64,
    /// No segment that is made gets a lower number: [`Recovered::next_segment`](crate::recover::Recovered), so that positions
    /// kept elsewhere never mean another spool's. 0 where nothing is known.
    pub first_segment: u64,
}

impl Config {
    /// Bytes of a segment that suit most: half a million rows, after which a checkpoint can stand.
    pub const SEGMENT_BYTES: u64 = 16 << 20;

    fn segment_bytes(&self) -> u64 {
        self.segment_bytes.min(self.bytes_max / 4)
    }
}

/// A segment that is gone, or a part of one that was lost: those who send rows count what they had not taken yet as lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its number.
    pub segment: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The rows that were in it.
    pub ranges: Vec<RowRange>,
    /// Its blocks could not be read, so `ranges` may lack some.
    pub incomplete: bool,
}

/// A segment that is there.
#[derive(Debug)]
struct Segment {
    bytes: u64,
    /// Its rows, where this process has written or read all of them.
    ranges: Option<Vec<RowRange>>,
}

/// The writer. One a folder.
#[derive(Debug)]
pub struct Spool {
    config: Config,
    node: String,
    disk: Arc<dyn Disk>,
    /// Holds others off as long as it is open.
    _lock: File,
    file: Arc<dyn DiskFile>,
    current: u64,
    /// The end of the last whole block of the current segment.
    length: u64,
    /// `length` when the segment was begun: open rows were written anew until there.
    base: u64,
    /// Up to here the current segment is durable.
    synced: u64,
    /// There may be bytes past `length`.
    is_ragged: bool,
    /// The system failed to make bytes durable, and may have forgotten that it should.
    is_doubtful: bool,
    /// The current segment's name is durable.
    is_named: bool,
    segments: BTreeMap<u64, Segment>,
    /// Segments below may go.
    checkpointed: u64,
    dropped: Vec<Dropped>,
    tail: Arc<Tail>,
    packer: Packer,
}

impl Spool {
    /// Appends a block: `rows` back to back, `head.rows` of them numbered. All or nothing: after an error the same block may be
    /// appended again later. The end of the block.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full or fails, [`Error::AtCap`], [`Error::Invalid`] when `rows` are not as said.
    pub fn append(&mut self, head: &BlockHead, rows: &[u8]) -> Result<Position, Error> {
        check_block(head, rows)?;
        let mut packer = std::mem::take(&mut self.packer);
        let appended = self.append_stored(head, packer.pack(rows));
        self.packer = packer;
        appended
    }

    fn append_stored(&mut self, head: &BlockHead, stored: Stored<'_>) -> Result<Position, Error> {
        self.make_room(stored.block_bytes())?;
        let written = self.mend().and_then(|()| {
            write_block(self.file.as_ref(), self.length, (self.current, head), stored)
                .map_err(|source| self.failed("cannot write", source))
        });
        self.length += match written {
            Ok(bytes) => bytes,
            Err(error) => {
                self.is_ragged = true;
                // Best at once, for who reads along; else before the next block.
                let _ = self.mend();
                return Err(error);
            }
        };
        let segment = self.segments.entry(self.current).or_insert_with(Segment::empty);
        segment.bytes = self.length;
        add_range(segment.ranges.get_or_insert_default(), head);
        let position = self.position();
        self.tail.append(position);
        Ok(position)
    }

    /// Makes durable what was appended; the position up to which everything is.
    ///
    /// # Errors
    /// When the disk fails: nothing is known of what was appended since the last time, and the next call writes it once more.
    pub fn sync(&mut self) -> Result<Position, Error> {
        if !self.is_named {
            let folder = &self.config.folder;
            let synced = self.disk.sync_folder(folder);
            synced.map_err(|source| Error::io("cannot make durable", folder, source))?;
            self.is_named = true;
        } else if self.synced == self.length {
            return Ok(self.position());
        }
        if self.is_doubtful {
            self.write_again()?;
        }
        if self.synced < self.length
            && let Err(source) = self.file.sync()
        {
            self.is_doubtful = true;
            return Err(self.failed("cannot make durable", source));
        }
        self.is_doubtful = false;
        self.synced = self.length;
        let position = self.position();
        self.tail.sync(position);
        Ok(position)
    }

    /// Whether the current segment is full, so that it is time for [`rotate`](Self::rotate). Appending goes on until then.
    #[must_use]
    pub fn needs_rotation(&self) -> bool {
        let full = self.config.segment_bytes();
        // What rotation itself wrote never asks for the next one.
        self.length >= full && self.length - self.base >= full / 2
    }

    /// Begins the next segment with the rows of requests that are still open, so that they do not hold the segments before it.
    /// Each item is a block as for [`append`](Self::append); `head.rows` is 0. All that was appended is durable then. The start of
    /// the new segment: where a checkpoint of all rows before may stand.
    ///
    /// # Errors
    /// As [`append`](Self::append). Either segment may then be the current one; it is appended to further, and no checkpoint is
    /// made of this.
    pub fn rotate<'a>(
        &mut self,
        open_rows: impl IntoIterator<Item = (BlockHead, &'a [u8])>,
    ) -> Result<Position, Error> {
        self.sync()?;
        self.mend()?;
        let new = open::create_segment(
            self.disk.as_ref(),
            &self.config.folder,
            (self.current + 1).max(self.config.first_segment),
            &self.node,
            open_rows,
        )?;
        self.begin(new);
        self.sync()?;
        let _ = self.make_room(0);
        Ok(Position::start_of(self.current))
    }

    /// Use of all rows before `position` is checkpointed and durable: segments before it may go when the cap wants it. Until the
    /// first call none does.
    pub fn checkpointed(&mut self, position: Position) {
        self.checkpointed = self.checkpointed.max(position.segment);
        let _ = self.make_room(0);
    }

    /// Drops the segments that end before `position` and before the last checkpoint, and never the current one.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn drop_before(&mut self, position: Position) -> Result<(), Error> {
        while let Some(oldest) = self.droppable().filter(|oldest| *oldest < position.segment) {
            self.drop_segment(oldest)?;
        }
        Ok(())
    }

    /// What was dropped since the last call.
    pub fn take_dropped(&mut self) -> Vec<Dropped> {
        std::mem::take(&mut self.dropped)
    }

    /// The end of the last block.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { segment: self.current, offset: self.length }
    }

    /// Up to here everything is durable.
    #[must_use]
    pub fn synced(&self) -> Position {
        self.tail.position()
    }

    /// Bytes in all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// How many segments there are, and the oldest one's number.
    #[must_use]
    pub fn segments(&self) -> (usize, u64) {
        (self.segments.len(), self.segments.keys().next().copied().unwrap_or(self.current))
    }

    /// What readers in this process go by.
    #[must_use]
    pub fn tail(&self) -> Arc<Tail> {
        Arc::clone(&self.tail)
    }

    /// Where the segments are.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        &self.config.folder
    }

    /// Goes on in a segment that was just made.
    fn begin(&mut self, new: open::NewSegment) {
        let open::NewSegment { segment, file, length } = new;
        self.file = Arc::from(file);
        self.current = segment;
        self.length = length;
        self.base = length;
        self.synced = length;
        self.is_ragged = false;
        self.is_doubtful = false;
        self.is_named = false;
        self.segments.insert(segment, Segment { bytes: length, ranges: Some(Vec::new()) });
        self.tail.append(self.position());
    }

    /// Cuts what a failed write has left.
    fn mend(&mut self) -> Result<(), Error> {
        if self.is_ragged {
            self.file
                .set_length(self.length)
                .map_err(|source| self.failed("cannot cut", source))?;
            self.is_ragged = false;
        }
        Ok(())
    }

    /// Writes once more what may not have become durable: after a failure the system counts its pages as clean.
    fn write_again(&mut self) -> Result<(), Error> {
        let read = |source| self.failed("cannot read", source);
        let found = segments::walk(self.file.as_ref(), self.current, self.synced).map_err(read)?;
        let mut bytes = Vec::new();
        let mut at = self.synced;
        while at < found.whole_until {
            let length = usize::try_from(found.whole_until - at).unwrap_or(usize::MAX);
            bytes.resize(length.min(BLOCK_BYTES_MAX), 0);
            let length = self.file.read_at(&mut bytes, at).map_err(read)?;
            if length == 0 {
                break;
            }
            bytes.truncate(length);
            self.file.write_at(&bytes, at).map_err(|source| self.failed("cannot write", source))?;
            at += length as u64;
        }
        if found.whole_until < self.length {
            self.lose(found.whole_until, &found.ranges)?;
        }
        Ok(())
    }

    /// Blocks that the system lost between append and sync: gone, and said so.
    fn lose(&mut self, whole_until: u64, kept: &[RowRange]) -> Result<(), Error> {
        let bytes = self.length - whole_until;
        self.length = whole_until;
        self.tail.append(self.position());
        self.is_ragged = true;
        self.mend()?;
        let mut ranges = Vec::new();
        if let Some(segment) = self.segments.get_mut(&self.current) {
            segment.bytes = whole_until;
            let all = segment.ranges.take().unwrap_or_default();
            for range in all {
                let end = kept
                    .iter()
                    .filter(|kept| (kept.epoch, kept.shard) == (range.epoch, range.shard))
                    .map(RowRange::end_seq)
                    .max()
                    .unwrap_or(range.first_seq)
                    .clamp(range.first_seq, range.end_seq());
                if end < range.end_seq() {
                    ranges.push(RowRange { first_seq: end, rows: range.end_seq() - end, ..range });
                }
            }
        }
        tracing::error!(segment = self.current, bytes, "the disk lost rows of the journal");
        self.dropped.push(Dropped { segment: self.current, bytes, ranges, incomplete: true });
        Ok(())
    }

    /// The oldest segment, where it may go.
    fn droppable(&self) -> Option<u64> {
        let oldest = *self.segments.keys().next()?;
        (oldest < self.current && oldest < self.checkpointed).then_some(oldest)
    }

    /// Drops the oldest segments until `bytes` more fit under the cap.
    fn make_room(&mut self, bytes: u64) -> Result<(), Error> {
        let bytes_max = self.config.bytes_max;
        while self.bytes() + bytes > bytes_max {
            let Some(oldest) = self.droppable() else {
                let folder = self.config.folder.clone();
                return Err(Error::AtCap { folder, bytes: self.bytes(), bytes_max });
            };
            self.drop_segment(oldest)?;
        }
        Ok(())
    }

    fn drop_segment(&mut self, number: u64) -> Result<(), Error> {
        let path = path_of(&self.config.folder, number);
        let Some(segment) = self.segments.get_mut(&number) else { return Ok(()) };
        let known = segment.ranges.take();
        let ranges = match known {
            Some(ranges) => Ok(ranges),
            None => self.disk.open(&path).and_then(|file| segments::ranges(file.as_ref(), number)),
        };
        match self.disk.remove(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                segment.ranges = ranges.ok();
                return Err(Error::io("cannot remove", &path, source));
            }
            _ => {}
        }
        self.dropped.push(Dropped {
            segment: number,
            bytes: segment.bytes,
            incomplete: ranges.is_err(),
            ranges: ranges.unwrap_or_default(),
        });
        self.segments.remove(&number);
        Ok(())
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> Error {
        Error::io(action, &path_of(&self.config.folder, self.current), source)
    }
}

impl Segment {
    fn empty() -> Self {
        Self { bytes: 0, ranges: Some(Vec::new()) }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.tail.close();
    }
}

/// Writes a block of a segment at an offset; its bytes. The rows are not copied for it: they may be a megabyte.
fn write_block(
    file: &dyn DiskFile,
    offset: u64,
    (segment, head): (u64, &BlockHead),
    stored: Stored<'_>,
) -> std::io::Result<u64> {
    let head = format::block_head(segment, head, stored);
    file.write_at(&head, offset)?;
    file.write_at(stored.bytes(), offset + head.len() as u64)?;
    Ok(stored.block_bytes())
}

/// Whether this may become a block.
fn check_block(head: &BlockHead, rows: &[u8]) -> Result<(), Error> {
    if rows.len() > BLOCK_ROWS_BYTES_MAX {
        return Err(Error::Invalid("the rows are more than a block holds"));
    }
    match format::numbered(rows) {
        Some(numbered) if numbered == head.rows => Ok(()),
        Some(_) => Err(Error::Invalid("the block's head does not count its numbered rows")),
        None => Err(Error::Invalid("the block's rows are not rows")),
    }
}

#[cfg(test)]
#[path = "fixture_tests.rs"]
pub(crate) mod fixture;
#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
