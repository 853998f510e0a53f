//! The thread that empties the rings: rows to the spool, charges to the books.
//!
//! In: the rings of all shards. Out: rows on disk, checkpoints, a state. Always holds: it never touches a shard but for taking its
//! records; while the disk refuses, records stay in their rings; every row is durable after a second or two.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use link::background;
use link::books::Books;
use link::checkpoint::{self, Checkpoint};
use link::lease_log;
use link::row::Account;
use link::spool::{BlockHead, Config, Error, Position, Spool, Tail};

use super::state::JournalState;
use super::stream::{Stream, StreamError, Taken, Written};
use super::syncing::Syncing;
use crate::clock::{Clock, Now};

/// How long records wait in their ring; what can gather meanwhile is a small part of it.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the disk is left alone after it refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);
/// How often rows are made durable.
const SYNC_NS: u64 = 1_000_000_000;
/// A new segment is begun where no more than this is to be made durable for it, which holds up the drain.
const ROTATE_BYTES_MAX: u64 = 4 << 20;
/// Blocks taken of one ring before the next.
const BLOCKS_PER_TURN: usize = 8;
/// Rows after which a checkpoint is made, so that a start replays no more than about so many.
const CHECKPOINT_ROWS: u64 = 1_000_000;
/// How long the end waits for a disk that refuses.
const END_NS: u64 = 5_000_000_000;
/// How long the end waits for one that hangs, whatever it is at: the end as such, a job of syncing and a checkpoint before it.
const HUNG: Duration = Duration::from_secs(20);
/// Periods that ended so long ago are forgotten.
pub(super) const KEEP_PERIODS_S: i64 = 40 * 86_400;

/// What rows are made into besides the spool.
pub(super) struct Sums {
    pub(super) books: Books,
    state: Arc<JournalState>,
    refused: u64,
}

impl Sums {
    pub(super) fn new(books: Books, state: Arc<JournalState>) -> Self {
        Self { books, state, refused: 0 }
    }
}

impl Taken for Sums {
    fn charged(&mut self, account: &Account, units: u64) {
        if !self.books.add(account, units) {
            self.refused += units;
        }
    }

    fn rows(&mut self, head: &BlockHead, rows: &[u8]) {
        self.state.live().show(head, rows);
    }
}

/// What the drain works on.
pub struct Drain {
    pub(super) spool: Spool,
    pub(super) streams: Vec<Stream>,
    pub(super) sums: Sums,
    pub(super) state: Arc<JournalState>,
    pub(super) clock: Clock,
    /// This start's number.
    pub(super) epoch: u64,
    /// Where checkpoints are.
    pub(super) folder: PathBuf,
    /// What is not needed once everything is in the spool and counted.
    pub(super) leftovers: Vec<PathBuf>,
    /// Keeps other processes off the folder.
    pub(super) _lock: std::fs::File,
}

/// The drain's thread.
pub struct DrainThread {
    ends: Sender<()>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl DrainThread {
    /// Ends it after everything in the rings is on disk. The shards must have ended, so that nothing more comes.
    /// A disk that hangs is not waited for: what is in the rings stays there, and the next start takes it.
    pub fn finish(self) {
        drop(self.ends);
        if self.ended.recv_timeout(HUNG) == Err(RecvTimeoutError::Timeout) {
            tell_hung();
            return;
        }
        // A panic on it has been reported by the hook.
        let _ = self.thread.join();
    }
}

impl Drain {
    /// How far rows are durable, and where they are.
    #[must_use]
    pub fn tail(&self) -> (Arc<Tail>, PathBuf) {
        (self.spool.tail(), self.spool.folder().to_owned())
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn start(self) -> std::io::Result<DrainThread> {
        let (ends, ended) = bounded(0);
        let syncing = Syncing::start()?;
        let (alive, has_ended) = bounded(0);
        let thread = background::spawn("payfence-drain", move || {
            let _alive: Sender<()> = alive;
            self.run(syncing, &ended);
        })?;
        Ok(DrainThread { ends, ended: has_ended, thread })
    }

    fn run(mut self, mut syncing: Syncing, ended: &Receiver<()>) {
        let mut checkpoints = Checkpoints::default();
        let mut synced_ns = 0;
        let mut rows_before = 0;
        let mut rows = 0;
        let mut pause = Duration::ZERO;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
            let now = self.clock.now();
            let mut outcome = self.turn(now);
            if let Ok((written, _)) = outcome {
                rows += u64::from(written);
            }
            let wants_segment = self.spool.needs_rotation();
            // A segment ends with what is left to be made durable: little, unless the disk never comes that far.
            let is_little = self.spool.unsynced_bytes() <= ROTATE_BYTES_MAX
                || self.spool.position().offset >= 2 * Config::SEGMENT_BYTES;
            let is_due =
                now.mono_ns.saturating_sub(synced_ns) >= SYNC_NS || (wants_segment && !is_little);
            let synced = self.make_durable(&mut syncing, is_due.then_some(now));
            if is_due {
                synced_ns = now.mono_ns;
            }
            outcome = outcome.and_then(|turn| synced.map(|()| turn));
            if wants_segment && is_little && !syncing.is_under_way() {
                let is_due = rows - rows_before >= CHECKPOINT_ROWS || checkpoints.is_first();
                let rotated = self.rotate(now);
                if let Ok(position) = &rotated
                    && is_due
                    && checkpoints.begin(self.checkpoint(*position), &self.folder)
                {
                    rows_before = rows;
                }
                outcome = outcome.and_then(|turn| rotated.map(|_| turn));
            }
            if let Some(position) = checkpoints.take_done() {
                self.spool.checkpointed(position);
            }
            pause = match &outcome {
                Ok((_, true)) => Duration::ZERO,
                Ok((_, false)) => PAUSE,
                Err(_) => REFUSED_PAUSE,
            };
            self.tell(outcome.err(), syncing.late(now.mono_ns));
        }
        if checkpoints.wait(Duration::from_nanos(END_NS)) {
            self.end(syncing);
        } else {
            // The checkpoint of the end would wait for the same disk.
            tell_hung();
        }
    }

    /// Takes in what has become durable; where it `is_due`, has the rest made so too, beside this thread.
    fn make_durable(&mut self, syncing: &mut Syncing, is_due: Option<Now>) -> Result<(), Error> {
        if let Some(done) = syncing.take_done() {
            self.spool.end_sync(done)?;
        }
        let Some(now) = is_due.filter(|_| !syncing.is_under_way()) else { return Ok(()) };
        match self.spool.begin_sync() {
            Some(job) => syncing.begin(job, now.mono_ns),
            // Nothing is to be done, or what only a failure or a new segment asks for.
            None => {
                self.spool.sync()?;
            }
        }
        Ok(())
    }

    /// Takes what is in the rings. How many rows were numbered, and whether more waits.
    pub(super) fn turn(&mut self, now: Now) -> Result<(u32, bool), Error> {
        let (mut rows, mut has_more) = (0, false);
        let mut refused = None;
        for stream in &mut self.streams {
            match take(stream, &mut self.spool, now, &mut self.sums) {
                Ok(written) => {
                    rows += written.rows;
                    has_more |= written.has_more;
                }
                Err(error) => refused = Some(error),
            }
        }
        let sum = |of: fn(&Stream) -> u64| self.streams.iter().map(of).sum::<u64>();
        // Also where the disk refuses: that is when rows are lost.
        self.state.set_rows(u64::from(rows), sum(Stream::lost), sum(Stream::waiting_bytes));
        refused.map_or(Ok((rows, has_more)), Err)
    }

    fn rotate(&mut self, now: Now) -> Result<Position, Error> {
        let blocks: Vec<(BlockHead, Vec<u8>)> =
            self.streams.iter().flat_map(|stream| stream.open_blocks(now.unix_ns)).collect();
        let blocks = blocks.iter().filter(|(_, rows)| !rows.is_empty());
        self.spool.rotate(blocks.map(|(head, rows)| (*head, rows.as_slice())))
    }

    /// What holds now, at the start of a segment.
    fn checkpoint(&mut self, position: Position) -> Checkpoint {
        let now_s = self.clock.now().unix_s();
        self.sums.books.forget(now_s.saturating_sub(KEEP_PERIODS_S));
        let streams = self.streams.iter().map(Stream::progress).collect();
        Checkpoint { position, streams, books: self.sums.books.clone() }
    }

    fn tell(&mut self, error: Option<Error>, late: Option<Duration>) {
        let dropped = self.spool.take_dropped();
        let rows = dropped.iter().flat_map(|segment| &segment.ranges).map(|range| range.rows).sum();
        self.state.add_dropped(rows);
        self.state.set_spool(self.spool.bytes(), self.spool.segments().0);
        let late = late.map(|late| {
            format!(
                "{}: the disk has taken {} s to make decisions durable; until then they are in the system's memory only, and no sink gets them",
                self.spool.folder().display(),
                late.as_secs()
            )
        });
        let text = error.as_ref().map(ToString::to_string).or_else(|| late.clone());
        if self.state.set_error(text) {
            match error {
                Some(error) => {
                    tracing::error!(%error, "decisions cannot be written; they wait in memory until the disk takes them")
                }
                None if late.is_some() => tracing::warn!("{}", late.unwrap_or_default()),
                None => tracing::info!("decisions are written again"),
            }
        }
    }

    /// Everything that is left, to disk; then what only a crash would need goes.
    fn end(mut self, mut syncing: Syncing) {
        let began = self.clock.now();
        if syncing.is_under_way() {
            match syncing
                .wait_done(Duration::from_nanos(END_NS))
                .map(|done| self.spool.end_sync(done))
            {
                Some(Ok(_)) => {}
                Some(Err(error)) => self.tell(Some(error), None),
                None => {
                    tell_hung();
                    return;
                }
            }
        }
        loop {
            let now = self.clock.now();
            match self.finish(now) {
                Ok(()) => return,
                Err(error) if now.mono_ns - began.mono_ns < END_NS => {
                    self.tell(Some(error), None);
                    thread::park_timeout(REFUSED_PAUSE);
                }
                Err(error) => {
                    tracing::error!(%error, "the last decisions could not be written; they stay in the ring directory, and the \
                        next start takes them from there");
                    return;
                }
            }
        }
    }

    fn finish(&mut self, now: Now) -> Result<(), Error> {
        while self.turn(now)?.1 {}
        for stream in &mut self.streams {
            if let Err(StreamError::Spool(error)) =
                stream.cut(&mut self.spool, now.unix_ns, &mut self.sums)
            {
                return Err(error);
            }
        }
        let lost: u64 = self.streams.iter().map(Stream::lost).sum();
        self.streams.iter().map(Stream::strays).filter(|strays| *strays > 0).for_each(|strays| {
            tracing::warn!(strays, "ends of requests were recorded whose beginnings were not");
        });
        let position = self.spool.rotate([])?;
        let checkpoint = self.checkpoint(position);
        checkpoint::write(&self.folder, &checkpoint)?;
        self.spool.checkpointed(position);
        if lost > 0 {
            // What was lost from the log was used all the same: the leases tell how much.
            tracing::warn!(
                lost,
                "decisions were lost from the log; the next start counts by the leases what they used"
            );
            return Ok(());
        }
        let unneeded = |path: &dyn std::fmt::Display, error: &dyn std::fmt::Display| {
            tracing::warn!(%path, %error, "what is no longer needed cannot be removed");
        };
        if let Err(error) = lease_log::remove(&self.folder, self.epoch) {
            unneeded(&self.folder.display(), &error);
        }
        for path in std::mem::take(&mut self.leftovers) {
            let removed =
                if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                unneeded(&path.display(), &error);
            }
        }
        Ok(())
    }
}

fn tell_hung() {
    tracing::error!(
        "the disk does not answer: the last decisions stay in the ring directory and the system's memory, and the next start \
         takes them from there"
    );
}

/// Takes some blocks of one ring.
fn take(
    stream: &mut Stream,
    spool: &mut Spool,
    now: Now,
    sums: &mut Sums,
) -> Result<Written, Error> {
    let mut all = Written::default();
    for _ in 0..BLOCKS_PER_TURN {
        match stream.step(spool, now.unix_ns, sums) {
            Ok(written) => {
                all.rows += written.rows;
                all.has_more = written.has_more;
            }
            Err(StreamError::Spool(error)) => return Err(error),
            Err(StreamError::Ring(damaged)) => {
                tracing::error!(%damaged, "the decisions of a shard can no longer be recorded; restart the node, and see \
                    whether something else writes to its ring directory");
                all.has_more = false;
            }
        }
        if !all.has_more {
            break;
        }
    }
    Ok(all)
}

/// Checkpoints, written one at a time beside the drain.
#[derive(Default)]
struct Checkpoints {
    /// Says where the one under way stands once it is durable; closed without a word where it failed.
    running: Option<Receiver<Position>>,
    begun: u64,
}

impl Checkpoints {
    fn is_first(&self) -> bool {
        self.begun == 0
    }

    /// Begins one; false while another is being written.
    fn begin(&mut self, checkpoint: Checkpoint, folder: &std::path::Path) -> bool {
        if self.running.is_some() {
            return false;
        }
        self.begun += 1;
        let folder = folder.to_owned();
        let (done, running) = bounded(1);
        let write = move || match checkpoint::write(&folder, &checkpoint) {
            // Nobody may wait for it any more.
            Ok(()) => drop(done.try_send(checkpoint.position)),
            Err(error) => {
                tracing::error!(%error, "the use so far could not be written down; the last checkpoint still holds");
            }
        };
        let is_begun = background::spawn("payfence-checkpoint", write).is_ok();
        self.running = is_begun.then_some(running);
        is_begun
    }

    /// The place of a checkpoint that is durable now.
    fn take_done(&mut self) -> Option<Position> {
        let said = self.running.as_ref()?.try_recv();
        if said != Err(TryRecvError::Empty) {
            self.running = None;
        }
        said.ok()
    }

    /// Waits for the one under way; false where it takes longer.
    fn wait(&mut self, timeout: Duration) -> bool {
        let Some(running) = self.running.take() else { return true };
        running.recv_timeout(timeout) != Err(RecvTimeoutError::Timeout)
    }
}
