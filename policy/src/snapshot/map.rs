//! A snapshot's bytes and the archive in them, checked once and then read in place.
//!
//! In: bytes, or a file to map. Out: the archive by reference.
//! Always holds: [`Map`] exists only around bytes whose archive passed rkyv's check, and nobody can change them through
//! it. This is the only unsafe code of the crate.
#![allow(unsafe_code)]

use std::fs::File;

use memmap2::Mmap;
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;

use super::header::HEADER_BYTES;
use super::layout::ArchivedBody;

/// Where the bytes are.
pub(super) enum Backing {
    /// In this process's own memory.
    Owned(AlignedVec),
    /// In a file.
    Mapped(Mmap),
}

impl Backing {
    pub(super) fn copy_of(bytes: &[u8]) -> Self {
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        Self::Owned(aligned)
    }

    pub(super) fn map(file: &File) -> std::io::Result<Self> {
        // SAFETY: the mapping is private and read-only. Snapshot files are written under another name, renamed into
        // place and never written to again, which `Snapshot::from_file` demands of its caller; so the bytes do not change
        // while the mapping lives.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self::Mapped(map))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }

    fn archive(&self) -> &[u8] {
        self.bytes().get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// Bytes with a checked archive in them.
pub(super) struct Map {
    backing: Backing,
}

impl Map {
    /// Checks the archive.
    pub(super) fn new(backing: Backing) -> Result<Self, Error> {
        rkyv::access::<ArchivedBody, Error>(backing.archive())?;
        Ok(Self { backing })
    }

    /// The archive.
    pub(super) fn body(&self) -> &ArchivedBody {
        // SAFETY: `new` checked these very bytes with `rkyv::access` for this type, and they cannot have changed: an
        // owned vector is never handed out mutably, a mapped file is never written to (see `Backing::map`). Moving a `Map`
        // moves neither kind of bytes.
        unsafe { rkyv::access_unchecked::<ArchivedBody>(self.backing.archive()) }
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.backing.bytes().len()
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Map({} bytes)", self.len_bytes())
    }
}
