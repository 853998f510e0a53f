//! The last good policy on disk: a base file and a log of the changes since.
//!
//! In: a base file that was fetched and checked, changes. Out: both again at the next start. Always holds: a base and its log belong
//! together by name and by what the log's first frame says; a base is never written to once it has its name; a log is believed up to its
//! last whole frame; a new pair is durable before the old one goes.
//!
//! `SEQUENCE-SHA.base`, `SEQUENCE-SHA.deltas`, and while they are made `….part` and `….deltas.new`. A log is frames as they came by
//! the wire: one [`BaseOffer`], then changes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keeper::leads_on;
use crate::disk::{self, Disk, DiskFile, FileSystem};
use crate::wire::frame::PAYLOAD_BYTES_MAX;
use crate::wire::message::delta_frame;
use crate::wire::{BaseOffer, DeltaHead, Frames, Pushed};

/// No log grows longer: past it changes are in force, but not kept for the next start, until a new base comes.
const LOG_BYTES_MAX: u64 = 1 << 30;
const READ_BYTES: usize = 64 << 10;

/// The folder for policies cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the folder {} for policies: {cause}; make it writable, or give another --data-dir", folder.display())]
pub struct StoreError {
    folder: PathBuf,
    cause: io::Error,
}

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Store {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

/// A base with its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) offer: BaseOffer,
    pub(super) base: PathBuf,
    pub(super) log: PathBuf,
}

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(FileSystem), folder)
    }

    pub(super) fn open_on(disk: Arc<dyn Disk>, folder: &Path) -> Result<Self, StoreError> {
        disk::create_folder(folder)
            .map_err(|cause| StoreError { folder: folder.to_owned(), cause })?;
        Ok(Self { disk, folder: folder.to_owned() })
    }

    /// Every base that has a log, the newest first.
    pub(super) fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let log = entry?.path();
            if log.extension() != Some(OsStr::new("deltas")) {
                continue;
            }
            let base = log.with_extension("base");
            match LogReader::open(&log).and_then(|mut log| log.read_head()) {
                Ok(Some(offer)) if base.is_file() && self.path(&offer, "deltas") == log => {
                    kept.push(Kept { offer, base, log });
                }
                Ok(_) => {
                    tracing::warn!(path = %log.display(), "this log of policy changes has no base, or no head")
                }
                Err(error) => {
                    tracing::warn!(%error, path = %log.display(), "this log of policy changes cannot be read");
                }
            }
        }
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.offer.sequence));
        Ok(kept)
    }

    /// Where a base is while it is fetched. What stands there is the begin of just this one.
    pub(super) fn part(&self, offer: &BaseOffer) -> PathBuf {
        self.path(offer, "part")
    }

    /// Makes an empty log, under a name that does not count yet.
    pub(super) fn new_log(&self, offer: BaseOffer) -> io::Result<DeltaLog> {
        let path = self.path(&offer, "deltas.new");
        let file: Arc<dyn DiskFile> = Arc::from(self.disk.create(&path)?);
        let head = Pushed::Base(offer).encode().map_err(io::Error::other)?;
        file.write_at(&head, 0)?;
        let (length, sequence) = (head.len() as u64, offer.sequence);
        Ok(DeltaLog { file, path, offer, length, sequence, is_synced: false })
    }

    /// Gives a fetched base and its log their names, and removes all others. Both files are durable already.
    pub(super) fn adopt(&self, log: &mut DeltaLog) -> io::Result<()> {
        let path = self.path(&log.offer, "deltas");
        self.disk.rename(&self.part(&log.offer), &self.path(&log.offer, "base"))?;
        self.disk.rename(&log.path, &path)?;
        log.path = path;
        match self.disk.sync_folder(&self.folder) {
            Ok(()) => self.remove_all_but(&log.offer),
            // Both pairs are whole: whichever names are there after a loss of power is a policy.
            Err(error) => {
                tracing::warn!(%error, "the names of a new policy are not durable yet; the old one is kept")
            }
        }
        Ok(())
    }

    /// Opens the log of what was read from disk, and cuts it where that ended.
    pub(super) fn reopen(&self, kept: &Kept, length: u64, sequence: u64) -> io::Result<DeltaLog> {
        let file: Arc<dyn DiskFile> = Arc::from(self.disk.open(&kept.log)?);
        if file.length()? != length {
            file.set_length(length)?;
        }
        let (path, offer) = (kept.log.clone(), kept.offer);
        Ok(DeltaLog { file, path, offer, length, sequence, is_synced: false })
    }

    /// Removes what belongs to no base but this; what cannot be removed stays until the next time.
    fn remove_all_but(&self, offer: &BaseOffer) {
        let keep = [self.path(offer, "base"), self.path(offer, "deltas")];
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_ours =
                [".base", ".deltas", ".part", ".new"].iter().any(|end| name.ends_with(end));
            if is_ours
                && !keep.contains(&path)
                && let Err(error) = self.disk.remove(&path)
            {
                tracing::warn!(%error, path = %path.display(), "a superseded policy cannot be removed");
            }
        }
    }

    fn path(&self, offer: &BaseOffer, extension: &str) -> PathBuf {
        let sha: String = offer.sha256.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{:020}-{sha}.{extension}", offer.sequence))
    }
}

/// A log that is written.
#[derive(Debug)]
pub(super) struct DeltaLog {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    offer: BaseOffer,
    length: u64,
    /// The last change in it.
    sequence: u64,
    is_synced: bool,
}

impl DeltaLog {
    pub(super) const fn offer(&self) -> &BaseOffer {
        &self.offer
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// No more changes are kept.
    pub(super) const fn is_full(&self) -> bool {
        self.length >= LOG_BYTES_MAX
    }

    /// Appends a change that leads on from the last one; any other is passed over. After an error the log is as it was.
    pub(super) fn append(&mut self, head: DeltaHead, bytes: &[u8]) -> io::Result<()> {
        if !leads_on(head, self.sequence) || self.is_full() {
            return Ok(());
        }
        let frame = delta_frame(head, bytes).map_err(io::Error::other)?;
        if let Err(error) = self.file.write_at(&frame, self.length) {
            // Where this fails too, the next one is written over it, and a start cuts it.
            let _ = self.file.set_length(self.length);
            return Err(error);
        }
        self.length += frame.len() as u64;
        self.sequence = head.to;
        self.is_synced = false;
        Ok(())
    }

    /// The file, where something in it may not be durable yet.
    pub(super) fn unsynced(&mut self) -> Option<Arc<dyn DiskFile>> {
        (!std::mem::replace(&mut self.is_synced, true)).then(|| Arc::clone(&self.file))
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.is_synced = true;
        Ok(())
    }
}

/// A change in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) head: DeltaHead,
    pub(super) bytes: Vec<u8>,
    /// Where the next one begins.
    pub(super) end: u64,
}

/// Reads a log up to its last whole frame.
#[derive(Debug)]
pub(super) struct LogReader {
    file: File,
    frames: Frames,
    piece: Vec<u8>,
    /// Bytes of whole frames so far.
    at: u64,
}

impl LogReader {
    /// From the beginning; the log's head comes first.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::open_at(path, 0)
    }

    /// From where a frame begins.
    pub(super) fn open_at(path: &Path, at: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(at))?;
        let piece = vec![0; READ_BYTES];
        Ok(Self { file, frames: Frames::new(PAYLOAD_BYTES_MAX), piece, at })
    }

    /// How far it has come.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// The log's head, before anything else is read.
    pub(super) fn read_head(&mut self) -> io::Result<Option<BaseOffer>> {
        match self.next_frame()? {
            Some(Pushed::Base(offer)) => Ok(Some(offer)),
            _ => Ok(None),
        }
    }

    /// The next change; none at the end, or where the rest cannot be believed.
    pub(super) fn next_delta(&mut self) -> io::Result<Option<Logged>> {
        while let Some(pushed) = self.next_frame()? {
            match pushed {
                Pushed::Delta(head, bytes) => {
                    return Ok(Some(Logged { head, bytes, end: self.at }));
                }
                Pushed::Base(_) => {}
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> io::Result<Option<Pushed>> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => {
                    let bytes = frame.payload.len() + crate::wire::frame::HEAD_BYTES;
                    let pushed = Pushed::decode(frame).ok();
                    self.at += pushed.as_ref().map_or(0, |_| bytes as u64);
                    return Ok(pushed);
                }
                Err(_) => return Ok(None),
                Ok(None) => {}
            }
            let read = match self.file.read(&mut self.piece) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.frames.put(self.piece.get(..read).unwrap_or_default());
        }
    }
}
