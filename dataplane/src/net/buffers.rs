//! Provided buffers: memory that the kernel picks from when data has arrived, so that a connection which waits holds none.
//!
//! In: buffers given back. Out: received bytes. Always holds: a buffer is either the kernel's (in the group's ring) or
//! owned by exactly one `RecvBuf`; when a group runs dry a receive falls back to memory of its own.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Which buffers a receive picks from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// For request heads: most fit in one.
    Small,
    /// For responses and bodies: the fewer system calls a MiB, the better.
    Large,
}

/// Length in bytes of a buffer received into when a group is dry.
const FALLBACK_BYTES: usize = 16 * 1024;

impl Group {
    pub(super) const fn id(self) -> u16 {
        match self {
            Self::Small => 0,
            Self::Large => 1,
        }
    }
}

/// Times that a group may double before receives fall back to memory of their own.
const DOUBLINGS_MAX: u16 = 5;

/// Memory mapped for this process alone, unmapped on drop.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast())
            .map(|start| Self { start, len })
            .ok_or_else(|| io::Error::other("mmap gave address zero"))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is the one mapped in `new`, and every `RecvBuf` into it holds the group alive.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// One provided-buffer ring and the memory behind it.
pub(super) struct BufferGroup {
    ring: Mapping,
    /// One piece each time the group grew, of as many buffers as there were at first.
    memory: RefCell<Vec<Mapping>>,
    /// Entries of the ring; a power of two.
    entries: u16,
    /// Buffers of one piece.
    piece: u16,
    buffer_bytes: usize,
    tail: Cell<u16>,
}

impl BufferGroup {
    /// Maps `count` (a power of two) buffers of `buffer_bytes` and registers them as `group`.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        group: Group,
        count: u16,
        buffer_bytes: usize,
    ) -> io::Result<Rc<Self>> {
        let entries = count << DOUBLINGS_MAX;
        let this = Self {
            ring: Mapping::new(usize::from(entries) * size_of::<BufRingEntry>())?,
            memory: RefCell::new(Vec::new()),
            entries,
            piece: count,
            buffer_bytes,
            tail: Cell::new(0),
        };
        // SAFETY: the ring's memory holds `entries` entries, is page-aligned (mmap) and lives until the io-uring ring is
        // dropped: `Ring` drops its io-uring before its groups.
        unsafe {
            submitter.register_buf_ring_with_flags(
                this.ring.start.as_ptr() as u64,
                entries,
                group.id(),
                0,
            )?;
        }
        if !this.grow() {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        Ok(Rc::new(this))
    }

    /// Adds a piece; whether there was room for one, in the ring and in memory.
    pub(super) fn grow(&self) -> bool {
        let mut memory = self.memory.borrow_mut();
        let pieces = u16::try_from(memory.len()).unwrap_or(u16::MAX);
        if pieces >= 1 << DOUBLINGS_MAX {
            return false;
        }
        let Ok(mapping) = Mapping::new(usize::from(self.piece) * self.buffer_bytes) else {
            return false;
        };
        memory.push(mapping);
        drop(memory);
        for id in 0..self.piece {
            self.give_back(pieces * self.piece + id);
        }
        true
    }

    fn address(&self, id: u16) -> *mut u8 {
        let memory = self.memory.borrow();
        let start = memory[usize::from(id / self.piece)].start;
        // SAFETY: a piece's mapping holds `piece * buffer_bytes` bytes, and the remainder is below `piece`. Mappings stay
        // where they are when the list of them moves.
        unsafe { start.as_ptr().add(usize::from(id % self.piece) * self.buffer_bytes) }
    }

    /// Hands buffer `id` to the kernel.
    fn give_back(&self, id: u16) {
        let tail = self.tail.get();
        let index = usize::from(tail & (self.entries - 1));
        let base = self.ring.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `index < entries`, the entry lies in the mapping; the kernel reads entries only below the published tail.
        // The tail shares the first entry's reserved field, which the setters leave alone.
        unsafe {
            let entry = &mut *base.add(index);
            entry.set_addr(self.address(id) as u64);
            entry.set_len(u32::try_from(self.buffer_bytes).unwrap_or(u32::MAX));
            entry.set_bid(id);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: `tail` points into the mapping, 2-byte aligned; the kernel reads it with acquire semantics.
        unsafe {
            (*BufRingEntry::tail(base).cast::<AtomicU16>())
                .store(self.tail.get(), Ordering::Release);
        }
    }

    /// Takes ownership of buffer `id`, which a completion said holds `len` bytes.
    pub(super) fn take(self: &Rc<Self>, id: u16, len: usize) -> RecvBuf {
        RecvBuf { memory: Memory::Provided { group: Rc::clone(self), id }, start: 0, end: len }
    }
}

enum Memory {
    Provided { group: Rc<BufferGroup>, id: u16 },
    Owned(Vec<u8>),
}

/// Received bytes. Given back to its group on drop.
pub struct RecvBuf {
    memory: Memory,
    start: usize,
    end: usize,
}

impl RecvBuf {
    /// Memory of its own for a receive that found its group dry.
    pub(super) fn fallback_memory() -> Vec<u8> {
        vec![0; FALLBACK_BYTES]
    }

    /// The first `len` bytes of `memory`.
    #[must_use]
    pub fn owned(memory: Vec<u8>, len: usize) -> Self {
        let end = len.min(memory.len());
        Self { memory: Memory::Owned(memory), start: 0, end }
    }

    /// A copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self::owned(bytes.to_vec(), bytes.len())
    }

    /// These bytes and those of `more` as one. What was gathered before is not copied again while there is room.
    #[must_use]
    pub fn joined(mut self, more: &[u8]) -> Self {
        let (start, end) = (self.start, self.end);
        if let Memory::Owned(memory) = &mut self.memory {
            memory.truncate(end);
            // What was consumed goes: on a connection that is never quite empty it would pile up.
            memory.drain(..start);
            memory.extend_from_slice(more);
            let memory = std::mem::take(memory);
            let len = memory.len();
            return Self::owned(memory, len);
        }
        let mut memory = Vec::with_capacity((self.len() + more.len()).next_power_of_two());
        memory.extend_from_slice(&self);
        memory.extend_from_slice(more);
        let len = memory.len();
        Self::owned(memory, len)
    }

    /// Leaves out the first `count` bytes, at most all.
    pub fn advance(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Keeps the first `count` bytes.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start.saturating_add(count));
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            // SAFETY: the buffer is ours until drop, `end <= buffer_bytes` as the kernel wrote that many bytes, and the
            // group (so the mapping) is held alive.
            Memory::Provided { group, id } => unsafe {
                std::slice::from_raw_parts(
                    group.address(*id).add(self.start),
                    self.end - self.start,
                )
            },
            Memory::Owned(memory) => &memory[self.start..self.end],
        }
    }
}

impl DerefMut for RecvBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            // SAFETY: as in `deref`; a buffer has one owner, so nobody else looks at it meanwhile.
            Memory::Provided { group, id } => unsafe {
                std::slice::from_raw_parts_mut(
                    group.address(*id).add(self.start),
                    self.end - self.start,
                )
            },
            Memory::Owned(memory) => &mut memory[self.start..self.end],
        }
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        if let Memory::Provided { group, id } = &self.memory {
            group.give_back(*id);
        }
    }
}
