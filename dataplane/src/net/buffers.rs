//! Provided buffers: memory that the kernel picks from when data has arrived, so that a connection which waits holds none.
//!
//! In: buffers given back. Out: received bytes. Always holds: a buffer is the kernel's (in the group's ring), owned by
//! exactly one `RecvBuf`, or set aside without memory; only the kernel takes one out of the ring; when a group that
//! cannot grow runs dry, a receive falls back to memory of its own.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{Submitter, cqueue};

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

/// A group may grow to this power of two times its first size before receives fall back to memory of their own.
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
    /// No page belongs to two buffers, so that each buffer's can be given back alone.
    has_own_pages: bool,
    tail: Cell<u16>,
    /// Buffers that the kernel has picked and nobody has given back.
    picked: Cell<u16>,
    /// The most there were of those, in this span of time and in the one before it.
    picked_most: Cell<(u16, u16)>,
    /// Receives that found no buffer since the group grew.
    dry: Cell<u16>,
    /// Buffers in nobody's hands, without memory until the group grows again.
    aside: RefCell<Vec<u16>>,
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
            has_own_pages: buffer_bytes.is_multiple_of(page_bytes()),
            tail: Cell::new(0),
            picked: Cell::new(0),
            picked_most: Cell::new((0, 0)),
            dry: Cell::new(0),
            aside: RefCell::new(Vec::new()),
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
        if !this.add_piece() {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        Ok(Rc::new(this))
    }

    /// Makes room for the receives that found the group dry since the last time, where there is none yet: with buffers that
    /// were set aside, then with new pieces. Whether there is a buffer to be had.
    pub(super) fn grow(&self) -> bool {
        let wanted = self.dry.replace(0).max(1);
        while self.free() < wanted && (self.put_back() || self.add_piece()) {}
        self.free() > 0
    }

    /// Puts up to a piece's buffers back that were set aside; whether there were any.
    fn put_back(&self) -> bool {
        let mut aside = self.aside.borrow_mut();
        let kept = aside.len().saturating_sub(usize::from(self.piece));
        let back = aside.drain(kept..);
        let any = back.len() > 0;
        back.for_each(|id| self.offer(id));
        any
    }

    /// Adds a piece; whether there was room for one, in the ring and in memory.
    fn add_piece(&self) -> bool {
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
            self.offer(pieces * self.piece + id);
        }
        true
    }

    /// Buffers that are not set aside.
    fn in_use(&self) -> u16 {
        let all = self.memory.borrow().len() * usize::from(self.piece);
        u16::try_from(all - self.aside.borrow().len()).unwrap_or(u16::MAX)
    }

    /// Buffers in the ring.
    fn free(&self) -> u16 {
        self.in_use().saturating_sub(self.picked.get())
    }

    /// Takes note of what a receive came to.
    pub(super) fn note(&self, result: i32, flags: u32) {
        if cqueue::buffer_select(flags).is_some() {
            self.picked.set(self.picked.get().saturating_add(1));
            let (most, before) = self.picked_most.get();
            self.picked_most.set((most.max(self.picked.get()), before));
        } else if result == -libc::ENOBUFS {
            self.dry.set(self.dry.get().saturating_add(1));
        }
    }

    /// How many buffers are more than twice what was needed at once in the span of time that ends now and in the one
    /// before it.
    pub(super) fn surplus(&self) -> u16 {
        let (most, before) = self.picked_most.get();
        self.picked_most.set((self.picked.get(), most));
        // Receives that nobody waited for any more may be among these.
        self.dry.set(0);
        let kept = most.max(before).saturating_mul(2).max(self.piece);
        self.in_use().saturating_sub(kept)
    }

    /// Sets a buffer aside that the kernel has picked for nobody: its pages go back to the system.
    pub(super) fn set_aside(&self, id: u16) {
        if self.has_own_pages {
            // SAFETY: the whole pages of one buffer, which is neither in the ring nor in a `RecvBuf`: nobody reads them
            // before the kernel has written them anew.
            unsafe {
                libc::madvise(self.address(id).cast(), self.buffer_bytes, libc::MADV_DONTNEED)
            };
        }
        self.aside.borrow_mut().push(id);
    }

    fn address(&self, id: u16) -> *mut u8 {
        let memory = self.memory.borrow();
        let start = memory[usize::from(id / self.piece)].start;
        // SAFETY: a piece's mapping holds `piece * buffer_bytes` bytes, and the remainder is below `piece`. Mappings stay
        // where they are when the list of them moves.
        unsafe { start.as_ptr().add(usize::from(id % self.piece) * self.buffer_bytes) }
    }

    /// Hands buffer `id` back to the kernel.
    fn give_back(&self, id: u16) {
        self.picked.set(self.picked.get().saturating_sub(1));
        self.offer(id);
    }

    /// Hands buffer `id` to the kernel.
    fn offer(&self, id: u16) {
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

    /// Bytes of its buffers that are in memory.
    #[cfg(test)]
    pub(super) fn resident_bytes(&self) -> usize {
        let page = page_bytes();
        let resident = |piece: &Mapping| {
            let mut pages = vec![0u8; piece.len.div_ceil(page)];
            // SAFETY: a mapping of ours, and one byte for each of its pages.
            unsafe { libc::mincore(piece.start.as_ptr().cast(), piece.len, pages.as_mut_ptr()) };
            pages.iter().filter(|page| **page & 1 != 0).count() * page
        };
        self.memory.borrow().iter().map(resident).sum()
    }

    /// Takes ownership of buffer `id`, which a completion said holds `len` bytes.
    pub(super) fn take(self: &Rc<Self>, id: u16, len: usize) -> RecvBuf {
        RecvBuf { memory: Memory::Provided { group: Rc::clone(self), id }, start: 0, end: len }
    }
}

fn page_bytes() -> usize {
    // SAFETY: plain call.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // Without an answer no buffer has pages of its own.
    usize::try_from(bytes).unwrap_or(usize::MAX)
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

    /// Lets the buffer be without giving it back: another of the same will be made of it.
    pub(super) fn forget(self) {
        let mut this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so its memory's owner is dropped here, once: a reference to the group, or a vector.
        unsafe { std::ptr::drop_in_place(&mut this.memory) };
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
