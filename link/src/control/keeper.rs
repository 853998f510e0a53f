//! The policy in force, and what of it is on disk.
//!
//! In: what a start finds on disk, fetched bases, changes. Out: snapshots to the sink, and what to ask the control plane for. Always holds:
//! within one history the sequence in force never goes back; what is in the log leads from its base to the log's sequence without
//! a gap; a refused base or change alters neither.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::PolicySink;
use super::state::LinkState;
use super::store::{DeltaLog, Kept, LogReader, Store};
use crate::disk::DiskFile;
use crate::wire::{BaseOffer, DeltaHead, StreamQuery};

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// It is in force.
    Applied,
    /// It was before.
    Old,
    /// Changes before it are missing.
    Gap,
    /// Nothing is applied before a base has come.
    Awaits,
    /// It failed a check; a base is needed.
    Refused,
}

/// Holds the policy.
#[derive(Debug)]
pub(super) struct Keeper<S: PolicySink> {
    sink: Arc<S>,
    store: Store,
    state: Arc<LinkState>,
    held: Option<Held<S::Snapshot>>,
    /// A new base that lacks changes which are in force: it catches up beside the old one before it takes its place.
    behind: Option<Held<S::Snapshot>>,
    /// A base of at least this sequence is wanted, since a change to it, or a base, was refused.
    fresh: u64,
    /// The control plane's history, once it has said one that is not the one held.
    stranger: Option<u64>,
}

#[derive(Debug)]
struct Held<T> {
    snapshot: T,
    sequence: u64,
    log: DeltaLog,
}

/// A base that was checked, with the changes known at the time.
pub(super) struct Prepared<T> {
    held: Held<T>,
    /// How far the log of the policy in force was read.
    read: Option<(PathBuf, u64)>,
}

impl<S: PolicySink> Keeper<S> {
    /// Puts in force what an earlier start left, the newest that passes every check.
    pub(super) fn boot(sink: Arc<S>, store: Store, state: Arc<LinkState>) -> Self {
        let kept = store.kept().unwrap_or_else(|error| {
            state.disk_failed("cannot look for policies on disk", &error);
            Vec::new()
        });
        let mut keeper =
            Self { sink, store, state, held: None, behind: None, fresh: 0, stranger: None };
        for kept in kept {
            match keeper.load_kept(&kept) {
                Ok(held) => {
                    tracing::info!(sequence = held.sequence, base = %kept.base.display(), "policy loaded from disk");
                    keeper.put_in_force(held);
                    break;
                }
                Err(reason) => keeper.refuse(&format!("{}: {reason}", kept.base.display())),
            }
        }
        keeper
    }

    fn load_kept(&self, kept: &Kept) -> Result<Held<S::Snapshot>, String> {
        let file = File::open(&kept.base).map_err(|error| error.to_string())?;
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        if length != kept.offer.bytes {
            return Err(format!("{length} bytes where {} were written", kept.offer.bytes));
        }
        let mut snapshot = self.sink.load_base(file, kept.offer.sequence)?;
        let mut sequence = kept.offer.sequence;
        let read = |error: io::Error| format!("{}: {error}", kept.log.display());
        let mut log = LogReader::open(&kept.log).map_err(read)?;
        let mut end = None;
        while let Some(delta) = log.next_delta().map_err(read)? {
            let applied = if leads_on(delta.head, sequence) {
                self.sink.apply(&snapshot, &delta.bytes)
            } else {
                Err("it does not follow the one before".to_owned())
            };
            match applied {
                Ok(next) => snapshot = next,
                Err(reason) => {
                    self.refuse(&format!("a change in {}: {reason}", kept.log.display()));
                    break;
                }
            }
            sequence = delta.head.to;
            end = Some(delta.end);
        }
        // Without a good change the log ends after its head, which is as far as the reader of an empty one comes.
        let end = end.map_or_else(|| head_end(&kept.log), Ok).map_err(read)?;
        let log = self.store.reopen(kept, end, sequence).map_err(read)?;
        Ok(Held { snapshot, sequence, log })
    }

    /// What to ask the control plane for.
    pub(super) fn query(&self, epoch: u64) -> StreamQuery {
        let none = StreamQuery { epoch, fresh: self.fresh, ..StreamQuery::default() };
        self.behind.as_ref().or(self.held.as_ref()).map_or(none, |held| StreamQuery {
            history: held.log.offer().history,
            // What could not be written is asked for again, and then changes nothing but the log.
            from: if held.log.is_full() { held.sequence } else { held.log.sequence() },
            base: held.log.offer().sequence,
            ..none
        })
    }

    /// The last change in force; 0 for none.
    pub(super) fn sequence(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.sequence)
    }

    /// Whether changes in force are missing from the log.
    pub(super) fn lags_on_disk(&self) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| held.log.sequence() != held.sequence && !held.log.is_full())
    }

    /// Whether no change can be applied before a base has come.
    pub(super) const fn awaits_base(&self) -> bool {
        self.held.is_none() || self.fresh > 0 || self.stranger.is_some()
    }

    /// The history of the control plane that has answered.
    pub(super) fn meet(&mut self, history: u64) {
        let known = self.held.as_ref().map(|held| held.log.offer().history);
        self.stranger = known.filter(|known| *known != history).map(|_| history);
        if self.stranger.is_some() {
            tracing::warn!(
                "the control plane's database has another history; its base replaces the policy in force"
            );
        }
    }

    /// Whether a base is of use: not the one that is held already.
    pub(super) fn wants(&self, offer: &BaseOffer) -> bool {
        self.awaits_base() || self.held.as_ref().is_none_or(|held| held.log.offer() != offer)
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Takes a change as it came.
    pub(super) fn take(&mut self, head: DeltaHead, bytes: &[u8]) -> Took {
        if self.catch_up(head, bytes) {
            return Took::Applied;
        }
        if self.awaits_base() {
            return Took::Awaits;
        }
        let Some(held) = &mut self.held else { return Took::Awaits };
        if head.from > held.sequence {
            return if self.behind.is_some() { Took::Awaits } else { Took::Gap };
        }
        let is_new = head.to > held.sequence;
        if is_new {
            match self.sink.apply(&held.snapshot, bytes) {
                Ok(snapshot) => held.snapshot = snapshot,
                Err(reason) => {
                    self.fresh = head.to;
                    self.refuse(&format!("the change from {} to {}: {reason}", head.from, head.to));
                    return Took::Refused;
                }
            }
            held.sequence = head.to;
            self.sink.publish(&held.snapshot, held.sequence);
            self.state.advance(|status| {
                status.sequence = head.to;
                status.deltas += 1;
                status.rejected_error = None;
            });
        }
        // In force first: a slow disk must not hold up a revocation.
        if let Err(error) = held.log.append(head, bytes) {
            self.state.disk_failed("policy changes cannot be written down", &error);
        } else if held.log.sequence() == held.sequence {
            self.state.disk_works();
        }
        if is_new { Took::Applied } else { Took::Old }
    }

    /// Feeds a base that is behind; true when it has taken the old one's place with this change.
    fn catch_up(&mut self, head: DeltaHead, bytes: &[u8]) -> bool {
        let Some(behind) = &mut self.behind else { return false };
        if !leads_on(head, behind.sequence) {
            return false;
        }
        let fed = self.sink.apply(&behind.snapshot, bytes).and_then(|snapshot| {
            behind.snapshot = snapshot;
            behind.sequence = head.to;
            behind.log.append(head, bytes).map_err(|error| error.to_string())
        });
        match fed {
            Ok(()) if behind.sequence < self.sequence() => false,
            Ok(()) => self.behind.take().is_some_and(|held| match self.replace(held) {
                Ok(()) => true,
                Err(reason) => {
                    self.refuse(&reason);
                    false
                }
            }),
            Err(reason) => {
                self.behind = None;
                self.refuse(&format!("the change from {} to {}: {reason}", head.from, head.to));
                false
            }
        }
    }

    /// What checks a fetched base, whose hash is known to fit, on a thread that may take its time.
    pub(super) fn preparation(
        &self,
        offer: BaseOffer,
    ) -> impl FnOnce() -> Result<Prepared<S::Snapshot>, String> + Send + 'static {
        let (sink, store) = (Arc::clone(&self.sink), self.store.clone());
        let held = self.held.as_ref().filter(|held| held.log.offer().history == offer.history);
        let log_path = held.map(|held| held.log.path().to_owned());
        move || {
            let part = store.part(&offer);
            let file = File::open(&part).map_err(|error| error.to_string())?;
            let snapshot = sink.load_base(file, offer.sequence)?;
            let log = store.new_log(offer).map_err(|error| error.to_string())?;
            let mut held = Held { snapshot, sequence: offer.sequence, log };
            let read = log_path.map(|path| {
                let at = replay(&*sink, &mut held, &path, 0)?;
                Ok::<_, String>((path, at))
            });
            let read = read.transpose()?;
            held.log.sync().map_err(|error| error.to_string())?;
            Ok(Prepared { held, read })
        }
    }

    /// Puts a base in force, with every change known since; false where it has to catch up first: ask for the stream again.
    ///
    /// # Errors
    /// Text for a person, when the disk fails or a change does not fit; then nothing has changed.
    pub(super) fn adopt(&mut self, prepared: Prepared<S::Snapshot>) -> Result<bool, String> {
        let Prepared { mut held, read } = prepared;
        let old = self.held.as_ref();
        let old = old.filter(|old| old.log.offer().history == held.log.offer().history);
        if let (Some((path, at)), Some(old)) = (read, old)
            && old.log.path() == path
        {
            replay(&*self.sink, &mut held, &path, at)?;
        }
        if old.is_some_and(|old| held.sequence < old.sequence) {
            self.behind = Some(held);
            self.fresh = 0;
            return Ok(false);
        }
        self.replace(held).map(|()| true)
    }

    fn replace(&mut self, mut held: Held<S::Snapshot>) -> Result<(), String> {
        self.store.adopt(&mut held.log).map_err(|error| error.to_string())?;
        tracing::info!(
            sequence = held.sequence,
            base = held.log.offer().sequence,
            "a new policy base is in force"
        );
        (self.fresh, self.stranger, self.behind) = (0, None, None);
        self.put_in_force(held);
        self.state.update(|status| {
            status.bases += 1;
            status.rejected_error = None;
        });
        Ok(())
    }

    fn put_in_force(&mut self, held: Held<S::Snapshot>) {
        self.sink.publish(&held.snapshot, held.sequence);
        let (sequence, base) = (held.sequence, held.log.offer().sequence);
        self.state.advance(|status| (status.sequence, status.base) = (sequence, base));
        self.held = Some(held);
    }

    /// A base was refused: the next one is of at least its sequence.
    pub(super) fn refuse_base(&mut self, offer: &BaseOffer, reason: &str) {
        self.fresh = self.fresh.max(offer.sequence);
        self.refuse(&format!("the base {}: {reason}", offer.sequence));
    }

    fn refuse(&self, reason: &str) {
        self.state.rejected(reason);
        self.sink.refused(reason);
    }

    /// What to make durable now.
    pub(super) fn unsynced(&mut self) -> Option<Arc<dyn DiskFile>> {
        self.held.as_mut().and_then(|held| held.log.unsynced())
    }
}

/// Whether a change brings what is at `sequence` further. It may begin earlier: it says how things are at its end, and another control plane
/// than the one before has cut changes at other places.
pub(super) const fn leads_on(head: DeltaHead, sequence: u64) -> bool {
    head.from <= sequence && sequence < head.to
}

/// Applies what a log has from `held`'s sequence on; returns how far the log was read.
fn replay<S: PolicySink>(
    sink: &S,
    held: &mut Held<S::Snapshot>,
    path: &Path,
    at: u64,
) -> Result<u64, String> {
    let read = |error: io::Error| format!("{}: {error}", path.display());
    let mut log = LogReader::open_at(path, at).map_err(read)?;
    while let Some(delta) = log.next_delta().map_err(read)? {
        if !leads_on(delta.head, held.sequence) {
            continue;
        }
        held.snapshot = sink.apply(&held.snapshot, &delta.bytes)?;
        held.sequence = delta.head.to;
        held.log.append(delta.head, &delta.bytes).map_err(read)?;
    }
    Ok(log.at())
}

/// Where a log's head ends.
fn head_end(path: &Path) -> io::Result<u64> {
    let mut log = LogReader::open(path)?;
    log.read_head()?;
    Ok(log.at())
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
