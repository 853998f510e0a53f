//! Memory that a thread shares with another, and a process with its successor: a file on tmpfs, mapped.
//!
//! In: a path. Out: words. Always holds: every page is there before the first use, so that no write faults or is killed for want
//! of space; words are read and written whole, so that nobody sees half of one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, fallocate};

/// Words of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE_WORDS: usize = 8;

/// A mapped file of whole words.
pub struct SharedMemory {
    map: MmapRaw,
}

impl SharedMemory {
    /// A new file of `bytes` bytes, all zero, which only this user may read.
    ///
    /// # Errors
    /// When there is one already, or no room for it.
    pub fn create(path: &Path, bytes: u64) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        // Reserved, so that a full file system is an error here and not a signal at some later write.
        let reserved = fallocate(&file, FallocateFlags::empty(), 0, bytes);
        reserved.map_err(io::Error::from).and_then(|()| Self::map(&file)).inspect_err(|_| {
            // What cannot be used is not left behind.
            let _ = std::fs::remove_file(path);
        })
    }

    /// A file that is there.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::map(&OpenOptions::new().read(true).write(true).open(path)?)
    }

    fn map(file: &File) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().populate().map_raw(file)? })
    }

    /// All of it.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        let words = self.map.len() / size_of::<AtomicU64>();
        // SAFETY: the mapping is readable, writable, aligned to a page, at least this long, and lives as long as `self`; any bits
        // are a valid `AtomicU64`, and nobody in this process reads or writes the mapping but through them.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU64>(), words) }
    }

    /// Has the processor fetch these words while something else is done, since they will be written next. Words past the end
    /// are left out; it changes nothing but when a write waits.
    pub fn will_write(&self, words: std::ops::Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        for line in self.words().get(words).unwrap_or_default().chunks(LINE_WORDS) {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            // SAFETY: SSE is part of x86-64, and a prefetch reads and writes nothing of the program's.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_ptr().cast()) };
        }
    }

    /// The same for words that will be read next.
    pub fn will_read(&self, words: std::ops::Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        for line in self.words().get(words).unwrap_or_default().chunks(LINE_WORDS) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: SSE is part of x86-64, and a prefetch reads and writes nothing of the program's.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
}
