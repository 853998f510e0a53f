//! One shard's stream: what its ring says, made into rows and their numbers.
//!
//! In: records of a ring, open rows of an earlier drain. Out: blocks for the spool. Always holds: rows are numbered in the order
//! they leave, without a gap; a record is released only when what it says is in the spool; a block that could not be written is
//! kept and tried again.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use link::checkpoint::{self, StreamEnd};
use link::row::{self, Account};
use link::spool::{BlockHead, Error, Spool};

use super::ring::{Damaged, Reader, Record};

/// Bytes of rows that one block holds, but for the last row.
const BLOCK_BYTES: usize = 256 << 10;

/// The row of a request that is under way.
enum Open {
    /// So many bytes in the ring: it began in what was read for the block.
    InRing(usize),
    /// Also in the spool, as an open one.
    Spooled(Vec<u8>),
}

/// Positions in a ring are multiples of a word and never an attacker's choice.
#[derive(Default)]
struct PositionHasher(u64);

impl Hasher for PositionHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, position: u64) {
        // The odd constant spreads the low bits over all: 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ position).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Rows that leave together.
#[derive(Default)]
struct Block {
    rows: Vec<u8>,
    /// How many of them are numbered.
    numbered: u32,
    charges: Vec<(Account, u64)>,
    /// Requests that began in what was read for this block.
    begun: Vec<u64>,
    begun_bytes: usize,
    /// It is complete: only writing it is left.
    is_closed: bool,
}

impl Block {
    /// Counts the row that begins at `start`, which has ended. False where it is none, which does not stay.
    fn number(&mut self, start: usize) -> bool {
        let row = self.rows.get(start..).unwrap_or_default();
        let Some(gist) = row::gist(row).ok().filter(|_| is_row(row)) else {
            self.rows.truncate(start);
            return false;
        };
        self.numbered += 1;
        let Some(account) = gist.account.filter(|_| gist.charge > 0) else { return true };
        match self.charges.last_mut() {
            Some((last, units)) if *last == account => *units += gist.charge,
            _ => self.charges.push((account, gist.charge)),
        }
        true
    }
}

/// Whether these bytes are a row and nothing else, as far as the spool asks.
fn is_row(bytes: &[u8]) -> bool {
    row::length(bytes) == Ok(bytes.len()) && row::stage(bytes).is_some()
}

/// One shard's stream.
pub(super) struct Stream {
    epoch: u64,
    shard: u16,
    next_seq: u64,
    ring_position: u64,
    reader: Option<Reader>,
    open: HashMap<u64, Open, BuildHasherDefault<PositionHasher>>,
    block: Block,
    /// Ends of requests nobody knows.
    strays: u64,
}

/// What one step came to.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Rows that are numbered now.
    pub(super) rows: u32,
    /// More waits in the ring.
    pub(super) has_more: bool,
}

/// Why a stream does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Spool(#[from] Error),
    #[error(transparent)]
    Ring(#[from] Damaged),
}

/// What is done with rows that have been written.
pub(super) trait Taken {
    /// A unit count that is certain now.
    fn charged(&mut self, account: &Account, units: u64);
    /// The rows of one block, as they are in the spool.
    fn rows(&mut self, head: &BlockHead, rows: &[u8]);
}

impl Stream {
    /// The stream of a shard that begins.
    pub(super) fn new(reader: Reader) -> Self {
        let id = reader.id();
        Self::after(id.epoch, id.shard, 0, Some(reader))
    }

    /// A stream that goes on at `next_seq`; without a reader its ring is gone.
    pub(super) fn after(epoch: u64, shard: u16, next_seq: u64, reader: Option<Reader>) -> Self {
        let ring_position = reader.as_ref().map_or(0, Reader::position);
        Self {
            epoch,
            shard,
            next_seq,
            ring_position,
            reader,
            open: HashMap::default(),
            block: Block::default(),
            strays: 0,
        }
    }

    /// Takes over a row that an earlier drain left open.
    pub(super) fn adopt(&mut self, opened_at: u64, row: Vec<u8>) {
        self.open.insert(opened_at, Open::Spooled(row));
    }

    /// Decisions that found no room in the ring.
    pub(super) fn lost(&self) -> u64 {
        self.reader.as_ref().map_or(0, Reader::lost)
    }

    /// Bytes that wait in the ring.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.reader.as_ref().map_or(0, Reader::waiting_bytes)
    }

    /// Which stream it is, and how far it is in the spool.
    pub(super) fn progress(&self) -> (checkpoint::Stream, StreamEnd) {
        let stream = checkpoint::Stream { epoch: self.epoch, shard: self.shard };
        (stream, StreamEnd { next_seq: self.next_seq, ring_position: self.ring_position })
    }

    /// Requests that are under way.
    pub(super) fn open_requests(&self) -> usize {
        self.open.len()
    }

    /// Ends of requests nobody knows.
    pub(super) fn strays(&self) -> u64 {
        self.strays
    }

    /// Moves one block's worth from the ring to the spool.
    pub(super) fn step(
        &mut self,
        spool: &mut Spool,
        now_ns: i64,
        taken: &mut impl Taken,
    ) -> Result<Written, StreamError> {
        let damaged = if self.block.is_closed { None } else { self.fill().err() };
        let rows = self.write(spool, now_ns, taken)?;
        if let Some(damaged) = damaged {
            // What stands behind it cannot be found: the ring is taken as read.
            self.reader = None;
            return Err(damaged.into());
        }
        Ok(Written { rows, has_more: self.waiting_bytes() > 0 })
    }

    /// Ends every request that is still open as cut off: the process that had it is gone.
    pub(super) fn cut(
        &mut self,
        spool: &mut Spool,
        now_ns: i64,
        taken: &mut impl Taken,
    ) -> Result<(), StreamError> {
        self.write(spool, now_ns, taken)?;
        let mut left: Vec<u64> = self.open.keys().copied().collect();
        left.sort_unstable();
        for opened_at in left {
            if let Some(Open::Spooled(mut row)) = self.open.remove(&opened_at)
                && row::write_cut(&mut row)
            {
                let start = self.block.rows.len();
                self.block.rows.extend_from_slice(&row);
                self.block.number(start);
            }
            if self.block.rows.len() >= BLOCK_BYTES {
                self.write(spool, now_ns, taken)?;
            }
        }
        self.write(spool, now_ns, taken)?;
        Ok(())
    }

    /// The open rows, in blocks: for a segment that begins.
    pub(super) fn open_blocks(&self, now_ns: i64) -> Vec<(BlockHead, Vec<u8>)> {
        let mut blocks = Vec::new();
        let mut rows = Vec::new();
        for open in self.open.values() {
            let Open::Spooled(row) = open else { continue };
            rows.extend_from_slice(row);
            if rows.len() >= BLOCK_BYTES {
                blocks.push((self.head(0, self.ring_position, now_ns), std::mem::take(&mut rows)));
            }
        }
        // One at least, so that the segment says where the stream stands.
        blocks.push((self.head(0, self.ring_position, now_ns), rows));
        blocks
    }

    fn head(&self, rows: u32, ring_position: u64, time_ns: i64) -> BlockHead {
        BlockHead {
            epoch: self.epoch,
            shard: self.shard,
            first_seq: self.next_seq,
            rows,
            ring_position,
            time_ns,
        }
    }

    /// Takes records until the block is full or the ring empty.
    fn fill(&mut self) -> Result<(), Damaged> {
        let Some(mut reader) = self.reader.take() else { return Ok(()) };
        let filled = self.fill_from(&mut reader);
        self.reader = Some(reader);
        filled
    }

    fn fill_from(&mut self, reader: &mut Reader) -> Result<(), Damaged> {
        let Self { open, block, strays, .. } = self;
        while block.rows.len() + block.begun_bytes < BLOCK_BYTES {
            let start = block.rows.len();
            match reader.next(&mut block.rows)? {
                None => break,
                Some(Record::Begin { opened_at, bytes }) => {
                    block.begun_bytes += bytes;
                    block.begun.push(opened_at);
                    open.insert(opened_at, Open::InRing(bytes));
                }
                Some(Record::Whole) => {
                    block.number(start);
                }
                Some(Record::End(opened_at, ended)) => {
                    let is_there = match open.remove(&opened_at) {
                        Some(Open::InRing(bytes)) => {
                            reader.copy_begun((opened_at, bytes), &mut block.rows)
                        }
                        Some(Open::Spooled(row)) => {
                            block.rows.extend_from_slice(&row);
                            true
                        }
                        None => false,
                    };
                    let row = block.rows.get_mut(start..).unwrap_or_default();
                    if !(is_there && row::write_end(row, &ended) && block.number(start)) {
                        block.rows.truncate(start);
                        *strays += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds to the block the rows of requests that began in it and go on.
    fn close(&mut self) {
        let Block { rows, begun, .. } = &mut self.block;
        for opened_at in begun.drain(..) {
            let Some(open) = self.open.get_mut(&opened_at) else { continue };
            let Open::InRing(bytes) = *open else { continue };
            let start = rows.len();
            let reader = self.reader.as_ref();
            let is_there = reader.is_some_and(|reader| reader.copy_begun((opened_at, bytes), rows));
            let row = rows.get(start..).unwrap_or_default();
            if is_there && is_row(row) {
                *open = Open::Spooled(row.to_vec());
            } else {
                rows.truncate(start);
                self.open.remove(&opened_at);
            }
        }
        self.block.is_closed = true;
    }

    /// Writes the block.
    fn write(
        &mut self,
        spool: &mut Spool,
        now_ns: i64,
        taken: &mut impl Taken,
    ) -> Result<u32, Error> {
        if !self.block.is_closed {
            self.close();
        }
        let read_to = self.reader.as_ref().map_or(self.ring_position, Reader::position);
        let head = self.head(self.block.numbered, read_to, now_ns);
        if !self.block.rows.is_empty() {
            spool.append(&head, &self.block.rows)?;
            for (account, units) in &self.block.charges {
                taken.charged(account, *units);
            }
            taken.rows(&head, &self.block.rows);
        }
        if let Some(reader) = &self.reader {
            reader.release();
        }
        self.ring_position = read_to;
        self.next_seq += u64::from(head.rows);
        let Block { rows, charges, .. } = &mut self.block;
        rows.clear();
        charges.clear();
        (self.block.numbered, self.block.begun_bytes, self.block.is_closed) = (0, 0, false);
        Ok(head.rows)
    }
}
