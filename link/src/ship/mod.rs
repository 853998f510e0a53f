//! Takes rows out of the spool and brings them into sinks.
//!
//! In: one source and one sink for each export. Out: rows in sinks, positions in `<data-dir>/sinks`, figures in [`ExportState`].
//! Always holds: each sink has a thread of its own, so that none waits for another's server or disk, and none is a shard's; a row
//! is in a sink exactly once, whatever fails and whenever the process dies.

pub(crate) mod backoff;
mod batch;
#[cfg(test)]
pub(crate) mod fixture;
mod position;
mod rejected;
mod source;
mod spool_source;
mod state;
mod worker;

use std::collections::HashSet;
use std::fs::DirBuilder;
use std::future::Future;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use self::backoff::Backoff;
#[cfg(test)]
pub(crate) use self::batch::NextNumbers;
pub use self::batch::{Batch, Held, Range, RowAt, Stream};
use self::position::{Found, PositionFile, Progress};
use self::rejected::Rejected;
pub use self::source::{Position, Source, SourceBlock, SourceError};
pub use self::spool_source::SpoolSource;
pub use self::state::{ExportState, Health};
pub use self::worker::Limits;
use self::worker::{Phase, Worker, until_ended};
use crate::background;
use crate::sink::Sink;

/// The folder of positions in the data directory.
const FOLDER: &str = "sinks";
/// Characters of a sink's name.
const NAME_BYTES_MAX: usize = 32;

/// One sink and what it is fed from.
pub struct Export {
    name: String,
    limits: Limits,
    begin: Begin,
}

type Begin = Box<dyn FnOnce(Seat) -> Pin<Box<dyn Future<Output = bool>>> + Send>;

/// What a worker is given on its thread.
struct Seat {
    limits: Limits,
    state: Arc<ExportState>,
    node: Arc<str>,
    file: PositionFile,
    rejected: Rejected,
    phase: watch::Receiver<Phase>,
    seed: u64,
}

impl Export {
    /// `name` names its files, and the sink in `/status` and metrics: 1 to 32 of `a-z`, `0-9` and `-`, none twice.
    pub fn new<K, S>(name: &str, limits: Limits, sink: K, source: S) -> Self
    where
        K: Sink + Send + 'static,
        S: Source + Send + 'static,
    {
        let begin: Begin = Box::new(move |seat: Seat| {
            let (phase, state) = (seat.phase.clone(), Arc::clone(&seat.state));
            let worker = Worker {
                sink,
                source,
                backoff: Backoff::new(
                    seat.limits.retry_first,
                    seat.limits.retry_longest,
                    seat.seed,
                ),
                limits: seat.limits,
                state: seat.state,
                node: seat.node,
                file: seat.file,
                rejected: seat.rejected,
                phase: seat.phase,
                progress: Progress::default(),
                is_prepared: false,
            };
            Box::pin(until_ended(worker.run(), phase, state))
        });
        Self { name: name.to_owned(), limits, begin }
    }
}

/// The shipper could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A name that cannot be one.
    #[error("a sink's name is 1 to 32 of a-z, 0-9 and -, and no two are the same: {0:?} is not")]
    Name(String),
    /// The folder for positions cannot be made.
    #[error("the folder {folder} cannot be made: {cause}")]
    Folder {
        /// Where.
        folder: String,
        /// Why.
        cause: io::Error,
    },
    /// A thread cannot be started.
    #[error("the thread that ships rows into sink {sink} cannot be started: {cause}")]
    Thread {
        /// For which sink.
        sink: String,
        /// Why.
        cause: io::Error,
    },
}

/// The running shipper. Dropped, it stops at once; what is on its way is in doubt then, and found out about at the next start.
pub struct Shipper {
    states: Vec<Arc<ExportState>>,
    phase: watch::Sender<Phase>,
    /// One word of each thread: whether all rows got into its sink.
    done: mpsc::Receiver<bool>,
}

impl Shipper {
    /// How long the thread gets to end when it is told to, beyond the time for flushing.
    const END_GRACE: Duration = Duration::from_secs(2);

    /// Starts all exports. `node` is the node's name in each row, `data_dir` the data directory.
    ///
    /// # Errors
    /// When a name is none, or folder or thread cannot be had. No sink needs to be reachable.
    pub fn start(data_dir: &Path, node: &str, exports: Vec<Export>) -> Result<Self, StartError> {
        let folder = data_dir.join(FOLDER);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|cause| StartError::Folder { folder: folder.display().to_string(), cause })?;
        let mut names = HashSet::new();
        for export in &exports {
            if !is_name(&export.name) || !names.insert(&export.name) {
                return Err(StartError::Name(export.name.clone()));
            }
        }
        let (phase, _) = watch::channel(Phase::Running);
        let (sender, done) = mpsc::channel();
        let node: Arc<str> = node.into();
        let mut states = Vec::new();
        for export in exports {
            let Export { name, limits, begin } = export;
            let state = Arc::new(ExportState::new(&name));
            states.push(Arc::clone(&state));
            let seat = Seat {
                limits,
                state,
                node: Arc::clone(&node),
                file: PositionFile::new(&folder, &name),
                rejected: Rejected::new(&folder, &name),
                phase: phase.subscribe(),
                seed: seed(),
            };
            // Those that were started before one that could not be end with `phase`.
            run(&name, begin, seat, sender.clone())
                .map_err(|cause| StartError::Thread { sink: name, cause })?;
        }
        Ok(Self { states, phase, done })
    }

    /// How each sink is doing, in the order they were given.
    #[must_use]
    pub fn states(&self) -> &[Arc<ExportState>] {
        &self.states
    }

    /// Ships what the source has now, then ends; at the deadline in any case. True when all of it got into every sink. What did not
    /// stays in the spool for the next start.
    #[must_use]
    pub fn flush(self, deadline: Duration) -> bool {
        self.phase.send_replace(Phase::Flushing);
        let end = Instant::now() + deadline;
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        let mut is_complete = true;
        for at in 0..self.states.len() {
            let Ok(is_done) = self.done.recv_timeout(left(end)) else {
                self.phase.send_replace(Phase::Ended);
                // One that hangs in a system call is left behind: the process ends without it.
                let end = Instant::now() + Self::END_GRACE;
                (at..self.states.len()).for_each(|_| {
                    let _ = self.done.recv_timeout(left(end));
                });
                return false;
            };
            is_complete &= is_done;
        }
        is_complete
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Ended);
    }
}

/// Up to where the rows of the spool are in a sink, by the word of `<data-dir>/sinks`; `None` where that says nothing.
///
/// # Errors
/// When it cannot be read.
pub fn delivered(data_dir: &Path, sink: &str) -> io::Result<Option<Position>> {
    match PositionFile::new(&data_dir.join(FOLDER), sink).load()? {
        Found::Progress(progress) => Ok(Some(progress.position)),
        Found::Nothing | Found::Unusable(_) => Ok(None),
    }
}

/// Starts the thread of one export, which says at its end whether all rows got into the sink.
fn run(name: &str, begin: Begin, seat: Seat, done: mpsc::Sender<bool>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    background::spawn(&format!("ship-{name}"), move || {
        let is_complete = runtime.block_on(begin(seat));
        // Nobody may wait for the answer any more.
        let _ = done.send(is_complete);
    })
    .map(drop)
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Spreads retries of several nodes; any number would do where there is no randomness.
fn seed() -> u64 {
    getrandom::u64().unwrap_or(1)
}

#[cfg(test)]
#[path = "ship_tests.rs"]
mod tests;
