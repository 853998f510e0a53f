//! Requests that wait for units: what the budgets call by `WaitId`, as futures.
//!
//! In: outcomes that the budgets resolve. Out: the waiting task, woken. Always holds: a wait whose task is gone is cancelled with
//! the budgets, so that nothing it was granted leaks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use policy::budget::{Outcome, WaitId};

use super::Shard;

/// The waits of one shard.
#[derive(Default)]
pub(super) struct Waits(RefCell<HashMap<WaitId, Wait>>);

#[derive(Default)]
struct Wait {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

impl Waits {
    /// Hands an outcome to whoever waits for it; gives it back when nobody does.
    pub(super) fn resolve(&self, id: WaitId, outcome: Outcome) {
        let mut waits = self.0.borrow_mut();
        let wait = waits.entry(id).or_default();
        wait.outcome = Some(outcome);
        if let Some(waker) = wait.waker.take() {
            waker.wake();
        }
    }
}

/// Waits for one outcome.
pub(super) struct Resolved {
    shard: Rc<Shard>,
    id: Option<WaitId>,
}

impl Resolved {
    pub(super) fn new(shard: Rc<Shard>, id: WaitId) -> Self {
        shard.waits.0.borrow_mut().entry(id).or_default();
        Self { shard, id: Some(id) }
    }
}

impl Future for Resolved {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let id = self.id.expect("a wait is not polled after it is over");
        let mut waits = self.shard.waits.0.borrow_mut();
        let wait = waits.entry(id).or_default();
        let Some(outcome) = wait.outcome.take() else {
            wait.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        waits.remove(&id);
        drop(waits);
        self.id = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Resolved {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let wait = self.shard.waits.0.borrow_mut().remove(&id);
        match wait.and_then(|wait| wait.outcome) {
            Some(outcome) => self.shard.undo(outcome),
            None => self.shard.budgets.borrow_mut().cancel(self.shard.budget_now(), id),
        }
        self.shard.ring.note_runnable();
    }
}
