//! A shard's decision ring: records in shared memory, written by the shard alone and taken by the thread that drains it.
//!
//! In: rows and their ends. Out: the same, in order, also to the process that comes after this one. Always holds: a record is
//! visible only when it is whole; records are never changed; the end of a request that was begun finds room, since that is kept
//! when the request begins, up to half of the ring. Positions are bytes written since the ring was made and only grow.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use link::row::{self, Ended, Opened, ROW_BYTES_MAX};
use policy::decision::Reason;

use crate::net::SharedMemory;

/// Bytes of records a ring holds: at 60,000 decisions a second a third of a second.
pub const RING_BYTES: u64 = 8 << 20;
/// Containers have 64 MiB of shared memory, so a ring may not be much larger.
const CAPACITY_MAX: u64 = 1 << 30;
const MAGIC: u64 = u64::from_le_bytes(*b"PFring\0\x01");
const RECORD_VERSION: u64 = 1;

const HEADER_WORDS: usize = 512;
const RECORD_HEADER_WORDS: usize = 2;
const END_WORDS: usize = 8;
/// What the end of one request takes.
const END_BYTES: u64 = ((RECORD_HEADER_WORDS + END_WORDS) * 8) as u64;

/// Words of the header. What the shard writes and what the drain writes lie in different cache lines.
mod at {
    /// After the magic number.
    pub(super) const NODE: usize = 1;
    pub(super) const EPOCH: usize = 3;
    pub(super) const SHARD: usize = 4;
    /// After the capacity.
    pub(super) const CHECKSUM: usize = 6;
    pub(super) const HEAD: usize = 16;
    pub(super) const LOST: usize = 17;
    pub(super) const TAIL: usize = 32;
}

/// Kinds of records.
mod kind {
    pub(super) const BEGIN: u64 = 1;
    pub(super) const END: u64 = 2;
    pub(super) const WHOLE: u64 = 3;
    /// Nothing, up to the end of the memory.
    pub(super) const PAD: u64 = 4;
}

/// Whose ring it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingId {
    /// The node.
    pub node: u128,
    /// Random number of the node's start.
    pub epoch: u64,
    /// The shard.
    pub shard: u16,
}

/// The memory of a ring.
struct Memory {
    shared: SharedMemory,
    /// Words of records.
    capacity: usize,
}

/// How far ahead of what is read the processor is told to fetch: some records, so that they are there when their turn comes. Most
/// lines are in no cache of the core any more.
const READ_AHEAD_WORDS: usize = 128;

/// Words that most rows fit into, with their header.
const ROW_WORDS_MOSTLY: usize = 40;

impl Memory {
    fn header(&self, at: usize) -> &AtomicU64 {
        &self.shared.words()[at]
    }

    fn records(&self) -> &[AtomicU64] {
        &self.shared.words()[HEADER_WORDS..HEADER_WORDS + self.capacity]
    }

    fn capacity_bytes(&self) -> u64 {
        self.capacity as u64 * 8
    }

    /// Appends the payload of the record that begins at `index`. False where the memory ends before it.
    fn copy_payload(&self, index: usize, bytes: usize, to: &mut Vec<u8>) -> bool {
        let from = index + RECORD_HEADER_WORDS;
        let Some(payload) = self.records().get(from..from + bytes.div_ceil(8)) else {
            return false;
        };
        let start = to.len();
        to.resize(start + payload.len() * 8, 0);
        let places = to.get_mut(start..).map_or(&mut [][..], |to| to.as_chunks_mut::<8>().0);
        for (place, word) in places.iter_mut().zip(payload) {
            *place = word.load(Relaxed).to_le_bytes();
        }
        to.truncate(start + bytes);
        true
    }

    /// Has the processor fetch `words` words from `index` on, as long as the memory goes.
    fn will_read(&self, index: usize, words: usize) {
        if index + words <= self.capacity {
            self.shared.will_read(HEADER_WORDS + index..HEADER_WORDS + index + words);
        }
    }

    /// The index of a position's word.
    fn index(&self, position: u64) -> usize {
        (position / 8) as usize % self.capacity
    }
}

fn id_words(id: &RingId, capacity_bytes: u64) -> [u64; 7] {
    let mut words = [
        MAGIC,
        (id.node >> 64) as u64,
        id.node as u64,
        id.epoch,
        u64::from(id.shard),
        capacity_bytes,
        0,
    ];
    let mut hasher = crc32fast::Hasher::new();
    words[..at::CHECKSUM].iter().for_each(|word| hasher.update(&word.to_le_bytes()));
    words[at::CHECKSUM] = u64::from(hasher.finalize());
    words
}

/// Why a file is no ring.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else, or damaged.
    #[error("it is no decision ring of this version, or damaged")]
    Damaged,
}

/// Makes a ring: the shard's end and the drain's.
///
/// # Errors
/// When there is no room for it.
pub fn create(path: &Path, id: RingId, bytes: u64) -> io::Result<(Writer, Reader)> {
    let capacity = (bytes.min(CAPACITY_MAX) / 8) as usize;
    let shared = SharedMemory::create(path, (HEADER_WORDS + capacity) as u64 * 8)?;
    let memory = Arc::new(Memory { shared, capacity });
    for (at, word) in id_words(&id, memory.capacity_bytes()).into_iter().enumerate() {
        memory.header(at).store(word, Relaxed);
    }
    let writer = Writer {
        memory: Arc::clone(&memory),
        head: 0,
        tail: 0,
        open: 0,
        scratch: Vec::with_capacity(ROW_BYTES_MAX),
    };
    Ok((writer, Reader { memory, id, at: 0, is_inherited: false, checked: Vec::new() }))
}

/// Opens the ring that another process left.
///
/// # Errors
/// When it is none.
pub fn open(path: &Path) -> Result<Reader, OpenError> {
    let shared = SharedMemory::open(path)?;
    if shared.words().len() <= HEADER_WORDS {
        return Err(OpenError::Damaged);
    }
    let capacity = shared.words().len() - HEADER_WORDS;
    let memory = Memory { shared, capacity };
    let word = |at: usize| memory.header(at).load(Relaxed);
    let shard = u16::try_from(word(at::SHARD)).map_err(|_| OpenError::Damaged)?;
    let node = u128::from(word(at::NODE)) << 64 | u128::from(word(at::NODE + 1));
    let id = RingId { node, epoch: word(at::EPOCH), shard };
    let expected = id_words(&id, memory.capacity_bytes());
    if expected.iter().enumerate().any(|(at, expected)| word(at) != *expected) {
        return Err(OpenError::Damaged);
    }
    let (head, tail) = (word(at::HEAD), word(at::TAIL));
    if !head.is_multiple_of(8) || tail > head || head - tail > memory.capacity_bytes() {
        return Err(OpenError::Damaged);
    }
    Ok(Reader { memory: Arc::new(memory), id, at: tail, is_inherited: true, checked: Vec::new() })
}

/// The shard's end.
pub struct Writer {
    memory: Arc<Memory>,
    head: u64,
    /// As last seen; the real one may be further.
    tail: u64,
    /// Requests begun and not ended, for whose ends room is kept.
    open: u64,
    scratch: Vec<u8>,
}

impl Writer {
    /// Whether any decision could be recorded now.
    pub fn has_room(&mut self) -> bool {
        self.fits(ROW_BYTES_MAX as u64 + 2 * END_BYTES)
    }

    /// Records a request that will be forwarded. The record's position, to end it by; `None` where there was no room and the
    /// request is lost from the log.
    pub fn begin(&mut self, opened: &Opened<'_>) -> Option<u64> {
        let mut row = self.blank();
        row::write_open(&mut row, opened);
        let position = self.position_of(row.len());
        let is_named = row::write_opened_at(&mut row, position);
        let has_room = is_named && self.fits(bytes_of(row.len()) + END_BYTES);
        if has_room {
            self.push(kind::BEGIN, &row);
            self.open += 1;
        } else {
            self.lose();
        }
        self.scratch = row;
        has_room.then_some(position)
    }

    /// Records the end of a request. Where that finds no room, the request counts as cut off: charged as it was begun.
    pub fn end(&mut self, opened_at: u64, ended: &Ended) {
        let has = |has: bool, bit: u64| u64::from(has) << bit;
        let how = u64::from(ended.reason as u8)
            | has(ended.status.is_some(), 8)
            | has(ended.remaining.is_some(), 9)
            | has(ended.origin_us.is_some(), 10)
            | u64::from(ended.status.unwrap_or(0)) << 16;
        let words: [u64; END_WORDS] = [
            opened_at,
            how,
            ended.charge,
            ended.remaining.unwrap_or(0),
            ended.request_bytes,
            ended.response_bytes,
            ended.origin_us.unwrap_or(0),
            ended.total_us,
        ];
        let mut bytes = [0; END_WORDS * 8];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.open = self.open.saturating_sub(1);
        if self.left() >= 2 * END_BYTES {
            self.push(kind::END, &bytes);
        } else {
            self.lose();
        }
    }

    /// Records a request that has been answered already. False where it is lost from the log.
    pub fn whole(&mut self, opened: &Opened<'_>, ended: &Ended) -> bool {
        let mut row = self.blank();
        row::write_open(&mut row, opened);
        let position = self.position_of(row.len());
        let is_whole = row::write_opened_at(&mut row, position) && row::write_end(&mut row, ended);
        let has_room = is_whole && self.fits(bytes_of(row.len()));
        if has_room {
            self.push(kind::WHOLE, &row);
        } else {
            self.lose();
        }
        self.scratch = row;
        has_room
    }

    /// Decisions that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.memory.header(at::LOST).load(Relaxed)
    }

    /// Counts a decision that found no room.
    pub fn lose(&self) {
        let lost = self.memory.header(at::LOST);
        lost.store(lost.load(Relaxed) + 1, Relaxed);
    }

    /// The buffer for a row. The ring's memory was written a lap ago, so it is far from the core: it comes while the row is made.
    fn blank(&mut self) -> Vec<u8> {
        let at = HEADER_WORDS + self.memory.index(self.head);
        let end = self.memory.shared.words().len();
        self.memory.shared.will_write(at..(at + ROW_WORDS_MOSTLY).min(end));
        let mut row = std::mem::take(&mut self.scratch);
        row.clear();
        row
    }

    /// Whether so many bytes fit beside the ends of all open requests, wherever the memory's end lies.
    fn fits(&mut self, bytes: u64) -> bool {
        let capacity = self.memory.capacity_bytes();
        let kept = self.open.saturating_mul(END_BYTES).min(capacity / 2);
        // A record that does not fit before the memory's end leaves that unused.
        let needed = kept + 2 * bytes + END_BYTES;
        capacity - (self.head - self.tail) >= needed || self.left() >= needed
    }

    /// Bytes that are free now.
    fn left(&mut self) -> u64 {
        self.tail = self.memory.header(at::TAIL).load(Acquire).min(self.head);
        self.memory.capacity_bytes() - (self.head - self.tail)
    }

    /// Words left before the memory's end.
    fn contiguous(&self) -> usize {
        self.memory.capacity - self.memory.index(self.head)
    }

    /// Where a record with so many bytes of payload would be put.
    fn position_of(&self, payload: usize) -> u64 {
        let left = self.contiguous();
        if left < words_of(payload) { self.head + left as u64 * 8 } else { self.head }
    }

    /// Puts a record, for which there is room.
    fn push(&mut self, kind: u64, payload: &[u8]) {
        let words = words_of(payload.len());
        let left = self.contiguous();
        if left < words {
            let pad = self.memory.index(self.head);
            self.memory.records()[pad].store(header_word(kind::PAD, left * 8), Relaxed);
            self.head += left as u64 * 8;
        }
        let index = self.memory.index(self.head);
        let Some(record) = self.memory.records().get(index..index + words) else { return };
        record[0].store(header_word(kind, payload.len()), Relaxed);
        record[1].store(guard_word(self.head, payload), Relaxed);
        let (whole, rest) = payload.as_chunks::<8>();
        let mut places = record[RECORD_HEADER_WORDS..].iter();
        for (word, place) in whole.iter().zip(&mut places) {
            place.store(u64::from_le_bytes(*word), Relaxed);
        }
        if let Some(place) = places.next() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            place.store(u64::from_le_bytes(last), Relaxed);
        }
        self.head += words as u64 * 8;
        self.memory.header(at::HEAD).store(self.head, Release);
    }
}

const fn words_of(payload: usize) -> usize {
    RECORD_HEADER_WORDS + payload.div_ceil(8)
}

const fn bytes_of(payload: usize) -> u64 {
    (words_of(payload) * 8) as u64
}

const fn header_word(kind: u64, length: usize) -> u64 {
    length as u64 | kind << 32 | RECORD_VERSION << 40
}

/// The checksum of a record's bytes and where it stands, so that what an earlier lap left is never taken for it.
fn guard_word(position: u64, payload: &[u8]) -> u64 {
    u64::from(crc32fast::hash(payload)) | (position / 8) << 32
}

/// One record, taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Record {
    /// The row of a request that was let through: it stands at this position, for [`Reader::copy_begun`].
    Begin {
        /// Names the request.
        opened_at: u64,
        /// Bytes of its row.
        bytes: usize,
    },
    /// The end of the request whose row stands at this position.
    End(u64, Ended),
    /// The row of a request that was answered, appended to the buffer.
    Whole,
}

/// A ring that cannot be read on: memory that was changed by something else.
#[derive(Debug, thiserror::Error)]
#[error("the ring is damaged at position {0}")]
pub struct Damaged(pub u64);

/// The drain's end.
pub struct Reader {
    memory: Arc<Memory>,
    id: RingId,
    at: u64,
    /// Another process wrote it: checksums say whether that came to an end well. Within a process the order of stores does.
    is_inherited: bool,
    /// What was copied to be checked.
    checked: Vec<u8>,
}

impl Reader {
    /// Whose ring it is.
    #[must_use]
    pub const fn id(&self) -> RingId {
        self.id
    }

    /// Up to where records have been taken.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.at
    }

    /// Takes up records from `position`, where that is further than the ring itself says: what is on disk already is not taken
    /// twice. False where the ring does not reach so far.
    pub fn skip_to(&mut self, position: u64) -> bool {
        let head = self.memory.header(at::HEAD).load(Acquire);
        if position > self.at && position <= head {
            self.at = position;
        }
        position <= head
    }

    /// Decisions that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.memory.header(at::LOST).load(Relaxed)
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.memory.header(at::HEAD).load(Acquire).saturating_sub(self.at)
    }

    /// The next record; `None` where all are taken. The row of an answered request is appended to `rows`, and nothing else is.
    ///
    /// # Errors
    /// When what stands there is no record.
    pub fn next(&mut self, rows: &mut Vec<u8>) -> Result<Option<Record>, Damaged> {
        loop {
            let waiting = self.waiting_bytes();
            if waiting == 0 {
                return Ok(None);
            }
            let damaged = Damaged(self.at);
            let index = self.memory.index(self.at);
            let header = self.memory.records()[index].load(Relaxed);
            let (length, kind) = ((header & 0xffff_ffff) as usize, (header >> 32) & 0xff);
            if header >> 40 != RECORD_VERSION {
                return Err(damaged);
            }
            let left = self.memory.capacity - index;
            if kind == kind::PAD {
                if length != left * 8 || length as u64 > waiting {
                    return Err(damaged);
                }
                self.at += length as u64;
                continue;
            }
            let words = words_of(length);
            if length > ROW_BYTES_MAX || words > left || words as u64 * 8 > waiting {
                return Err(damaged);
            }
            self.memory.will_read(index + READ_AHEAD_WORDS, words);
            if !self.is_right(index, length) {
                return Err(damaged);
            }
            let opened_at = self.at;
            let taken = match kind {
                kind::BEGIN => Record::Begin { opened_at, bytes: length },
                kind::WHOLE => {
                    self.memory.copy_payload(index, length, rows);
                    Record::Whole
                }
                kind::END => {
                    let payload = &self.memory.records()[index + RECORD_HEADER_WORDS..];
                    payload
                        .first_chunk()
                        .filter(|_| length == END_WORDS * 8)
                        .and_then(read_end)
                        .ok_or(damaged)?
                }
                _ => return Err(damaged),
            };
            self.at += words as u64 * 8;
            return Ok(Some(taken));
        }
    }

    /// Whether the record there is what was written. Within a process the order of stores says so; what another one wrote may
    /// have come to no end.
    fn is_right(&mut self, index: usize, length: usize) -> bool {
        let guard = self.memory.records().get(index + 1).map_or(0, |word| word.load(Relaxed));
        if !self.is_inherited {
            return guard >> 32 == (self.at / 8) & 0xffff_ffff;
        }
        self.checked.clear();
        self.memory.copy_payload(index, length, &mut self.checked);
        guard == guard_word(self.at, &self.checked)
    }

    /// Appends the row of a request that [`Reader::next`] said begins, as long as it was not released: `begun` is its position
    /// and bytes. False where that is released, or none.
    #[must_use]
    pub fn copy_begun(&self, (opened_at, bytes): (u64, usize), rows: &mut Vec<u8>) -> bool {
        let released = self.memory.header(at::TAIL).load(Relaxed);
        let is_there = (released..self.at).contains(&opened_at);
        let index = self.memory.index(opened_at);
        is_there && self.memory.copy_payload(index, bytes, rows)
    }

    /// Says that everything taken is on disk: the shard may write over it.
    pub fn release(&self) {
        self.memory.header(at::TAIL).store(self.at, Release);
    }
}

fn read_end(words: &[AtomicU64; END_WORDS]) -> Option<Record> {
    let [opened_at, how, charge, remaining, request_bytes, response_bytes, origin_us, total_us] =
        words.each_ref().map(|word| word.load(Relaxed));
    let has = |bit: u64| how >> bit & 1 == 1;
    let ended = Ended {
        reason: *Reason::ALL.get((how & 0xff) as usize)?,
        status: has(8).then_some((how >> 16) as u16),
        charge,
        remaining: has(9).then_some(remaining),
        request_bytes,
        response_bytes,
        origin_us: has(10).then_some(origin_us),
        total_us,
    };
    Some(Record::End(opened_at, ended))
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
