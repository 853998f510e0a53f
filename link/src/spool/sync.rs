//! Making rows durable beside the thread that appends them, which a slow disk would hold up otherwise.
//!
//! In: a segment and how far it was written. Out: the same, durable, or why not. Always holds: the spool counts rows as durable
//! only once their job is done well; after one that failed it writes them once more before it tries again.

use std::io;
use std::sync::Arc;

use super::{Error, Position, Spool};
use crate::disk::DiskFile;

/// Rows to be made durable, on any thread.
#[derive(Debug)]
pub struct SyncJob {
    file: Arc<dyn DiskFile>,
    position: Position,
}

/// What became of a job.
#[derive(Debug)]
pub struct SyncDone {
    position: Position,
    result: io::Result<()>,
}

impl SyncJob {
    /// Does it; as long as the disk takes.
    #[must_use]
    pub fn run(self) -> SyncDone {
        SyncDone { position: self.position, result: self.file.sync() }
    }
}

impl Spool {
    /// What would make durable all that was appended. `None` where all of it is, or where only [`sync`](Self::sync) can. Until
    /// [`end_sync`](Self::end_sync) has the answer, the spool is appended to and nothing else.
    #[must_use]
    pub fn begin_sync(&self) -> Option<SyncJob> {
        let is_plain = self.is_named && !self.is_doubtful && self.synced < self.length;
        is_plain.then(|| SyncJob { file: Arc::clone(&self.file), position: self.position() })
    }

    /// Takes in what became of a job; the position up to which rows are durable.
    ///
    /// # Errors
    /// When the disk failed: as after [`sync`](Self::sync).
    pub fn end_sync(&mut self, done: SyncDone) -> Result<Position, Error> {
        debug_assert_eq!(done.position.segment, self.current, "no segment begins meanwhile");
        if let Err(source) = done.result {
            self.is_doubtful = true;
            return Err(self.failed("cannot make durable", source));
        }
        self.synced = self.synced.max(done.position.offset.min(self.length));
        let position = Position { segment: self.current, offset: self.synced };
        self.tail.sync(position);
        Ok(position)
    }

    /// Bytes that are not known to be durable.
    #[must_use]
    pub const fn unsynced_bytes(&self) -> u64 {
        self.length - self.synced
    }
}
