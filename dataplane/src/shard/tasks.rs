//! Lists of tasks that wait for the same thing, such as those that a drain must reach while they wait for nothing in particular.
//!
//! In: a task's waker, once. Out: all of them woken when the thing happens. Always holds: a task that has ended is not listed.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Shard;

/// Listed tasks of one shard.
#[derive(Default)]
pub(super) struct Tasks(Rc<RefCell<Listed>>);

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

    /// Whether no task is listed.
    pub(super) fn is_empty(&self) -> bool {
        let listed = self.0.borrow();
        listed.wakers.len() == listed.free.len()
    }

    /// Lists the calling task for as long as the answer lives.
    pub(super) async fn list(&self) -> Listing {
        std::future::poll_fn(|context| {
            let mut listed = self.0.borrow_mut();
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
            Poll::Ready(Listing { tasks: Rc::clone(&self.0), index })
        })
        .await
    }
}

impl Shard {
    /// Runs `future` until a drain begins; `None` when it began first. Only in a listed task.
    pub(super) async fn unless_draining<F: Future + Unpin>(&self, future: F) -> Option<F::Output> {
        unless(|| self.is_draining(), future).await
    }

    /// Runs `future` until the drain's time is over; `None` when it was first. Only in a listed task.
    pub(super) async fn unless_cut_off<F: Future + Unpin>(&self, future: F) -> Option<F::Output> {
        unless(|| self.cut_off.get(), future).await
    }
}

async fn unless<F: Future + Unpin>(is_over: impl Fn() -> bool, mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        if is_over() {
            return Poll::Ready(None);
        }
        Pin::new(&mut future).poll(context).map(Some)
    })
    .await
}

/// A listed task.
pub(super) struct Listing {
    tasks: Rc<RefCell<Listed>>,
    index: usize,
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut listed = self.tasks.borrow_mut();
        listed.wakers[self.index] = None;
        listed.free.push(self.index);
    }
}
