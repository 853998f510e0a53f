//! Checkpoints: use and numbers as of one place in the spool, so that a restart replays little.
//!
//! In: books, the ends of streams, a position. Out: one file, and the one before it. Always holds: a file is read whole and
//! checked or not believed; at every moment one whole checkpoint is on disk once there was one.
//!
//! Layout, little-endian: a head of 64 bytes, a record of 32 bytes a stream, one of 48 bytes an entry of the books, and the
//! checksum of all that in the last 4 bytes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use policy::budget::{EntitlementId, Period, PeriodId};

use crate::books::Books;
use crate::disk::{self, Disk, DiskFile, FileSystem};
use crate::row::Account;
use crate::spool::{Error, Position};

/// The name of the last one.
pub const FILE: &str = "checkpoint";
/// The name of the one before.
pub const FILE_OLD: &str = "checkpoint.old";

const FILE_NEW: &str = "checkpoint.new";
const MAGIC: [u8; 8] = *b"PAYCHECK";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 64;
const STREAM_BYTES: usize = 32;
const ENTRY_BYTES: usize = 48;
const CHECKSUM_BYTES: usize = 4;
/// Records read or written at a time.
const RECORDS: usize = 8192;

/// The rows of one shard of one start of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// Random number of the start.
    pub epoch: u64,
    /// The shard.
    pub shard: u16,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamEnd {
    /// The number of the next row.
    pub next_seq: u64,
    /// How far the shard's ring is consumed.
    pub ring_position: u64,
}

/// What holds at one place of the spool.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The place: the start of a segment, after which every row of a request that was open there stands once more.
    pub position: Position,
    /// The streams that may still go on, or whose rings may still be there.
    pub streams: Vec<(Stream, StreamEnd)>,
    /// Charges of all finished rows before the place.
    pub books: Books,
}

/// A checkpoint that is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It could not be read, or is of another version.
    #[error(transparent)]
    Unread(#[from] Error),
    /// It is not what was written.
    #[error("{path} is damaged: {why}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In what way.
        why: &'static str,
    },
}

/// Writes a checkpoint and makes it durable; the last one becomes the old one. Takes as long as the disk takes for 48 bytes an
/// entry, so it is not for the thread that drains the rings.
///
/// # Errors
/// When the disk is full or fails: the last checkpoint still holds.
pub fn write(folder: &Path, checkpoint: &Checkpoint) -> Result<(), Error> {
    write_on(&FileSystem, folder, checkpoint)
}

pub(crate) fn write_on(
    disk: &dyn Disk,
    folder: &Path,
    checkpoint: &Checkpoint,
) -> Result<(), Error> {
    disk::create_folder(folder)
        .map_err(|source| Error::io("cannot make the folder", folder, source))?;
    let new = folder.join(FILE_NEW);
    let written = write_file(disk, &new, checkpoint);
    if written.is_err() {
        let _ = disk.remove(&new);
    }
    written.map_err(|source| Error::io("cannot write", &new, source))?;
    let last = folder.join(FILE);
    match disk.rename(&last, &folder.join(FILE_OLD)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("cannot rename", &last, source));
        }
        _ => {}
    }
    disk.rename(&new, &last)
        .and_then(|()| disk.sync_folder(folder))
        .map_err(|source| Error::io("cannot name", &last, source))
}

fn write_file(disk: &dyn Disk, path: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let file = disk.create(path)?;
    let mut out = Out {
        file: file.as_ref(),
        bytes: Vec::new(),
        written: 0,
        checksum: crc32fast::Hasher::new(),
    };
    let Checkpoint { position, streams, books } = checkpoint;
    out.bytes.extend_from_slice(&MAGIC);
    out.bytes.extend_from_slice(&VERSION.to_le_bytes());
    out.bytes.extend_from_slice(&[0; 4]);
    for number in [position.segment, position.offset, streams.len() as u64, books.len() as u64] {
        out.bytes.extend_from_slice(&number.to_le_bytes());
    }
    out.bytes.resize(HEAD_BYTES, 0);
    for (stream, end) in streams {
        out.bytes.extend_from_slice(&stream.epoch.to_le_bytes());
        out.bytes.extend_from_slice(&u64::from(stream.shard).to_le_bytes());
        out.bytes.extend_from_slice(&end.next_seq.to_le_bytes());
        out.bytes.extend_from_slice(&end.ring_position.to_le_bytes());
        out.write_if_full()?;
    }
    for (entitlement, charged) in books.iter() {
        out.bytes.extend_from_slice(&entitlement.0.to_le_bytes());
        out.bytes.extend_from_slice(&charged.period.id.0.to_le_bytes());
        out.bytes.extend_from_slice(&charged.period.start_s.to_le_bytes());
        out.bytes.extend_from_slice(&charged.period.end_s.to_le_bytes());
        out.bytes.extend_from_slice(&charged.units.to_le_bytes());
        out.write_if_full()?;
    }
    out.write()?;
    let checksum = out.checksum.clone().finalize();
    out.bytes.extend_from_slice(&checksum.to_le_bytes());
    out.write()?;
    file.sync()
}

/// A file that is written from its start.
struct Out<'a> {
    file: &'a dyn DiskFile,
    bytes: Vec<u8>,
    written: u64,
    checksum: crc32fast::Hasher,
}

impl Out<'_> {
    fn write_if_full(&mut self) -> io::Result<()> {
        if self.bytes.len() >= RECORDS * ENTRY_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        self.checksum.update(&self.bytes);
        self.file.write_at(&self.bytes, self.written)?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// The last checkpoint that can be believed, with books of at most `entries_max` entries, and why others could not be. None and no
/// reason where none was written yet.
#[must_use]
pub fn read(folder: &Path, entries_max: usize) -> (Option<Checkpoint>, Vec<Unusable>) {
    let mut unusable = Vec::new();
    for name in [FILE, FILE_OLD] {
        match read_file(&folder.join(name), entries_max) {
            Ok(Some(checkpoint)) => return (Some(checkpoint), unusable),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "a checkpoint cannot be used");
                unusable.push(error);
            }
        }
    }
    (None, unusable)
}

fn read_file(path: &Path, entries_max: usize) -> Result<Option<Checkpoint>, Unusable> {
    let failed = |source| Error::io("cannot read", path, source);
    let damaged = |why| Unusable::Damaged { path: path.to_owned(), why };
    let file = match File::open(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let length = file.length().map_err(failed)?;
    let mut records =
        In { file: &file, at: 0, bytes: Vec::new(), checksum: crc32fast::Hasher::new() };
    let head = records.take(HEAD_BYTES).map_err(failed)?;
    if head.len() < HEAD_BYTES || head.get(..8) != Some(&MAGIC[..]) {
        return Err(damaged("it has no head"));
    }
    let found = u32::from_le_bytes(array(head, 8));
    if found != VERSION {
        return Err(Error::Version { path: path.to_owned(), found, known: VERSION }.into());
    }
    let position = Position { segment: number(head, 16), offset: number(head, 24) };
    let (streams, entries) = (number(head, 32), number(head, 40));
    let expected = streams
        .checked_mul(STREAM_BYTES as u64)
        .zip(entries.checked_mul(ENTRY_BYTES as u64))
        .and_then(|(streams, entries)| streams.checked_add(entries))
        .and_then(|records| records.checked_add((HEAD_BYTES + CHECKSUM_BYTES) as u64));
    if expected != Some(length) {
        return Err(damaged("its length is not what its head says"));
    }
    let mut checkpoint =
        Checkpoint { position, streams: Vec::new(), books: Books::new(entries_max) };
    let mut whole = records
        .each(streams, STREAM_BYTES, |record| {
            let stream = Stream {
                epoch: number(record, 0),
                shard: u16::try_from(number(record, 8)).unwrap_or(u16::MAX),
            };
            let end = StreamEnd { next_seq: number(record, 16), ring_position: number(record, 24) };
            checkpoint.streams.push((stream, end));
            true
        })
        .map_err(failed)?;
    checkpoint.books.reserve(usize::try_from(entries).unwrap_or(usize::MAX));
    let books = &mut checkpoint.books;
    whole &= records.each(entries, ENTRY_BYTES, |record| add(books, record)).map_err(failed)?;
    let checksum = records.checksum.clone().finalize();
    let written = records.take(CHECKSUM_BYTES).map_err(failed)?;
    if written != checksum.to_le_bytes() {
        return Err(damaged("its checksum is another"));
    }
    if !whole {
        return Err(damaged("its books hold more than is allowed"));
    }
    Ok(Some(checkpoint))
}

fn add(books: &mut Books, record: &[u8]) -> bool {
    let period = Period {
        id: PeriodId(number(record, 16)),
        start_s: number(record, 24).cast_signed(),
        end_s: number(record, 32).cast_signed(),
    };
    let entitlement = EntitlementId(u128::from_le_bytes(array(record, 0)));
    books.add(&Account { entitlement, period }, number(record, 40))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// A file that is read from its start.
struct In<'a> {
    file: &'a File,
    at: u64,
    bytes: Vec<u8>,
    checksum: crc32fast::Hasher,
}

impl In<'_> {
    /// The next bytes; fewer where the file ends.
    fn take(&mut self, bytes: usize) -> io::Result<&[u8]> {
        self.bytes.resize(bytes, 0);
        let read = DiskFile::read_at(self.file, &mut self.bytes, self.at)?;
        self.bytes.truncate(read);
        self.at += read as u64;
        self.checksum.update(&self.bytes);
        Ok(&self.bytes)
    }

    /// Hands so many records to `each`, whether or not it could take the one before; false where one could not be taken.
    fn each(
        &mut self,
        mut records: u64,
        record_bytes: usize,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<bool> {
        let mut taken = true;
        while records > 0 {
            let now = usize::try_from(records).unwrap_or(usize::MAX).min(RECORDS);
            let bytes = self.take(now * record_bytes)?;
            if bytes.len() < now * record_bytes {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for record in bytes.chunks_exact(record_bytes) {
                taken &= each(record);
            }
            records -= now as u64;
        }
        Ok(taken)
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
