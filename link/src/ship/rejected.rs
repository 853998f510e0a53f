//! Rows that a sink would not take, kept for a person to look at.
//!
//! In: such rows, and what the sink said. Out: `<name>.rejected.ndjson`, one object a line: `error`, `epoch`, `shard`, `seq`, and
//! `row`, or `bytes` in hex where the row cannot be read. Always holds: the file has a bound; past it rows are only counted.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use policy::decision::Record;
use serde::Serialize;

use super::batch::{Batch, RowAt};

/// Bytes the file may have.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(crate) struct Rejected {
    path: PathBuf,
    file_bytes_max: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    error: &'a str,
    epoch: u64,
    shard: u16,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<Record<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

impl Rejected {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self {
            path: folder.join(format!("{name}.rejected.ndjson")),
            file_bytes_max: FILE_BYTES_MAX,
        }
    }

    /// Where the rows are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends rows, durably; how many found room.
    ///
    /// # Errors
    /// When the disk says so.
    pub(crate) fn append(&self, batch: &Batch, rows: &[(RowAt, String)]) -> io::Result<usize> {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&self.path)?;
        let room = self.file_bytes_max.saturating_sub(file.metadata()?.len());
        let (mut text, mut written) = (Vec::new(), 0);
        for (at, error) in rows {
            let before = text.len();
            write_line(&mut text, batch, at, error)?;
            if text.len() as u64 > room {
                text.truncate(before);
                break;
            }
            written += 1;
        }
        file.write_all(&text)?;
        file.sync_data()?;
        Ok(written)
    }
}

fn write_line(text: &mut Vec<u8>, batch: &Batch, at: &RowAt, error: &str) -> io::Result<()> {
    let origin = batch.origin_of(at);
    let mut digits = [0; 32];
    let row = batch.read(at).ok();
    let row = row.as_ref().map(|row| row.record(origin, &mut digits));
    let bytes = row.is_none().then(|| {
        batch.bytes_of(at).iter().fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    });
    let line =
        Line { error, epoch: origin.epoch, shard: origin.shard, seq: origin.seq, row, bytes };
    serde_json::to_writer(&mut *text, &line)?;
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
#[path = "rejected_tests.rs"]
mod tests;
