//! Showing taps what has come: each is shown its bytes right after they were reaped.
//!
//! In: what a reap has brought for taps, in order. Out: messages that they send or queue, and what they leave, queued as if nobody
//! had looked. Always holds: what a tap leaves, and all that came behind it, stays in order.

use std::rc::Rc;
use std::task::Waker;

use super::super::buffers::RecvBuf;
use super::super::slots::{OpKey, State, Tap, Tapped, picked};
use super::{Inner, Ring};

/// Where no more than so many are shown what came, what each sends goes at once, in a system call of its own: somebody waits for
/// it. Where more came, all of it goes together, with the next wait, which costs less.
pub(super) const FEW: usize = 16;

impl Ring {
    /// Has `tap` shown what a receive brings from now on; `None` ends that.
    pub(in super::super) fn set_tap(&self, key: OpKey, tap: Option<Rc<dyn Tap>>) {
        let mut inner = self.inner.borrow_mut();
        let slot = &mut inner.slots[key.index as usize];
        if slot.generation == key.generation && matches!(slot.state, State::Many { .. }) {
            slot.tap = tap;
        }
    }

    /// Shows taps what has come for them; what they leave is queued as if it had come just now. Whether they left something: a
    /// tap may have woken somebody for it.
    pub(super) fn show_taps(&self, woken: &mut Vec<Waker>) -> bool {
        let mut has_left = false;
        // What a tap does may reap more: that comes behind, and not only with the next completion.
        let mut at = 0;
        self.sends_at_once.set(self.inner.borrow().tapped.len() <= FEW);
        loop {
            let next = self.inner.borrow().tapped.get(at).copied();
            let Some(next) = next else { break };
            at += 1;
            let (buffer, tap) = self.inner.borrow_mut().tapped(&next);
            let is_taken = tap.is_some_and(|tap| tap.received(&buffer)) && next.result > 0;
            let left = if is_taken { None } else { Some(buffer) };
            has_left |= left.is_some();
            let mut inner = self.inner.borrow_mut();
            woken.extend(inner.shown(&next, left));
        }
        self.sends_at_once.set(false);
        self.inner.borrow_mut().tapped.clear();
        has_left
    }
}

impl Inner {
    /// A buffer that a tap is to be shown, and the tap unless something waits to be taken before it.
    fn tapped(&mut self, next: &Tapped) -> (RecvBuf, Option<Rc<dyn Tap>>) {
        let buffer = picked(&self.groups, next.group, next.result, next.flags);
        let slot = &mut self.slots[next.key.index as usize];
        let is_there = slot.generation == next.key.generation;
        slot.is_shown |= is_there;
        let is_next = is_there && slot.queue.is_empty();
        let tap = slot.tap.as_ref().filter(|_| is_next).map(Rc::clone);
        (buffer.unwrap_or_else(|| RecvBuf::owned(Vec::new(), 0)), tap)
    }

    /// Queues what a tap has `left`; whom to wake. Where the receive is gone meanwhile, the buffer goes back. Until here what
    /// came behind it went the same way, so that it stays behind.
    fn shown(&mut self, next: &Tapped, left: Option<RecvBuf>) -> Option<Waker> {
        let slot = &mut self.slots[next.key.index as usize];
        if slot.generation != next.key.generation {
            return None;
        }
        slot.to_show = slot.to_show.saturating_sub(1);
        slot.is_shown = false;
        let State::Many { waker, .. } = &mut slot.state else { return None };
        let buffer = left?;
        buffer.forget();
        slot.queue.push_back((next.result, next.flags));
        waker.take()
    }
}
