//! A disk that fails when it is told to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::*;

/// The file system, but for steps that fail. Steps are counted from 0; nothing is made durable, which takes time and shows nothing.
#[derive(Clone, Debug)]
pub(crate) struct FaultyDisk {
    steps: Arc<AtomicU64>,
    fails_from: Arc<AtomicU64>,
    fails_until: Arc<AtomicU64>,
    /// Whoever holds it keeps files from becoming durable.
    pub(crate) syncs: Arc<Mutex<()>>,
}

impl FaultyDisk {
    /// One that works.
    pub(crate) fn new() -> Self {
        Self {
            steps: Arc::default(),
            fails_from: Arc::new(AtomicU64::new(u64::MAX)),
            fails_until: Arc::new(AtomicU64::new(u64::MAX)),
            syncs: Arc::default(),
        }
    }

    /// One whose step number `step` fails for want of space; a write leaves a part of its bytes.
    pub(crate) fn failing_at(step: u64) -> Self {
        let disk = Self::new();
        disk.fails_from.store(step, Ordering::Relaxed);
        disk.fails_until.store(step + 1, Ordering::Relaxed);
        disk
    }

    /// One that stops for ever at step number `step`, as when the process is killed.
    pub(crate) fn ending_at(step: u64) -> Self {
        let disk = Self::new();
        disk.fails_from.store(step, Ordering::Relaxed);
        disk
    }

    /// Lets the next `count` steps fail.
    pub(crate) fn fail_next(&self, count: u64) {
        let from = self.steps();
        self.fails_from.store(from, Ordering::Relaxed);
        self.fails_until.store(from + count, Ordering::Relaxed);
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Whether nothing works any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.fails_until.load(Ordering::Relaxed) == u64::MAX
            && self.steps() > self.fails_from.load(Ordering::Relaxed)
    }

    fn step(&self) -> io::Result<()> {
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        let fails =
            self.fails_from.load(Ordering::Relaxed)..self.fails_until.load(Ordering::Relaxed);
        if fails.contains(&step) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.step()?;
        Ok(Box::new(FaultyFile { file: FileSystem.create(path)?, disk: self.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.step()?;
        Ok(Box::new(FaultyFile { file: FileSystem.open(path)?, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        FileSystem.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        FileSystem.remove(path)
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        self.step()
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn DiskFile>,
    disk: FaultyDisk,
}

impl DiskFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let step = self.disk.step();
        if step.is_err() {
            // What is left differs from step to step.
            let left = bytes.len() * (self.disk.steps() as usize % 8) / 8;
            self.file.write_at(&bytes[..left], offset)?;
        }
        step?;
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.step()?;
        self.file.read_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.disk.step()?;
        self.file.set_length(length)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        self.disk.step()?;
        self.file.reserve(length)
    }

    fn sync(&self) -> io::Result<()> {
        let _held = self.disk.syncs.lock();
        self.disk.step()
    }
}
