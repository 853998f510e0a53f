//! Rows on their way to a sink: some blocks of the source, and where in them each numbered row stands.
//!
//! In: blocks. Out: rows with their numbers, and the ranges they make up. Always holds: within one stream the numbers rise; a row
//! that was taken before is not in it; an open row is not in it.

use std::collections::HashMap;
use std::sync::Arc;

use super::source::{Position, SourceBlock};
use crate::row::{self, Malformed, Origin, Row};

/// The rows of one shard in one start of the node: what numbers count in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// Random number of the start.
    pub epoch: u64,
    /// The shard.
    pub shard: u16,
}

/// Numbers of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The stream.
    pub stream: Stream,
    /// The first number.
    pub from: u64,
    /// The number after the last.
    pub to: u64,
}

/// Where in a batch a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowAt {
    /// Its number.
    pub seq: u64,
    /// Index into [`Batch::streams`].
    pub stream: u32,
    block: u32,
    offset: u32,
    length: u32,
}

/// The next number of each stream, and when it was last met: what is older is forgotten first.
#[derive(Clone, Debug, Default)]
pub(crate) struct NextNumbers {
    numbers: HashMap<Stream, (u64, u64)>,
    turn: u64,
}

impl NextNumbers {
    /// Streams that are remembered. A node makes as many as it has shards, at each start.
    const STREAMS_MAX: usize = 4_096;

    pub(crate) fn get(&self, stream: Stream) -> Option<u64> {
        self.numbers.get(&stream).map(|(next, _)| *next)
    }

    pub(crate) fn set(&mut self, stream: Stream, next: u64) {
        self.turn += 1;
        self.numbers.insert(stream, (next, self.turn));
        if self.numbers.len() > Self::STREAMS_MAX {
            let oldest = self.numbers.iter().min_by_key(|(_, (_, turn))| *turn);
            if let Some(stream) = oldest.map(|(stream, _)| *stream) {
                self.numbers.remove(&stream);
            }
        }
    }

    /// Oldest first.
    pub(crate) fn list(&self) -> Vec<(Stream, u64)> {
        let mut all: Vec<_> = self.numbers.iter().collect();
        all.sort_by_key(|(_, (_, turn))| *turn);
        all.into_iter().map(|(stream, (next, _))| (*stream, *next)).collect()
    }
}

/// Rows on their way to a sink.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The node's name.
    pub node: Arc<str>,
    /// Where in the source it begins.
    pub start: Position,
    /// Where it ends.
    pub end: Position,
    /// The streams its rows are of.
    pub streams: Vec<Stream>,
    /// Its rows, in the order of the source.
    pub rows: Vec<RowAt>,
    /// Bytes of its blocks.
    pub bytes: usize,
    /// The first and the last time of its rows, Unix nanoseconds.
    pub times_ns: Option<(i64, i64)>,
    /// Where the sink's position was lost: the batch may have been brought long ago, and others after it.
    pub may_be_old: bool,
    blocks: Vec<Vec<u8>>,
}

/// What became of a block that was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Added {
    /// Rows that were numbered and are not there any more.
    pub lost: u64,
    /// Bytes after the last that could be read as a row.
    pub unreadable: usize,
}

impl Batch {
    /// No rows yet.
    #[must_use]
    pub fn new(node: Arc<str>, start: Position) -> Self {
        Self {
            node,
            start,
            end: start,
            streams: Vec::new(),
            rows: Vec::new(),
            bytes: 0,
            times_ns: None,
            may_be_old: false,
            blocks: Vec::new(),
        }
    }

    /// Of one block.
    #[must_use]
    pub fn of_block(node: &str, block: SourceBlock) -> Self {
        let mut batch = Self::new(node.into(), Position::default());
        batch.add(block, &mut NextNumbers::default());
        batch
    }

    /// Whether the source has not gone on.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.end == self.start
    }

    /// Adds the rows of a block that were not taken before, and moves `next` on. A number of a known stream that is passed over
    /// is a row lost.
    pub(crate) fn add(&mut self, block: SourceBlock, next: &mut NextNumbers) -> Added {
        let stream = Stream { epoch: block.epoch, shard: block.shard };
        let known = next.get(stream);
        let expected = known.unwrap_or(block.first_seq);
        let mut added =
            Added { lost: block.first_seq.saturating_sub(expected), ..Added::default() };
        let index = self.stream_index(stream);
        let at = u32::try_from(self.blocks.len()).unwrap_or(u32::MAX);
        let (mut offset, mut seq, before) = (0, block.first_seq, self.rows.len());
        while let Some(rest) = block.rows.get(offset..).filter(|rest| !rest.is_empty()) {
            let Ok(length) = row::length(rest) else {
                added.unreadable = rest.len();
                break;
            };
            if !row::is_open(rest) {
                if seq >= expected {
                    let time_ns = row::time_ns(rest).unwrap_or_default();
                    let (first, last) = self.times_ns.unwrap_or((time_ns, time_ns));
                    self.times_ns = Some((first.min(time_ns), last.max(time_ns)));
                    self.rows.push(RowAt {
                        seq,
                        stream: index,
                        block: at,
                        offset: u32::try_from(offset).unwrap_or(u32::MAX),
                        length: u32::try_from(length).unwrap_or(u32::MAX),
                    });
                }
                seq += 1;
            }
            offset += length;
        }
        if seq > expected || known.is_none() {
            next.set(stream, seq.max(expected));
        }
        self.end = block.end;
        if self.rows.len() > before {
            self.bytes += block.rows.len();
            self.blocks.push(block.rows);
        }
        added
    }

    fn stream_index(&mut self, stream: Stream) -> u32 {
        let found = self.streams.iter().position(|known| *known == stream);
        let index = found.unwrap_or_else(|| {
            self.streams.push(stream);
            self.streams.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// A row, read.
    ///
    /// # Errors
    /// When its bytes are no row.
    pub fn read(&self, at: &RowAt) -> Result<Row<'_>, Malformed> {
        row::read(self.bytes_of(at)).map(|(row, _)| row)
    }

    /// A row's bytes.
    #[must_use]
    pub fn bytes_of(&self, at: &RowAt) -> &[u8] {
        let (offset, length) = (at.offset as usize, at.length as usize);
        let block = self.blocks.get(at.block as usize);
        block.and_then(|block| block.get(offset..offset + length)).unwrap_or_default()
    }

    /// A row's stream.
    #[must_use]
    pub fn stream_of(&self, at: &RowAt) -> Stream {
        self.streams
            .get(at.stream as usize)
            .copied()
            .unwrap_or(Stream { epoch: 0, shard: u16::MAX })
    }

    /// Where a row is from.
    #[must_use]
    pub fn origin_of(&self, at: &RowAt) -> Origin<'_> {
        let Stream { epoch, shard } = self.stream_of(at);
        Origin { node: &self.node, epoch, shard, seq: at.seq }
    }

    /// The numbers of its rows, one range a stream.
    #[must_use]
    pub fn ranges(&self) -> Vec<Range> {
        let mut bounds: Vec<Option<(u64, u64)>> = vec![None; self.streams.len()];
        for row in &self.rows {
            if let Some(bound) = bounds.get_mut(row.stream as usize) {
                let (from, to) = bound.get_or_insert((row.seq, row.seq + 1));
                (*from, *to) = ((*from).min(row.seq), (*to).max(row.seq + 1));
            }
        }
        let streams = self.streams.iter().zip(bounds);
        streams
            .filter_map(|(stream, bound)| {
                bound.map(|(from, to)| Range { stream: *stream, from, to })
            })
            .collect()
    }
}

/// The rows of a batch that a sink has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    ranges: Vec<Range>,
}

impl Held {
    /// Of ranges in any order, overlapping or not.
    #[must_use]
    pub fn new(mut ranges: Vec<Range>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.stream == range.stream && range.from <= last.to => {
                    last.to = last.to.max(range.to);
                }
                _ => joined.push(range),
            }
        }
        Self { ranges: joined }
    }

    /// Of single numbers.
    pub fn of_numbers(numbers: impl IntoIterator<Item = (Stream, u64)>) -> Self {
        let mut ranges: Vec<Range> = Vec::new();
        for (stream, seq) in numbers {
            match ranges.last_mut() {
                Some(last) if last.stream == stream && last.to == seq => last.to += 1,
                _ => ranges.push(Range { stream, from: seq, to: seq + 1 }),
            }
        }
        Self::new(ranges)
    }

    /// Whether the sink has this row.
    #[must_use]
    pub fn contains(&self, stream: Stream, seq: u64) -> bool {
        let after =
            self.ranges.partition_point(|range| (range.stream, range.from) <= (stream, seq));
        let range = after.checked_sub(1).and_then(|index| self.ranges.get(index));
        range.is_some_and(|range| range.stream == stream && seq < range.to)
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
