//! The thread that makes the spool durable, so that the drain never waits for a disk to do so.
//!
//! In: jobs of the spool, one at a time. Out: what became of them. Always holds: the drain gets each answer once.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use link::background;
use link::spool::{SyncDone, SyncJob};

/// A job that takes longer is told of.
const LATE_NS: u64 = 10_000_000_000;

/// The drain's end.
pub(super) struct Syncing {
    jobs: Sender<SyncJob>,
    done: Receiver<SyncDone>,
    /// When the job began that is under way.
    began_ns: Option<u64>,
}

impl Syncing {
    /// Starts the thread; it ends with this, or after its last job.
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, begun) = bounded::<SyncJob>(1);
        let (ends, done) = bounded(1);
        background::spawn("payfence-sync", move || {
            // Nobody may wait for the last answer any more.
            begun.iter().map(SyncJob::run).try_for_each(|done| ends.send(done))
        })?;
        Ok(Self { jobs, done, began_ns: None })
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.began_ns.is_some()
    }

    /// Begins a job. Only where none is under way.
    pub(super) fn begin(&mut self, job: SyncJob, now_ns: u64) {
        // The thread ends only after this has.
        let is_begun = self.jobs.try_send(job).is_ok();
        debug_assert!(is_begun, "one job at a time");
        self.began_ns = is_begun.then_some(now_ns);
    }

    /// What became of the job, once.
    pub(super) fn take_done(&mut self) -> Option<SyncDone> {
        let done = self.done.try_recv().ok()?;
        self.began_ns = None;
        Some(done)
    }

    /// The same, waited for; `None` where none is under way or it takes longer.
    pub(super) fn wait_done(&mut self, timeout: Duration) -> Option<SyncDone> {
        self.began_ns?;
        let done = self.done.recv_timeout(timeout).ok()?;
        self.began_ns = None;
        Some(done)
    }

    /// For how long the disk has been at the job, where that is remarkable.
    pub(super) fn late(&self, now_ns: u64) -> Option<Duration> {
        let took_ns = now_ns.saturating_sub(self.began_ns?);
        (took_ns >= LATE_NS).then(|| Duration::from_nanos(took_ns))
    }
}
