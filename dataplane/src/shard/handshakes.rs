//! Handshakes take turns: public-key work of some hundred microseconds must not hold up the requests that run.
//!
//! In: tasks with a piece of such work. Out: leave to do it, one task a turn of the shard, in the order they came. Always holds: the
//! number of handshakes under way is bounded; a task that is gone holds nobody up for more than a turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Handshakes under way on one shard, with clients and with origins; past it a connection is closed.
const HANDSHAKES_MAX: usize = 2_048;

/// The turns of one shard.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    under_way: Cell<usize>,
    /// Whether nobody has worked in this turn.
    is_free: Cell<bool>,
    waiting: RefCell<VecDeque<Waker>>,
    /// Tasks that were woken to work and have not begun.
    granted: Cell<usize>,
}

/// A handshake under way.
pub(super) struct UnderWay<'a>(&'a Handshakes);

impl Handshakes {
    /// Counts a handshake until the answer is dropped; `None` where too many are under way.
    pub(super) fn begin(&self) -> Option<UnderWay<'_>> {
        if self.under_way.get() >= HANDSHAKES_MAX {
            return None;
        }
        self.under_way.set(self.under_way.get() + 1);
        Some(UnderWay(self))
    }

    /// Waits for leave to do one piece of work.
    pub(super) async fn turn(&self) {
        let mut waits = false;
        poll_fn(|context| {
            if waits && self.granted.get() > 0 {
                self.granted.set(self.granted.get() - 1);
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waits && waiting.is_empty() && self.is_free.replace(false) {
                return Poll::Ready(());
            }
            waits = true;
            waiting.push_back(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Begins a turn of the shard; whether a task was woken.
    pub(super) fn next_turn(&self) -> bool {
        // Whoever was woken and did not come is gone.
        self.granted.set(0);
        let next = self.waiting.borrow_mut().pop_front();
        self.is_free.set(next.is_none());
        let Some(waker) = next else { return false };
        self.granted.set(1);
        waker.wake();
        true
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

#[cfg(test)]
#[path = "handshakes_tests.rs"]
mod tests;
