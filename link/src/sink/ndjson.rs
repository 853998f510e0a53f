//! Rows as JSON, one object a line, in files that are changed by size and age.
//!
//! In: batches. Out: `decisions-<UTC time>.ndjson` in a folder, the newest last by name. Always holds: a line is whole or is cut
//! off before anything is appended; a batch stands in one file; files are for their owner alone.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{Outcome, Sink, SinkError};
use crate::ship::{Batch, Held, Range, RowAt, Stream};

const PREFIX: &str = "decisions-";
const SUFFIX: &str = ".ndjson";
/// JSON is written out in pieces of about so many bytes.
const PIECE_BYTES: usize = 256 << 10;
/// What is read back at once.
const READ_BYTES: usize = 256 << 10;
/// No line is longer: eight texts of a kibibyte whose every byte is escaped, and the rest.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Where files are and when another is begun.
#[derive(Clone, Debug)]
pub struct NdjsonConfig {
    /// The folder; made where it is missing.
    pub folder: PathBuf,
    /// A file that has so many bytes is followed by another.
    pub file_bytes_max: u64,
    /// A file whose first row is older than this, compared to a new row, is followed by another.
    pub file_age_max: Duration,
    /// The oldest files go when there are more; zero keeps all.
    pub files_max: usize,
}

impl NdjsonConfig {
    /// In `folder`: 256 MiB or a day a file, all of them kept.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            file_bytes_max: 256 << 20,
            file_age_max: Duration::from_secs(86_400),
            files_max: 0,
        }
    }
}

/// Files of JSON.
#[derive(Debug)]
pub struct NdjsonSink {
    config: NdjsonConfig,
    current: Option<Current>,
    /// The last number of each stream in the files there were at the first question about rows of long ago.
    last: Option<HashMap<Stream, u64>>,
}

/// The file that is appended to.
#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines; what is after them is cut off before the next are written.
    length: u64,
    began_ns: i64,
}

/// What of a line says which row it is.
#[derive(Deserialize)]
struct Numbered<'a> {
    #[serde(borrow)]
    node: Cow<'a, str>,
    epoch: u64,
    shard: u16,
    seq: u64,
}

impl NdjsonSink {
    /// Nothing is touched yet.
    #[must_use]
    pub const fn new(config: NdjsonConfig) -> Self {
        Self { config, current: None, last: None }
    }

    fn error(&self, outcome: Outcome, what: &str, error: &io::Error) -> SinkError {
        let folder = self.config.folder.display();
        SinkError::new(
            outcome,
            format!("{what} in {folder}: {error}; rows wait in the spool until it goes"),
        )
    }

    /// The files, oldest first.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.config.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Goes on with the newest file, without the line that was not finished.
    fn open(&mut self) -> io::Result<()> {
        let folder = &self.config.folder;
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        self.current = None;
        let Some(path) = self.files()?.pop() else { return Ok(()) };
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let whole = file.metadata()?.len();
        let length = end_of_lines(&file, whole)?;
        if length < whole {
            tracing::warn!(
                "{}: the last line was not finished and is cut off; its row is written again",
                path.display()
            );
            file.set_len(length)?;
        }
        let began_ns = began_ns(&path);
        self.current = Some(Current { file, path, length, began_ns });
        Ok(())
    }

    /// The file for rows of this time.
    fn turn(&mut self, time_ns: i64) -> io::Result<&mut Current> {
        let age_max = i64::try_from(self.config.file_age_max.as_nanos()).unwrap_or(i64::MAX);
        let is_done = self.current.as_ref().is_none_or(|current| {
            current.length >= self.config.file_bytes_max
                || time_ns.saturating_sub(current.began_ns) >= age_max
        });
        if is_done {
            let newest = self.current.take().map(|current| current.path);
            let current = self.begin(time_ns, newest.as_deref())?;
            self.current = Some(current);
            self.forget_oldest()?;
        }
        self.current.as_mut().ok_or_else(|| io::Error::other("no file"))
    }

    /// Begins a file whose name comes after that of the newest.
    fn begin(&self, time_ns: i64, newest: Option<&Path>) -> io::Result<Current> {
        let mut began_ns = time_ns;
        if let Some(newest) = newest {
            began_ns = began_ns.max(self::began_ns(newest).saturating_add(1_000));
        }
        let time = jiff::Timestamp::from_nanosecond(i128::from(began_ns))
            .map_err(io::Error::other)?
            .strftime("%Y%m%dT%H%M%S.%6fZ")
            .to_string();
        let path = self.config.folder.join(format!("{PREFIX}{time}{SUFFIX}"));
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        File::open(&self.config.folder)?.sync_data()?;
        Ok(Current { file, path, length: 0, began_ns })
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let files = self.files()?;
        let kept = if self.config.files_max == 0 { files.len() } else { self.config.files_max };
        let old = files.len().saturating_sub(kept);
        files.iter().take(old).try_for_each(fs::remove_file)
    }

    fn write(&mut self, batch: &Batch, rows: &[RowAt]) -> Result<(), SinkError> {
        let Some(first) = rows.first() else { return Ok(()) };
        let unreadable = |error: crate::row::Malformed| {
            SinkError::new(Outcome::Rejected, format!("a row cannot be written as JSON: {error}"))
        };
        let time_ns = batch.read(first).map_err(unreadable)?.opened.time_ns;
        let current = match self.turn(time_ns) {
            Ok(current) => current,
            Err(error) => return Err(self.error(Outcome::NotTaken, "cannot begin a file", &error)),
        };
        let result = current.append(batch, rows);
        match result {
            Ok(()) => {
                if let Some(last) = &mut self.last {
                    last.extend(rows.iter().map(|row| (batch.stream_of(row), row.seq)));
                }
                Ok(())
            }
            Err(Append::Row(error)) => Err(unreadable(error)),
            Err(Append::Disk(error)) => Err(self.error(Outcome::Doubtful, "cannot write", &error)),
        }
    }
}

enum Append {
    Row(crate::row::Malformed),
    Disk(io::Error),
}

impl From<io::Error> for Append {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Current {
    /// Appends lines and flushes them; on an error none of them counts.
    fn append(&mut self, batch: &Batch, rows: &[RowAt]) -> Result<(), Append> {
        let before = self.length;
        let result = self.write_lines(batch, rows).and_then(|length| {
            self.file.sync_data()?;
            self.length = length;
            Ok(())
        });
        if result.is_err() {
            // Where this fails too, the lines stay and are found when the sink is asked.
            let _ = self.file.set_len(before);
        }
        result
    }

    fn write_lines(&mut self, batch: &Batch, rows: &[RowAt]) -> Result<u64, Append> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        let mut text = Vec::with_capacity(PIECE_BYTES + LINE_BYTES_MAX);
        let mut length = self.length;
        for at in rows {
            let row = batch.read(at).map_err(Append::Row)?;
            let mut digits = [0; 32];
            let record = row.record(batch.origin_of(at), &mut digits);
            serde_json::to_writer(&mut text, &record).map_err(io::Error::from)?;
            text.push(b'\n');
            if text.len() >= PIECE_BYTES {
                self.file.write_all(&text)?;
                length += text.len() as u64;
                text.clear();
            }
        }
        self.file.write_all(&text)?;
        Ok(length + text.len() as u64)
    }
}

impl Sink for NdjsonSink {
    async fn prepare(&mut self) -> Result<(), SinkError> {
        self.open().map_err(|error| self.error(Outcome::NotTaken, "cannot open files", &error))
    }

    async fn send(&mut self, batch: &Batch, rows: &[RowAt]) -> Result<(), SinkError> {
        self.write(batch, rows)
    }

    /// Reads back from the end, through lines of the batch's streams, until one from before the batch.
    async fn held(&mut self, batch: &Batch) -> Result<Held, SinkError> {
        self.open()
            .and_then(|()| self.read_back(batch))
            .map_err(|error| self.error(Outcome::Doubtful, "cannot read back", &error))
    }
}

impl NdjsonSink {
    fn read_back(&mut self, batch: &Batch) -> io::Result<Held> {
        if !batch.may_be_old {
            return self.read_end(batch);
        }
        if self.last.is_none() {
            self.last = Some(self.read_all(&batch.node)?);
        }
        let last = self.last.iter().flatten();
        // Rows of a stream are appended in their order, so the last one says it of all.
        Ok(Held::new(
            last.map(|(stream, seq)| Range { stream: *stream, from: 0, to: seq + 1 }).collect(),
        ))
    }

    /// Reads from the end through the lines of this batch. They can only be the last ones, since nothing was sent after them.
    fn read_end(&self, batch: &Batch) -> io::Result<Held> {
        let ranges = batch.ranges();
        let mut numbers = Vec::new();
        for path in self.files()?.iter().rev() {
            let file = File::open(path)?;
            let is_over = lines_from_end(&file, file.metadata()?.len(), |line| {
                let Some((stream, seq)) = numbered(line, &batch.node) else { return true };
                let range = ranges.iter().find(|range| range.stream == stream);
                let is_in = range.is_some_and(|range| (range.from..range.to).contains(&seq));
                if is_in {
                    numbers.push((stream, seq));
                }
                !is_in
            })?;
            if is_over {
                break;
            }
        }
        numbers.reverse();
        Ok(Held::of_numbers(numbers))
    }

    /// The last number of each stream in all files.
    fn read_all(&self, node: &str) -> io::Result<HashMap<Stream, u64>> {
        let mut last = HashMap::new();
        for path in self.files()? {
            let file = File::open(path)?;
            lines_from_end(&file, file.metadata()?.len(), |line| {
                if let Some((stream, seq)) = numbered(line, node) {
                    let known = last.entry(stream).or_insert(seq);
                    *known = seq.max(*known);
                }
                false
            })?;
        }
        Ok(last)
    }
}

fn numbered(line: &[u8], node: &str) -> Option<(Stream, u64)> {
    let line: Numbered<'_> = serde_json::from_slice(line).ok()?;
    let stream = Stream { epoch: line.epoch, shard: line.shard };
    (line.node == node).then_some((stream, line.seq))
}

/// The time in a file's name, Unix nanoseconds; zero where it has none.
fn began_ns(path: &Path) -> i64 {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let time = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX));
    let time =
        time.and_then(|time| jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S.%fZ", time).ok());
    let time = time.and_then(|time| jiff::tz::Offset::UTC.to_timestamp(time).ok());
    time.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).unwrap_or(0)
}

/// Bytes up to and with the last line feed.
fn end_of_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut piece = vec![0; READ_BYTES];
    while end > 0 {
        let begin = end.saturating_sub(READ_BYTES as u64);
        let part = piece.get_mut(..usize::try_from(end - begin).unwrap_or(0)).unwrap_or_default();
        file.read_exact_at(part, begin)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Gives whole lines from the last to the first, until `is_enough` says so; whether it did.
fn lines_from_end(
    file: &File,
    length: u64,
    mut is_enough: impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let mut begin = end_of_lines(file, length)?;
    // The beginning of the part that was read before belongs to a line that begins further ahead.
    let mut rest: Vec<u8> = Vec::new();
    while begin > 0 {
        let end = begin;
        begin = end.saturating_sub(READ_BYTES as u64);
        let mut piece = vec![0; usize::try_from(end - begin).unwrap_or(0)];
        file.read_exact_at(&mut piece, begin)?;
        piece.extend_from_slice(&rest);
        let mut lines = piece.split(|byte| *byte == b'\n').rev().peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() && begin > 0 {
                rest = line.to_vec();
                break;
            }
            if line.len() > LINE_BYTES_MAX || (!line.is_empty() && is_enough(line)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "ndjson_tests.rs"]
mod tests;
