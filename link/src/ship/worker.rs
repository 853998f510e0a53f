//! Brings the rows of the source into one sink, each exactly once.
//!
//! In: blocks of the source, answers of the sink. Out: batches, and the position on disk. Always holds: a batch is named on disk
//! before any of it is sent; after anything that leaves a doubt, the sink is asked before anything is sent again; the position
//! moves past a row only when it is in the sink, set aside on disk, or gone from the source.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::batch::{Batch, RowAt};
use super::position::{Found, PositionFile, Progress};
use super::rejected::Rejected;
use super::source::{Position, Source};
use super::state::{ExportState, Health};
use crate::sink::{Outcome, Sink, SinkError};

/// Single rows that are tried out to know whether a sink that refuses a batch takes others.
const PROBES: usize = 8;
/// What the error of a row of each batch may grow to before the rest is only counted.
const SET_ASIDE_MAX: usize = 10_000;

/// How much goes to a sink at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a batch; the block that reaches it is still taken whole.
    pub rows_max: usize,
    /// Bytes of a batch, as they lie in the source.
    pub bytes_max: usize,
    /// How long a batch waits for more rows.
    pub age_max: Duration,
    /// How often the source is asked while it has none.
    pub poll_interval: Duration,
    /// The wait after the first failure of a row of them.
    pub retry_first: Duration,
    /// The longest wait between attempts.
    pub retry_longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows_max: 100_000,
            bytes_max: 16 << 20,
            age_max: Duration::from_secs(1),
            poll_interval: Duration::from_millis(200),
            retry_first: Backoff::FIRST,
            retry_longest: Backoff::LONGEST,
        }
    }
}

/// What the shipper has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// Ship what there is, then end.
    Flushing,
    Ended,
}

pub(crate) struct Worker<K, S> {
    pub sink: K,
    pub source: S,
    pub limits: Limits,
    pub state: Arc<ExportState>,
    pub node: Arc<str>,
    pub file: PositionFile,
    pub rejected: Rejected,
    pub phase: watch::Receiver<Phase>,
    pub backoff: Backoff,
    /// At the end of what is being collected; on disk stands what it was at the start.
    pub progress: Progress,
    pub is_prepared: bool,
}

/// A batch that is being brought.
struct Bringing {
    batch: Batch,
    /// As on disk while the batch is on its way.
    before: Progress,
    is_doubtful: bool,
    is_recorded: bool,
    /// The sink refuses all of it: rows that follow will show whether it is the rows or the sink.
    is_widening: bool,
}

impl<K: Sink, S: Source> Worker<K, S> {
    /// Ships until told to flush, and then until the source has nothing more.
    pub(crate) async fn run(mut self) {
        let doubt_end = self.open().await;
        if let Some(end) = doubt_end
            && let Some(batch) = self.collect_until(end).await
        {
            self.bring(batch, true).await;
        }
        loop {
            let before = self.progress.clone();
            let mut batch = Batch::new(Arc::clone(&self.node), before.position);
            if !self.collect(&mut batch).await {
                break;
            }
            batch.may_be_old = self.progress.is_doubting;
            self.bring((batch, before), self.progress.is_doubting).await;
        }
        self.state.set_health(Health::Stopped);
    }

    /// Finds where the sink was; the end of the batch that is in doubt.
    async fn open(&mut self) -> Option<Position> {
        let found = loop {
            match self.file.load() {
                Ok(found) => break found,
                Err(error) => {
                    self.failed(&format!("the position file cannot be read: {error}"));
                    self.wait_before_retry().await;
                }
            }
        };
        match found {
            Found::Progress(progress) => self.progress = progress,
            Found::Nothing => self.progress.is_doubting = true,
            Found::Unusable(text) => {
                tracing::warn!(sink = self.state.name(), "{text}");
                self.state.note(&text);
                self.progress.is_doubting = true;
            }
        }
        while let Err(error) = self.source.seek(self.progress.position) {
            self.failed(&format!("the spool cannot be read: {error}"));
            self.wait_before_retry().await;
        }
        self.progress.doubt_end.take()
    }

    /// The batch that was on its way when the process ended, as far as the source still has it.
    async fn collect_until(&mut self, end: Position) -> Option<(Batch, Progress)> {
        let before = self.progress.clone();
        let mut batch = Batch::new(Arc::clone(&self.node), before.position);
        while batch.end < end {
            if !self.add_block(&mut batch).await {
                break;
            }
        }
        (!batch.is_untouched()).then_some((batch, before))
    }

    /// Adds rows until a limit is reached; false when there are none and none will come.
    async fn collect(&mut self, batch: &mut Batch) -> bool {
        let mut opened: Option<Instant> = None;
        let limits = self.limits;
        while batch.rows.len() < limits.rows_max && batch.bytes < limits.bytes_max {
            if self.add_block(batch).await {
                if opened.is_none() && !batch.rows.is_empty() {
                    opened = Some(Instant::now());
                    self.state.set_oldest(finished_ns(batch));
                }
                continue;
            }
            if *self.phase.borrow() != Phase::Running {
                return !batch.is_untouched();
            }
            let age = opened.map_or(Duration::ZERO, |opened| opened.elapsed());
            if age >= limits.age_max {
                break;
            }
            if batch.rows.is_empty() {
                self.progress.is_doubting = false;
            }
            self.pause(limits.poll_interval.min(limits.age_max - age)).await;
        }
        true
    }

    /// Adds the next block; false when there is none now.
    async fn add_block(&mut self, batch: &mut Batch) -> bool {
        loop {
            match self.source.next() {
                Ok(None) => return false,
                Ok(Some(block)) => {
                    let added = batch.add(block, &mut self.progress.next);
                    self.progress.position = batch.end;
                    self.state.add_lost(added.lost);
                    if added.lost > 0 {
                        let text = format!(
                            "{} rows were dropped from the spool before the sink took them: its cap is too small for how long the sink was away",
                            added.lost
                        );
                        tracing::warn!(sink = self.state.name(), "{text}");
                        self.state.note(&text);
                    }
                    if added.unreadable > 0 {
                        let text = format!(
                            "{} bytes before {} of the spool are no rows; they are passed over",
                            added.unreadable, batch.end
                        );
                        tracing::error!(sink = self.state.name(), "{text}");
                        self.state.note(&text);
                    }
                    return true;
                }
                Err(error) => {
                    self.failed(&format!("the spool cannot be read: {error}"));
                    self.wait_before_retry().await;
                }
            }
        }
    }

    /// Brings a batch into the sink, however long it takes.
    async fn bring(&mut self, (batch, before): (Batch, Progress), is_doubtful: bool) {
        let mut bringing =
            Bringing { batch, before, is_doubtful, is_recorded: is_doubtful, is_widening: false };
        loop {
            match self.attempt(&mut bringing).await {
                Ok(()) => break,
                Err(error) => {
                    self.is_prepared = false;
                    self.failed(&error.text);
                    self.wait_before_retry().await;
                }
            }
            if bringing.is_widening && bringing.batch.rows.len() < 2 * self.limits.rows_max {
                // What follows is named on disk too before it is sent.
                bringing.is_recorded &= !self.add_block(&mut bringing.batch).await;
            }
        }
        self.state.set_oldest(None);
        self.state.set_health(Health::Ok);
        self.backoff.reset();
    }

    async fn attempt(&mut self, bringing: &mut Bringing) -> Result<(), SinkError> {
        if !self.is_prepared && !bringing.batch.rows.is_empty() {
            self.sink.prepare().await?;
            self.is_prepared = true;
        }
        let batch = &bringing.batch;
        let mut set_aside = Vec::new();
        let is_doubtful = bringing.is_doubtful && !batch.rows.is_empty();
        let missing = if is_doubtful {
            Cow::Owned(self.missing(batch).await?)
        } else {
            Cow::Borrowed(&batch.rows[..])
        };
        if !missing.is_empty() {
            if !bringing.is_recorded {
                let doubt = Progress { doubt_end: Some(batch.end), ..bringing.before.clone() };
                self.store(&doubt)?;
                bringing.is_recorded = true;
            }
            match self.sink.send(batch, &missing).await {
                Ok(()) => {}
                Err(error) => {
                    bringing.is_doubtful |= error.outcome != Outcome::NotTaken;
                    if error.outcome != Outcome::Rejected {
                        return Err(error);
                    }
                    bringing.is_widening = true;
                    set_aside = self.sift(batch).await?;
                }
            }
        }
        if !set_aside.is_empty() {
            self.set_aside(batch, &set_aside)?;
        }
        let after = Progress { doubt_end: None, ..self.progress.clone() };
        self.store(&after)?;
        self.state.add_exported((batch.rows.len() - set_aside.len()) as u64);
        self.state.add_set_aside(set_aside.len() as u64);
        Ok(())
    }

    /// The rows of a batch that the sink does not have.
    async fn missing(&mut self, batch: &Batch) -> Result<Vec<RowAt>, SinkError> {
        let held = self.sink.held(batch).await?;
        let missing = batch.rows.iter().filter(|row| !held.contains(batch.stream_of(row), row.seq));
        Ok(missing.copied().collect())
    }

    /// Brings what a sink takes of a batch that it refused, and returns the rows that it does not take. A row is bad only where it
    /// cannot be read or where others are taken: otherwise it is the sink that is, and nothing may be set aside.
    async fn sift(&mut self, batch: &Batch) -> Result<Vec<(RowAt, String)>, SinkError> {
        let mut bad = Vec::new();
        let mut missing = self.missing(batch).await?;
        missing.retain(|row| match batch.read(row) {
            Ok(_) => true,
            Err(error) => {
                bad.push((*row, error.to_string()));
                false
            }
        });
        let refusal = match self.send_some(batch, &missing).await? {
            None => return Ok(bad),
            Some(refusal) => refusal,
        };
        let mut is_some_taken = false;
        for row in missing.iter().step_by(missing.len().div_ceil(PROBES).max(1)) {
            is_some_taken |= self.send_some(batch, std::slice::from_ref(row)).await?.is_none();
        }
        if !is_some_taken {
            return Err(refusal);
        }
        let mut missing = self.missing(batch).await?;
        missing.retain(|row| !bad.iter().any(|(known, _)| known == row));
        let mut parts = VecDeque::from([missing.as_slice()]);
        while let Some(part) = parts.pop_front() {
            match (self.send_some(batch, part).await?, part) {
                (None, _) => {}
                (Some(error), [row]) => bad.push((*row, error.text)),
                (Some(_), _) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([first, second]);
                }
            }
        }
        Ok(bad)
    }

    /// Sends rows; what the sink said where it refused them.
    async fn send_some(
        &mut self,
        batch: &Batch,
        rows: &[RowAt],
    ) -> Result<Option<SinkError>, SinkError> {
        if rows.is_empty() {
            return Ok(None);
        }
        match self.sink.send(batch, rows).await {
            Ok(()) => Ok(None),
            Err(error) if error.outcome == Outcome::Rejected => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    fn set_aside(&self, batch: &Batch, rows: &[(RowAt, String)]) -> Result<(), SinkError> {
        let some = rows.get(..rows.len().min(SET_ASIDE_MAX)).unwrap_or(rows);
        let written =
            self.rejected.append(batch, some).map_err(|error| self.disk_error("rows", &error))?;
        let error = rows.first().map_or("", |(_, error)| error.as_str());
        let text = format!(
            "the sink does not take {} rows; {written} of them are in {}: {error}",
            rows.len(),
            self.rejected.path().display()
        );
        tracing::error!(sink = self.state.name(), "{text}");
        self.state.note(&text);
        Ok(())
    }

    fn store(&self, progress: &Progress) -> Result<(), SinkError> {
        self.file.store(progress).map_err(|error| self.disk_error("the position", &error))
    }

    fn disk_error(&self, what: &str, error: &std::io::Error) -> SinkError {
        let text = format!(
            "{what} of sink {} cannot be written to the data directory: {error}; nothing is shipped until it can",
            self.state.name()
        );
        SinkError::new(Outcome::NotTaken, text)
    }

    fn failed(&self, text: &str) {
        let is_news = self.state.health() == Health::Ok;
        self.state.failed(text);
        if is_news {
            tracing::warn!(sink = self.state.name(), "rows are not shipped, trying again: {text}");
        }
    }

    async fn wait_before_retry(&mut self) {
        let wait = self.backoff.next();
        self.pause(wait).await;
    }

    /// Waits; less when told to flush meanwhile.
    async fn pause(&mut self, wait: Duration) {
        if *self.phase.borrow_and_update() == Phase::Running {
            let _ = tokio::time::timeout(wait, self.phase.changed()).await;
        } else {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Runs a worker until it is done or told to end at once.
pub(crate) async fn until_ended(
    work: impl Future<Output = ()>,
    mut phase: watch::Receiver<Phase>,
    state: Arc<ExportState>,
) -> bool {
    tokio::select! {
        () = work => true,
        _ = phase.wait_for(|phase| *phase == Phase::Ended) => {
            state.set_health(Health::Stopped);
            false
        }
    }
}

/// When the first row of a batch was finished, Unix nanoseconds.
fn finished_ns(batch: &Batch) -> Option<i64> {
    let row = batch.read(batch.rows.first()?).ok()?;
    let total_ns = i64::try_from(row.ended.total_us.saturating_mul(1_000)).unwrap_or(i64::MAX);
    Some(row.opened.time_ns.saturating_add(total_ns))
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
