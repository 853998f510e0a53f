//! The node's own ledger of what it was lent: what counts as used where the rings that knew better are gone.
//!
//! In: what was lent, given back and used, as running totals of each entitlement and period. Out: one file for each start of the
//! node, and all of them read back. Always holds: the last record of a period holds; a record is believed only whole; space is
//! taken ahead, so that a full disk is met before a record, not in it.
//!
//! The file is written anew when most of it has been superseded, and when the system failed to make it durable.

mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::budget::{EntitlementId, Period, PeriodId};

pub use file::{read_all, remove};

use crate::books::AccountMap;
use crate::disk::{self, Disk, DiskFile, FileSystem};
use crate::spool::Error;
use file::{SLOT_BYTES, Unnamed, name_file, new_path_of, path_of, slot, write_file};

/// Space taken ahead: some 900 records.
const RESERVE_BYTES: u64 = 64 << 10;
/// A file is written anew when it is so many times what its records need, and not before it is this long.
const COMPACT_FACTOR: u64 = 4;
const COMPACT_BYTES_MIN: u64 = 256 << 10;

/// What a node was lent of one period: running totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The period.
    pub period: Period,
    /// Units lent so far.
    pub granted: u64,
    /// Units given back unused so far.
    pub returned: u64,
    /// Units used, as last reported.
    pub used: u64,
    /// There is no limit, so what is lent says nothing about use.
    pub unlimited: bool,
}

impl Lease {
    /// Units that were lent and not given back: they count as used where nothing else is known.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }
}

/// A line of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of what.
    pub entitlement: EntitlementId,
    /// How much.
    pub lease: Lease,
}

/// Leases by entitlement and period.
pub type Leases = AccountMap<Lease>;

/// What one start of the node was lent.
#[derive(Clone, Debug)]
pub struct LeaseFile {
    /// Random number of the start.
    pub epoch: u64,
    /// The last records.
    pub leases: Leases,
    /// Slots that hold no whole record, the last one apart: what they held is not known.
    pub damaged: u64,
}

/// The ledger of this start.
#[derive(Debug)]
pub struct LeaseLog {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    epoch: u64,
    file: Box<dyn DiskFile>,
    leases: Leases,
    /// Bytes written.
    length: u64,
    /// Space was taken until here.
    reserved: u64,
    is_synced: bool,
    /// The system failed to make bytes durable: only a new file can be trusted.
    is_doubtful: bool,
    /// Compacting is not tried before the file is so long.
    compact_from: u64,
}

impl LeaseLog {
    /// Makes the ledger of a start in `folder`; durable when this returns.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn create(folder: &Path, epoch: u64) -> Result<Self, Error> {
        Self::create_on(Arc::new(FileSystem), folder, epoch)
    }

    pub(crate) fn create_on(disk: Arc<dyn Disk>, folder: &Path, epoch: u64) -> Result<Self, Error> {
        disk::create_folder(folder)
            .map_err(|source| Error::io("cannot make the folder", folder, source))?;
        let leases = Leases::default();
        let (file, length, reserved) = write_file(disk.as_ref(), folder, epoch, &leases)?;
        name_file(disk.as_ref(), folder, epoch)
            .map_err(|source| Error::io("cannot name", &path_of(folder, epoch), source.into()))?;
        Ok(Self {
            disk,
            folder: folder.to_owned(),
            epoch,
            file,
            leases,
            length,
            reserved,
            is_synced: true,
            is_doubtful: false,
            compact_from: COMPACT_BYTES_MIN,
        })
    }

    /// Appends records: all or none. They are durable after [`sync`](Self::sync).
    ///
    /// # Errors
    /// When the disk is full ([`Error::is_no_space`]) or fails. The caller must not use what the records would have granted, and
    /// may try again.
    pub fn append(&mut self, records: &[Record]) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(records.len() * SLOT_BYTES);
        for Record { entitlement, lease } in records {
            bytes.extend_from_slice(&slot(self.epoch, *entitlement, lease));
        }
        let end = self.length + bytes.len() as u64;
        let written = self.reserve(end).and_then(|()| self.file.write_at(&bytes, self.length));
        if let Err(source) = written {
            // Records that were refused shall not be found after a crash.
            bytes.fill(0);
            let _ = self.file.write_at(&bytes, self.length);
            return Err(self.failed("cannot write", source));
        }
        self.is_synced = false;
        self.length = end;
        for Record { entitlement, lease } in records {
            self.leases.insert((*entitlement, lease.period.id), *lease);
        }
        self.compact_if_long();
        Ok(())
    }

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// When the disk fails; the next call writes the whole ledger anew.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.is_doubtful {
            return self.compact();
        }
        if self.is_synced {
            return Ok(());
        }
        if let Err(source) = self.file.sync() {
            self.is_doubtful = true;
            return Err(self.failed("cannot make durable", source));
        }
        self.is_synced = true;
        Ok(())
    }

    /// Forgets periods that ended before this time; the file loses them when it is next written anew.
    pub fn forget(&mut self, ended_before_s: i64) {
        self.leases.retain(|_, lease| lease.period.end_s >= ended_before_s);
    }

    /// The last record of a period.
    #[must_use]
    pub fn lease(&self, entitlement: EntitlementId, period: PeriodId) -> Option<&Lease> {
        self.leases.get(&(entitlement, period))
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.reserved.max(self.length)
    }

    /// Takes space so that `end` bytes fit, and ahead of that where there is some.
    fn reserve(&mut self, end: u64) -> io::Result<()> {
        if end + RESERVE_BYTES / 2 <= self.reserved {
            return Ok(());
        }
        let wanted = (end + RESERVE_BYTES).next_multiple_of(RESERVE_BYTES);
        match self.file.reserve(wanted) {
            Ok(()) => self.reserved = wanted,
            // What was taken before suffices still.
            Err(_) if end <= self.reserved => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn compact_if_long(&mut self) {
        let needed = ((self.leases.len() + 1) * SLOT_BYTES) as u64;
        if self.length < self.compact_from || self.length <= COMPACT_FACTOR * needed {
            return;
        }
        if let Err(error) = self.compact() {
            self.compact_from = self.length * 2;
            tracing::warn!(%error, "the lease log could not be written anew; it grows further");
        }
    }

    /// Writes the ledger anew; durable when this returns.
    fn compact(&mut self) -> Result<(), Error> {
        let disk = Arc::clone(&self.disk);
        let (file, length, reserved) =
            write_file(disk.as_ref(), &self.folder, self.epoch, &self.leases)?;
        let named = name_file(disk.as_ref(), &self.folder, self.epoch);
        if let Err(Unnamed::Renaming(source)) = named {
            let _ = disk.remove(&new_path_of(&self.folder, self.epoch));
            return Err(self.failed("cannot rename", source));
        }
        self.file = file;
        self.length = length;
        self.reserved = reserved;
        self.compact_from = COMPACT_BYTES_MIN;
        // Until the folder is durable, either file may be there after a loss of power.
        self.is_synced = named.is_ok();
        self.is_doubtful = named.is_err();
        named.map_err(|error| self.failed("cannot make durable", error.into()))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        Error::io(action, &path_of(&self.folder, self.epoch), source)
    }
}

#[cfg(test)]
#[path = "lease_log_tests.rs"]
mod tests;
