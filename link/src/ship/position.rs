//! How far a sink has come, on disk: what makes that no row is sent twice or not at all when the process dies.
//!
//! In: the place in the source, the next number of each stream, and the batch that is about to be sent. Out: the same after a
//! start. Always holds: the file is whole (written beside, flushed, renamed, checksummed), and names a batch before any of it is
//! sent.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::batch::{NextNumbers, Stream};
use super::source::Position;

/// No position file is longer: 4096 streams of at most 60 bytes, and some.
const FILE_BYTES_MAX: u64 = 1 << 20;
const HEADER: &str = "payfence-position 1 ";

/// The file of one sink.
#[derive(Debug)]
pub(crate) struct PositionFile {
    path: PathBuf,
}

/// What it says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Everything before is in the sink, set aside, or lost.
    pub position: Position,
    /// The end of the batch that begins there and may or may not be in the sink.
    pub doubt_end: Option<Position>,
    /// The file was lost: rows after `position` may be in the sink from long ago, up to where the source has nothing more.
    pub is_doubting: bool,
    /// The next number of each stream, at `position`.
    pub next: NextNumbers,
}

/// What a start finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// Where the sink was.
    Progress(Progress),
    /// No file: a new sink, or an old one whose data directory is gone.
    Nothing,
    /// A file that cannot be used, and why.
    Unusable(String),
}

#[derive(Serialize, Deserialize)]
struct Written {
    position: Position,
    doubt_end: Option<Position>,
    is_doubting: bool,
    /// Epoch, shard, number.
    next: Vec<(u64, u16, u64)>,
}

impl PositionFile {
    /// `<folder>/<name>.position`.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self { path: folder.join(format!("{name}.position")) }
    }

    /// Reads it.
    ///
    /// # Errors
    /// When the disk says so; a file that is there and is wrong is no error.
    pub(crate) fn load(&self) -> io::Result<Found> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        Ok(match parse(&bytes) {
            Some(progress) => Found::Progress(progress),
            None => Found::Unusable(format!(
                "{} is damaged: every row that is left is looked up in the sink before it is sent",
                self.path.display()
            )),
        })
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// When the disk says so; the old file stands then.
    pub(crate) fn store(&self, progress: &Progress) -> io::Result<()> {
        let written = Written {
            position: progress.position,
            doubt_end: progress.doubt_end,
            is_doubting: progress.is_doubting,
            next: progress
                .next
                .list()
                .into_iter()
                .map(|(Stream { epoch, shard }, next)| (epoch, shard, next))
                .collect(),
        };
        let body = serde_json::to_string(&written).map_err(io::Error::other)?;
        let beside = self.path.with_extension("position.new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        writeln!(file, "{HEADER}{:08x}", crc32fast::hash(body.as_bytes()))?;
        writeln!(file, "{body}")?;
        file.sync_data()?;
        fs::rename(&beside, &self.path)?;
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_data(),
            None => Ok(()),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Progress> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.strip_suffix('\n')?.split_once('\n')?;
    let sum = u32::from_str_radix(head.strip_prefix(HEADER)?, 16).ok()?;
    if sum != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let written: Written = serde_json::from_str(body).ok()?;
    let mut next = NextNumbers::default();
    for (epoch, shard, number) in written.next {
        next.set(Stream { epoch, shard }, number);
    }
    let Written { position, doubt_end, is_doubting, .. } = written;
    Some(Progress { position, doubt_end, is_doubting, next })
}

#[cfg(test)]
#[path = "position_tests.rs"]
mod tests;
