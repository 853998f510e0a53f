//! What can go wrong with the spool.
//!
//! In: failures of the disk, files that are not what they should be. Out: errors that say what happened, where, and what to do.
//! Always holds: no error names what is in a row.

use std::io;
use std::path::{Path, PathBuf};

use super::{Position, RowRange};
use crate::disk;

/// Why the spool could not do as it was told. After any error of [`append`](super::Spool::append) the spool is as before it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk did not.
    #[error(
        "{action} {path}: {source}{advice}",
        path = path.display(),
        advice = if disk::is_no_space(source) { "; give the disk space, or the journal a lower cap" } else { "" }
    )]
    Io {
        /// What was being done: `cannot write`.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of another version of PayFence.
    #[error(
        "{path} is in format {found}, and this version reads format {known} alone; run the version that wrote it, \
         or move the file away (what it holds is then not known)",
        path = path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The one that can be read.
        known: u32,
    },
    /// Another process writes there.
    #[error("{folder} is in use by another process; each node needs a data directory of its own", folder = folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The cap is reached, and no segment may go before a checkpoint is written.
    #[error(
        "the journal in {folder} holds {bytes} bytes of at most {bytes_max}, and none may go before use is checkpointed; \
         see why no checkpoint was written, or raise the cap",
        folder = folder.display()
    )]
    AtCap {
        /// The folder.
        folder: PathBuf,
        /// Bytes it holds.
        bytes: u64,
        /// The cap.
        bytes_max: u64,
    },
    /// The caller's mistake: not a block or not a node's name.
    #[error("not written: {0}")]
    Invalid(&'static str),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether it is for want of space: it may pass.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => disk::is_no_space(source),
            Self::AtCap { .. } => true,
            Self::Version { .. } | Self::InUse { .. } | Self::Invalid(_) => false,
        }
    }
}

/// Something of the spool that is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// What stood from `from` on is gone (dropped at the cap, or moved away); the reader goes on at `to`. Where `to` is the
    /// earlier one, the spool began anew: rows may come that were read before, and are known by their numbers.
    #[error("the journal from {from} on is gone, reading goes on at {to}")]
    Gone {
        /// Where it should have gone on.
        from: Position,
        /// Where it goes on.
        to: Position,
    },
    /// Bytes that are not what was written.
    #[error("{bytes} bytes of the journal at {at} are damaged")]
    Damaged {
        /// Where they begin.
        at: Position,
        /// How many are skipped.
        bytes: u64,
        /// The rows that were in them, where their head is whole.
        rows: Option<RowRange>,
    },
    /// Numbers that should have come next and did not. Never rows that another loss has named.
    #[error("rows {first} to {last} of shard {shard} in epoch {epoch:016x} are missing from the journal",
        first = _0.first_seq, last = _0.end_seq().saturating_sub(1), shard = _0.shard, epoch = _0.epoch)]
    Rows(RowRange),
}

impl Loss {
    /// How many rows it is known to be. Rows of a range that is gone are named when the next of their shard is read.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match self {
            Self::Gone { .. } => 0,
            Self::Damaged { rows, .. } => rows.map_or(0, |range| range.rows),
            Self::Rows(range) => range.rows,
        }
    }
}
