//! The tasks that a drain must reach while they wait for nothing in particular.
//!
//! In: a task's waker, once. Out: all of them woken when the drain begins. Always holds: a task that has ended is not listed.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Shard;

/// The listed tasks of one shard.
#[derive(Default)]
pub(super) struct Tasks(RefCell<Listed>);

#[derive(Default)]
struct Listed {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Tasks {
    /// Wakes every listed task.
    pub(super) fn wake_all(&self) {
        let wakers: Vec<Waker> = self.0.borrow().wakers.iter().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Lists the calling task for as long as the answer lives.
pub(super) async fn list(shard: &Rc<Shard>) -> Listing {
    std::future::poll_fn(|context| {
        let mut listed = shard.tasks.0.borrow_mut();
        let waker = Some(context.waker().clone());
        let index = match listed.free.pop() {
            Some(index) => {
                listed.wakers[index] = waker;
                index
            }
            None => {
                listed.wakers.push(waker);
                listed.wakers.len() - 1
            }
        };
        std::task::Poll::Ready(Listing { shard: Rc::clone(shard), index })
    })
    .await
}

impl Shard {
    /// Runs `future` until a drain begins; `None` when it began first. Only in a listed task.
    pub(super) async fn unless_draining<F: Future + Unpin>(
        &self,
        mut future: F,
    ) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            if self.is_draining() {
                return Poll::Ready(None);
            }
            Pin::new(&mut future).poll(context).map(Some)
        })
        .await
    }
}

/// A listed task.
pub(super) struct Listing {
    shard: Rc<Shard>,
    index: usize,
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut listed = self.shard.tasks.0.borrow_mut();
        listed.wakers[self.index] = None;
        listed.free.push(self.index);
    }
}
