//! The bytes of a segment: its head, and the heads of the blocks that follow.
//!
//! In: what stands in a head. Out: its bytes, and back. Always holds: a head has a checksum of its own, so that a block's length
//! can be believed, and stepped over, even where its rows are damaged.
//!
//! Rows are packed by LZ4, where that makes them shorter, after four bytes that say how long they are: they resemble each other so
//! much that an eighth is left, and what is not written costs the disk, and the core that shares its time with a shard, nothing.
//!
//! All numbers are little-endian. A format that reads differently gets a new version; magic, version, checksum and their places
//! in the segment's head stay as they are for ever, so that any version can be named.

use std::fmt;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use crate::row::{self, Stage};

/// Bytes of a segment before its first block.
pub const SEGMENT_HEAD_BYTES: u64 = 256;
/// Bytes of a block before its rows.
pub const BLOCK_HEAD_BYTES: usize = 64;
/// No block is longer, its head included.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// No block holds more bytes of rows, packed or not: what a reader holds in memory.
pub const BLOCK_ROWS_BYTES_MAX: usize = BLOCK_BYTES_MAX - BLOCK_HEAD_BYTES;
/// The longest name of a node.
pub const NODE_BYTES_MAX: usize = 200;
/// The format that is written, and the only one read.
pub const VERSION: u32 = 2;

const SEGMENT_MAGIC: [u8; 8] = *b"PAYSPOOL";
const BLOCK_MAGIC: [u8; 4] = *b"PBLK";

mod segment_at {
    pub(super) const VERSION: usize = 8;
    pub(super) const CHECKSUM: usize = 12;
    pub(super) const SEGMENT: usize = 16;
    pub(super) const NODE_LENGTH: usize = 24;
    pub(super) const NODE: usize = 26;
}

mod block_at {
    /// Of everything in the head after it.
    pub(super) const CHECKSUM: usize = 4;
    pub(super) const LENGTH: usize = 8;
    pub(super) const ROWS_CHECKSUM: usize = 12;
    /// The segment's number, so that a block is only believed where it was written.
    pub(super) const SEGMENT: usize = 16;
    pub(super) const EPOCH: usize = 24;
    pub(super) const FIRST_SEQ: usize = 32;
    pub(super) const RING_POSITION: usize = 40;
    pub(super) const TIME: usize = 48;
    pub(super) const ROWS: usize = 56;
    pub(super) const SHARD: usize = 60;
    /// Two bytes: [`PLAIN`](super::PLAIN) or [`LZ4`](super::LZ4).
    pub(super) const PACKING: usize = 62;
}

/// Rows as they are.
const PLAIN: u16 = 0;
/// Their length in four bytes, and the rows as one LZ4 block.
const LZ4: u16 = 1;

/// What a block says of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    /// Random number of the start that decided the rows.
    pub epoch: u64,
    /// The shard that decided them.
    pub shard: u16,
    /// The number of the first numbered row, or of the next one where there is none.
    pub first_seq: u64,
    /// Numbered rows: done or cut. Open rows are not counted.
    pub rows: u32,
    /// How far the shard's ring is consumed with this block.
    pub ring_position: u64,
    /// When it was written, Unix nanoseconds.
    pub time_ns: i64,
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SegmentHead {
    /// One that can be read; the node's name.
    Known(String),
    /// Whole, but in another format.
    OtherVersion(u32),
    /// No head.
    Damaged,
}

fn put<const N: usize>(to: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = to.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = bytes;
    }
}

fn array<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    from.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// The head of a segment. `node` is at most [`NODE_BYTES_MAX`] bytes long.
pub(super) fn segment_head(segment: u64, node: &str) -> [u8; SEGMENT_HEAD_BYTES as usize] {
    let mut head = [0; SEGMENT_HEAD_BYTES as usize];
    put(&mut head, 0, SEGMENT_MAGIC);
    put(&mut head, segment_at::VERSION, VERSION.to_le_bytes());
    put(&mut head, segment_at::SEGMENT, segment.to_le_bytes());
    let length = u16::try_from(node.len()).unwrap_or(u16::MAX);
    put(&mut head, segment_at::NODE_LENGTH, length.to_le_bytes());
    for (place, byte) in head.iter_mut().skip(segment_at::NODE).zip(node.bytes()) {
        *place = byte;
    }
    let checksum = crc32fast::hash(&head);
    put(&mut head, segment_at::CHECKSUM, checksum.to_le_bytes());
    head
}

/// Reads the head of the segment with this number.
pub(super) fn read_segment_head(bytes: &[u8], segment: u64) -> SegmentHead {
    let Some(head) = bytes.first_chunk::<{ SEGMENT_HEAD_BYTES as usize }>() else {
        return SegmentHead::Damaged;
    };
    let mut head = *head;
    let checksum = u32::from_le_bytes(array(&head, segment_at::CHECKSUM));
    put(&mut head, segment_at::CHECKSUM, [0; 4]);
    if array(&head, 0) != SEGMENT_MAGIC || crc32fast::hash(&head) != checksum {
        return SegmentHead::Damaged;
    }
    let version = u32::from_le_bytes(array(&head, segment_at::VERSION));
    if version != VERSION {
        return SegmentHead::OtherVersion(version);
    }
    let length = usize::from(u16::from_le_bytes(array(&head, segment_at::NODE_LENGTH)));
    let node = head
        .get(segment_at::NODE..segment_at::NODE + length.min(NODE_BYTES_MAX))
        .and_then(|node| std::str::from_utf8(node).ok());
    match node {
        Some(node)
            if u64::from_le_bytes(array(&head, segment_at::SEGMENT)) == segment
                && length <= NODE_BYTES_MAX =>
        {
            SegmentHead::Known(node.to_owned())
        }
        _ => SegmentHead::Damaged,
    }
}

/// Rows as they are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    bytes: &'a [u8],
    packing: u16,
}

impl<'a> Stored<'a> {
    /// What follows the head.
    pub(super) const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the block, head and rows.
    pub(super) const fn block_bytes(self) -> u64 {
        (BLOCK_HEAD_BYTES + self.bytes.len()) as u64
    }
}

/// Packs rows, in memory that is used again.
#[derive(Default)]
pub(super) struct Packer {
    /// As long as the longest so far may have been.
    bytes: Vec<u8>,
    table: Option<CompressTable>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// At most [`BLOCK_ROWS_BYTES_MAX`] bytes of rows; no more come out.
    pub(super) fn pack<'a>(&'a mut self, rows: &'a [u8]) -> Stored<'a> {
        let plain = Stored { bytes: rows, packing: PLAIN };
        let Ok(length) = u32::try_from(rows.len()) else { return plain };
        let longest = size_of::<u32>() + get_maximum_output_size(rows.len());
        if self.bytes.len() < longest {
            self.bytes.resize(longest, 0);
        }
        let Some((before, packed)) = self.bytes.split_first_chunk_mut() else { return plain };
        *before = length.to_le_bytes();
        let head_bytes = before.len();
        let table = self.table.get_or_insert_with(CompressTable::large);
        match compress_into_with_table(rows, packed, table) {
            Ok(packed) if head_bytes + packed < rows.len() => {
                Stored { bytes: &self.bytes[..head_bytes + packed], packing: LZ4 }
            }
            _ => plain,
        }
    }
}

/// The head of a block.
pub(super) fn block_head(
    segment: u64,
    block: &BlockHead,
    stored: Stored<'_>,
) -> [u8; BLOCK_HEAD_BYTES] {
    let mut head = [0; BLOCK_HEAD_BYTES];
    put(&mut head, 0, BLOCK_MAGIC);
    let length = u32::try_from(stored.bytes.len()).unwrap_or(u32::MAX);
    put(&mut head, block_at::LENGTH, length.to_le_bytes());
    put(&mut head, block_at::ROWS_CHECKSUM, crc32fast::hash(stored.bytes).to_le_bytes());
    put(&mut head, block_at::SEGMENT, segment.to_le_bytes());
    put(&mut head, block_at::EPOCH, block.epoch.to_le_bytes());
    put(&mut head, block_at::FIRST_SEQ, block.first_seq.to_le_bytes());
    put(&mut head, block_at::RING_POSITION, block.ring_position.to_le_bytes());
    put(&mut head, block_at::TIME, block.time_ns.to_le_bytes());
    put(&mut head, block_at::ROWS, block.rows.to_le_bytes());
    put(&mut head, block_at::SHARD, block.shard.to_le_bytes());
    put(&mut head, block_at::PACKING, stored.packing.to_le_bytes());
    let checksum = head_checksum(&head);
    put(&mut head, block_at::CHECKSUM, checksum.to_le_bytes());
    head
}

fn head_checksum(head: &[u8; BLOCK_HEAD_BYTES]) -> u32 {
    crc32fast::hash(head.get(block_at::LENGTH..).unwrap_or_default())
}

/// A block's head as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadHead {
    pub(super) head: BlockHead,
    /// Bytes after it.
    pub(super) length: usize,
    checksum: u32,
    packing: u16,
}

impl ReadHead {
    /// Bytes of the block, head and rows.
    pub(super) fn block_bytes(&self) -> u64 {
        (BLOCK_HEAD_BYTES + self.length) as u64
    }

    /// Whether these are the bytes the head was written with; `rows` are what they hold then.
    pub(super) fn unpack(&self, stored: &[u8], rows: &mut Vec<u8>) -> bool {
        rows.clear();
        if stored.len() != self.length || crc32fast::hash(stored) != self.checksum {
            return false;
        }
        let is_unpacked = match self.packing {
            PLAIN => {
                rows.extend_from_slice(stored);
                true
            }
            LZ4 => unpack(stored, rows),
            _ => false,
        };
        is_unpacked && numbered(rows) == Some(self.head.rows)
    }
}

/// Unpacks rows into `rows`, which are empty.
fn unpack(stored: &[u8], rows: &mut Vec<u8>) -> bool {
    let Some((length, packed)) = stored.split_first_chunk() else { return false };
    let length = u32::from_le_bytes(*length) as usize;
    if length > BLOCK_ROWS_BYTES_MAX {
        return false;
    }
    rows.resize(length, 0);
    decompress_into(packed, rows).is_ok_and(|unpacked| unpacked == length)
}

/// The head that `bytes` begin with, where it is one of this segment.
pub(super) fn read_block_head(bytes: &[u8], segment: u64) -> Option<ReadHead> {
    let bytes = bytes.first_chunk::<BLOCK_HEAD_BYTES>()?;
    let is_ours = array(bytes, 0) == BLOCK_MAGIC
        && u32::from_le_bytes(array(bytes, block_at::CHECKSUM)) == head_checksum(bytes)
        && u64::from_le_bytes(array(bytes, block_at::SEGMENT)) == segment;
    let length = u32::from_le_bytes(array(bytes, block_at::LENGTH)) as usize;
    if !is_ours || length > BLOCK_ROWS_BYTES_MAX {
        return None;
    }
    Some(ReadHead {
        head: BlockHead {
            epoch: u64::from_le_bytes(array(bytes, block_at::EPOCH)),
            shard: u16::from_le_bytes(array(bytes, block_at::SHARD)),
            first_seq: u64::from_le_bytes(array(bytes, block_at::FIRST_SEQ)),
            rows: u32::from_le_bytes(array(bytes, block_at::ROWS)),
            ring_position: u64::from_le_bytes(array(bytes, block_at::RING_POSITION)),
            time_ns: i64::from_le_bytes(array(bytes, block_at::TIME)),
        },
        length,
        checksum: u32::from_le_bytes(array(bytes, block_at::ROWS_CHECKSUM)),
        packing: u16::from_le_bytes(array(bytes, block_at::PACKING)),
    })
}

/// How many of these rows are numbered; `None` where they are not rows, back to back.
pub(super) fn numbered(mut rows: &[u8]) -> Option<u32> {
    let mut numbered = 0;
    while !rows.is_empty() {
        numbered += u32::from(row::stage(rows)? != Stage::Open);
        rows = rows.get(row::length(rows).ok()?..)?;
    }
    Some(numbered)
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
