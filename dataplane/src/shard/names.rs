//! Requests that wait for an origin's name.
//!
//! In: the resolver's word, from its thread, that something changed. Out: the waiting tasks, woken in this shard's turn. Always
//! holds: a change after a look-up that was pending wakes whoever waits since; nobody waits here without a deadline.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use crate::net::{Ring, Timer};
use crate::offcore::resolver::ResolverHandle;

use super::Links;
use super::tasks::Tasks;

/// One shard's waits for names.
pub(super) struct Names {
    /// Set by the resolver's thread.
    changed: Arc<AtomicBool>,
    /// How often a change was passed on.
    changes: Cell<u64>,
    waiting: Tasks,
}

impl Names {
    /// Has `shard` woken by the resolver from now on.
    pub(super) fn new(resolver: &ResolverHandle, links: &Arc<Links>, shard: usize) -> Self {
        let changed = Arc::new(AtomicBool::new(false));
        let (flag, links) = (Arc::clone(&changed), Arc::clone(links));
        resolver.subscribe(Box::new(move || {
            flag.store(true, Ordering::Release);
            links.waker(shard).wake();
        }));
        Self { changed, changes: Cell::new(0), waiting: Tasks::default() }
    }

    /// Whether there is a change that somebody here waits for.
    pub(super) fn has_news(&self) -> bool {
        !self.waiting.is_empty() && self.changed.load(Ordering::Acquire)
    }

    /// For the turn: wakes whoever waits, where something changed.
    pub(super) fn pass_on(&self, ring: &Ring) {
        if self.has_news() && self.changed.swap(false, Ordering::AcqRel) {
            self.changes.set(self.changes.get().wrapping_add(1));
            self.waiting.wake_all();
            ring.note_runnable();
        }
    }

    /// Waits for a change, at most until `deadline_ns`. Right after the look-up that was pending: one that came in between is
    /// seen by the next turn.
    pub(super) async fn change(&self, timer: &Timer, deadline_ns: u64) {
        let before = self.changes.get();
        let _listing = self.waiting.list().await;
        timer.set(deadline_ns);
        let changed = std::future::poll_fn(|_| {
            if self.changes.get() == before { Poll::Pending } else { Poll::Ready(()) }
        });
        let _either = timer.race(pin!(changed)).await;
    }
}
