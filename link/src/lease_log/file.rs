//! The files of the lease log.
//!
//! In: leases. Out: slots of bytes, and leases again. Always holds: a slot is checked together with the epoch it was written in; a
//! file gets its name when it is durable.
//!
//! Layout, little-endian: slots of 72 bytes, the first of them the head. A slot of zeros is free.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use policy::budget::{EntitlementId, Period, PeriodId};

use super::{Lease, LeaseFile, Leases, RESERVE_BYTES};
use crate::disk::{Disk, DiskFile};
use crate::spool::Error;

pub(super) const SLOT_BYTES: usize = 72;

const MAGIC: [u8; 8] = *b"PAYLEASE";
const VERSION: u32 = 1;
const FLAG_UNLIMITED: u32 = 1;
/// Slots read or written at a time.
const SLOTS: usize = 8192;

mod at {
    pub(super) const CHECKSUM: usize = 0;
    pub(super) const FLAGS: usize = 4;
    pub(super) const ENTITLEMENT: usize = 8;
    pub(super) const PERIOD_ID: usize = 24;
    pub(super) const PERIOD_START: usize = 32;
    pub(super) const PERIOD_END: usize = 40;
    pub(super) const GRANTED: usize = 48;
    pub(super) const RETURNED: usize = 56;
    pub(super) const USED: usize = 64;
}

mod head_at {
    pub(super) const VERSION: usize = 8;
    pub(super) const CHECKSUM: usize = 12;
    pub(super) const EPOCH: usize = 16;
}

/// A file that is written and does not have its name for certain.
#[derive(Debug)]
pub(super) enum Unnamed {
    /// It does not have it.
    Renaming(io::Error),
    /// It has, but maybe not after a loss of power.
    Folder(io::Error),
}

impl From<Unnamed> for io::Error {
    fn from(unnamed: Unnamed) -> Self {
        match unnamed {
            Unnamed::Renaming(error) | Unnamed::Folder(error) => error,
        }
    }
}

pub(super) fn path_of(folder: &Path, epoch: u64) -> PathBuf {
    folder.join(format!("leases-{epoch:016x}.log"))
}

pub(super) fn new_path_of(folder: &Path, epoch: u64) -> PathBuf {
    folder.join(format!("leases-{epoch:016x}.new"))
}

fn put<const N: usize>(to: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = to.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = bytes;
    }
}

fn array<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    from.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn number(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(from, at))
}

fn checksum(epoch: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&epoch.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

pub(super) fn head_of(epoch: u64, version: u32) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    put(&mut bytes, 0, MAGIC);
    put(&mut bytes, head_at::VERSION, version.to_le_bytes());
    put(&mut bytes, head_at::EPOCH, epoch.to_le_bytes());
    let checksum = checksum(epoch, &bytes);
    put(&mut bytes, head_at::CHECKSUM, checksum.to_le_bytes());
    bytes
}

/// The version in a head; `None` where it is no head of this epoch.
fn read_head(bytes: &[u8], epoch: u64) -> Option<u32> {
    let mut bytes = *bytes.first_chunk::<SLOT_BYTES>()?;
    let written = u32::from_le_bytes(array(&bytes, head_at::CHECKSUM));
    put(&mut bytes, head_at::CHECKSUM, [0; 4]);
    let is_head = array(&bytes, 0) == MAGIC && checksum(epoch, &bytes) == written;
    is_head.then(|| u32::from_le_bytes(array(&bytes, head_at::VERSION)))
}

/// The bytes of one record.
pub(super) fn slot(epoch: u64, entitlement: EntitlementId, lease: &Lease) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    let flags = if lease.unlimited { FLAG_UNLIMITED } else { 0 };
    put(&mut bytes, at::FLAGS, flags.to_le_bytes());
    put(&mut bytes, at::ENTITLEMENT, entitlement.0.to_le_bytes());
    put(&mut bytes, at::PERIOD_ID, lease.period.id.0.to_le_bytes());
    put(&mut bytes, at::PERIOD_START, lease.period.start_s.to_le_bytes());
    put(&mut bytes, at::PERIOD_END, lease.period.end_s.to_le_bytes());
    put(&mut bytes, at::GRANTED, lease.granted.to_le_bytes());
    put(&mut bytes, at::RETURNED, lease.returned.to_le_bytes());
    put(&mut bytes, at::USED, lease.used.to_le_bytes());
    let checksum = checksum(epoch, bytes.get(at::FLAGS..).unwrap_or_default());
    put(&mut bytes, at::CHECKSUM, checksum.to_le_bytes());
    bytes
}

fn read_slot(bytes: &[u8], epoch: u64) -> Option<(EntitlementId, Lease)> {
    let written = u32::from_le_bytes(array(bytes, at::CHECKSUM));
    if bytes.len() != SLOT_BYTES || checksum(epoch, bytes.get(at::FLAGS..)?) != written {
        return None;
    }
    let lease = Lease {
        period: Period {
            id: PeriodId(number(bytes, at::PERIOD_ID)),
            start_s: number(bytes, at::PERIOD_START).cast_signed(),
            end_s: number(bytes, at::PERIOD_END).cast_signed(),
        },
        granted: number(bytes, at::GRANTED),
        returned: number(bytes, at::RETURNED),
        used: number(bytes, at::USED),
        unlimited: u32::from_le_bytes(array(bytes, at::FLAGS)) & FLAG_UNLIMITED != 0,
    };
    Some((EntitlementId(u128::from_le_bytes(array(bytes, at::ENTITLEMENT))), lease))
}

/// Writes a file of these leases beside the one with the name; the file, its length, and how much space it has.
pub(super) fn write_file(
    disk: &dyn Disk,
    folder: &Path,
    epoch: u64,
    leases: &Leases,
) -> Result<(Box<dyn DiskFile>, u64, u64), Error> {
    let path = new_path_of(folder, epoch);
    let written = disk.create(&path).and_then(|file| {
        let length = ((leases.len() + 1) * SLOT_BYTES) as u64;
        let reserved = (length + RESERVE_BYTES).next_multiple_of(RESERVE_BYTES);
        file.reserve(reserved)?;
        let mut bytes = head_of(epoch, VERSION).to_vec();
        let mut at = 0;
        for ((entitlement, _), lease) in leases {
            bytes.extend_from_slice(&slot(epoch, *entitlement, lease));
            if bytes.len() >= SLOTS * SLOT_BYTES {
                file.write_at(&bytes, at)?;
                at += bytes.len() as u64;
                bytes.clear();
            }
        }
        file.write_at(&bytes, at)?;
        file.sync()?;
        Ok((file, length, reserved))
    });
    if written.is_err() {
        let _ = disk.remove(&path);
    }
    written.map_err(|source| Error::io("cannot write", &path, source))
}

/// Gives the file its name.
pub(super) fn name_file(disk: &dyn Disk, folder: &Path, epoch: u64) -> Result<(), Unnamed> {
    disk.rename(&new_path_of(folder, epoch), &path_of(folder, epoch)).map_err(Unnamed::Renaming)?;
    disk.sync_folder(folder).map_err(Unnamed::Folder)
}

/// Reads the ledgers of all starts in a folder. A folder that is not there holds none.
///
/// # Errors
/// When the disk fails, or a file is of another version.
pub fn read_all(folder: &Path) -> Result<Vec<LeaseFile>, Error> {
    let failed = |source| Error::io("cannot list", folder, source);
    let entries = match fs::read_dir(folder) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let epoch = name
            .to_str()
            .and_then(|name| name.strip_prefix("leases-")?.strip_suffix(".log"))
            .filter(|digits| digits.len() == 16)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        if let Some(epoch) = epoch {
            files.push(read_file(&entry.path(), epoch)?);
        }
    }
    files.sort_by_key(|file| file.epoch);
    Ok(files)
}

fn read_file(path: &Path, epoch: u64) -> Result<LeaseFile, Error> {
    let failed = |source| Error::io("cannot read", path, source);
    let file = File::open(path).map_err(failed)?;
    let mut found = LeaseFile { epoch, leases: Leases::default(), damaged: 0 };
    let mut bytes = vec![0; SLOTS * SLOT_BYTES];
    let mut at = 0;
    // One that is followed by no other was not finished, and nobody was told that it was.
    let mut unfinished = 0;
    loop {
        let read = file.read_at(&mut bytes, at).map_err(failed)?;
        let slots = bytes.get(..read).unwrap_or_default();
        for (index, slot) in slots.chunks(SLOT_BYTES).enumerate() {
            if at == 0 && index == 0 {
                match read_head(slot, epoch) {
                    Some(VERSION) => {}
                    Some(version) => {
                        let path = path.to_owned();
                        return Err(Error::Version { path, found: version, known: VERSION });
                    }
                    None => found.damaged += 1,
                }
            } else if let Some((entitlement, lease)) = read_slot(slot, epoch) {
                found.damaged += std::mem::take(&mut unfinished);
                found.leases.insert((entitlement, lease.period.id), lease);
            } else if slot.iter().any(|byte| *byte != 0) {
                unfinished += 1;
            }
        }
        at += read as u64;
        if read < bytes.len() {
            break;
        }
    }
    found.damaged += unfinished.saturating_sub(1);
    if found.damaged > 0 {
        tracing::warn!(path = %path.display(), damaged = found.damaged, "a lease log is damaged");
    }
    Ok(found)
}

/// Removes the ledger of a start, whose use is known and durable elsewhere.
///
/// # Errors
/// When the disk fails.
pub fn remove(folder: &Path, epoch: u64) -> Result<(), Error> {
    let path = path_of(folder, epoch);
    for path in [new_path_of(folder, epoch), path] {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("cannot remove", &path, source));
            }
            _ => {}
        }
    }
    Ok(())
}
