//! A snapshot's bytes and the archive in them, checked once and then read in place.
//!
//! In: bytes, or a file to map. Out: the archive by reference.
//! Always holds: [`Map`] exists only around bytes whose archive passed rkyv's check, and nobody can change them through
//! it. This is the only unsafe code of the crate.
#![allow(unsafe_code)]

use std::fs::File;

use memmap2::{Advice, Mmap, MmapMut};
use rkyv::rancor::Error;

use super::header::HEADER_BYTES;
use super::layout::ArchivedBody;

/// Where the bytes are: in memory of this process alone, or in a mapped file.
pub(super) struct Backing(Mmap);

impl Backing {
    /// Copies bytes into memory of this process.
    pub(super) fn copy_of(bytes: &[u8]) -> std::io::Result<Self> {
        // An empty mapping is an error; a single zero is refused as nothing is.
        let mut map = MmapMut::map_anon(bytes.len().max(1))?;
        advise_huge_pages(map.advise(HUGE_PAGES));
        if let Some(place) = map.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        Ok(Self(map.make_read_only()?))
    }

    pub(super) fn map(file: &File) -> std::io::Result<Self> {
        // SAFETY: the mapping is private and read-only. Snapshot files are written under another name, renamed into
        // place and never written to again, which `Snapshot::from_file` demands of its caller; so the bytes do not change
        // while the mapping lives.
        let map = unsafe { Mmap::map(file)? };
        advise_huge_pages(map.advise(HUGE_PAGES));
        Ok(Self(map))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn archive(&self) -> &[u8] {
        self.bytes().get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// With pages of 4 KiB most of a token look-up in a large table is spent on page tables.
const HUGE_PAGES: Advice = Advice::HugePage;

/// Advice is only that: a kernel or file system without huge pages refuses it, and everything works all the same.
fn advise_huge_pages(_outcome: std::io::Result<()>) {}

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
        // SAFETY: `new` checked these very bytes with `rkyv::access` for this type, and they cannot have changed: the mapping
        // is read-only, and a mapped file is never written to (see `Backing::map`). A mapping stays where it is when a `Map`
        // is moved.
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
