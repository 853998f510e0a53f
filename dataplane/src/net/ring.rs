//! The ring itself: operation slots, submission, completions, and the turn that drives a shard.
//!
//! In: entries queued by operations. Out: results in their slots, tasks woken. Always holds: an operation's memory stays in
//! its slot until its completion was reaped (a message's, [until its submission has returned](messages)), whether or not
//! anybody still waits; a slot's generation tells a late completion from the next operation; entries reach the kernel in the order
//! in which they were queued.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::clock::{Clock, Now, TurnClock};

use super::buffers::{BufferGroup, Group, RecvBuf};
use super::error::RingError;
use super::park::{self, Turn};
use super::slots::{
    Completion, OpKey, Resource, Slot, State, Tapped, discard, keep_waker, picked, release,
};
use super::wake::{add, eventfd};
use super::wheel::{Timer, Wheel};

pub(super) mod messages;
mod taps;

/// Completions that nobody waits for.
const IGNORED: u64 = u64::MAX;
/// Completions that only end a wait: sent by other shards.
pub(super) const WAKE: u64 = u64::MAX - 1;
/// Completions of reads that took a buffer out of its group, the small one and the large one.
const ASIDE: [u64; 2] = [u64::MAX - 2, u64::MAX - 3];
/// The completion that ends a wait which has lasted its longest time.
const LONGEST: u64 = u64::MAX - 4;
/// No operation's user data is as great: slots never get so many.
const RESERVED: u64 = LONGEST;

/// Buffers of a group that are set aside at once: more would hold up a turn.
const ASIDE_MAX: u16 = 256;

/// Received buffers that a connection may leave untaken before its receive is paused.
const UNTAKEN_MAX: usize = 4;

/// Sizes of a shard's ring.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Submission entries; the completion queue has four times as many.
    pub entries: u32,
    /// Small buffers: how many (a power of two), and bytes each.
    pub small: (u16, usize),
    /// Large buffers: how many (a power of two), and bytes each.
    pub large: (u16, usize),
    /// The process's clock.
    pub clock: Clock,
}

struct Inner {
    // Before the groups: the kernel lets go of the buffers first.
    uring: IoUring,
    groups: [Rc<BufferGroup>; 2],
    /// An eventfd to be read from into buffers that are not needed: no other way takes one out of its ring.
    drain: OwnedFd,
    slots: Vec<Slot>,
    free: Vec<u32>,
    in_flight: usize,
    /// Messages that were offered to their sockets, or will be by the next submission, and whose ends are not known.
    offered: Vec<OpKey>,
    /// The timer that ends a wait which has lasted its longest time, monotonic nanoseconds; 0 where none is set.
    longest_ns: u64,
    /// What it is told: read by the kernel as it takes the entry.
    longest: types::Timespec,
    /// Receives to be paused, by user data: filled and emptied within a reap.
    floods: Vec<u64>,
    /// Tasks whose completions were reaped between turns: the next turn wakes them.
    woken_early: Vec<Waker>,
    /// What taps are to be shown, in the order it came.
    tapped: Vec<Tapped>,
    /// Memory of messages that have gone.
    spent: Vec<Vec<u8>>,
}

/// One shard's ring. Lives on one thread.
pub struct Ring {
    inner: RefCell<Inner>,
    wheel: Rc<RefCell<Wheel>>,
    clock: TurnClock,
    runnable: Cell<bool>,
    woken: RefCell<Vec<Waker>>,
    /// Messages are not to wait for the end of the turn.
    sends_at_once: Cell<bool>,
}

impl Ring {
    /// Sets the ring up on the calling thread, which alone may use it.
    ///
    /// # Errors
    /// When the kernel refuses io_uring, or is too old, or memory cannot be locked.
    pub fn new(config: &RingConfig) -> Result<Rc<Self>, RingError> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(config.entries * 4)
            .build(config.entries)
            .map_err(RingError::new)?;
        let register = |group, (count, bytes)| {
            BufferGroup::register(&uring.submitter(), group, count, bytes).map_err(RingError::new)
        };
        let groups = [register(Group::Small, config.small)?, register(Group::Large, config.large)?];
        let clock = TurnClock::new(config.clock);
        Ok(Rc::new(Self {
            inner: RefCell::new(Inner {
                uring,
                groups,
                drain: eventfd(libc::EFD_SEMAPHORE | libc::EFD_NONBLOCK).map_err(RingError::new)?,
                slots: Vec::new(),
                free: Vec::new(),
                in_flight: 0,
                offered: Vec::new(),
                longest_ns: 0,
                longest: types::Timespec::from(park::LONGEST),
                floods: Vec::new(),
                woken_early: Vec::new(),
                tapped: Vec::new(),
                spent: Vec::new(),
            }),
            wheel: Rc::new(RefCell::new(Wheel::new(clock.now().mono_ns))),
            clock,
            runnable: Cell::new(true),
            woken: RefCell::new(Vec::new()),
            sends_at_once: Cell::new(false),
        }))
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The time of this turn in monotonic nanoseconds, as timers take it.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.clock.now().mono_ns
    }

    /// A new timer, not set.
    #[must_use]
    pub fn timer(&self) -> Timer {
        Timer::new(Rc::clone(&self.wheel))
    }

    /// Must be called by whoever makes a task of this shard runnable other than through the ring: the next turn will
    /// then not block.
    pub fn note_runnable(&self) {
        self.runnable.set(true);
    }

    /// Whether that was called since the last turn.
    pub fn is_runnable(&self) -> bool {
        self.runnable.get()
    }

    /// Operations that the kernel has not completed yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.borrow().in_flight
    }

    /// One turn: submits what is queued, waits where nothing is runnable and `may_block` agrees, reaps, wakes. Whether a task may
    /// be runnable, to which the caller is to yield: also where the longest time of a wait is over, for one that was woken unsaid.
    ///
    /// # Errors
    /// When the kernel fails the ring itself: the shard cannot go on.
    pub fn turn(&self, may_block: impl FnOnce() -> bool) -> io::Result<bool> {
        let has_woken = !self.inner.borrow().woken_early.is_empty();
        let was_runnable = self.runnable.replace(false);
        let block = !was_runnable && !has_woken && may_block();
        let wake_ns = self.wheel.borrow().next_ns();
        let mut woken = self.woken.take();
        let has_waited_longest;
        {
            let mut inner = self.inner.borrow_mut();
            let turn = if block { inner.wait(self.now_ns(), wake_ns) } else { Turn::Pass };
            park::turn(&mut inner.uring, turn)?;
            woken.append(&mut inner.woken_early);
            inner.reap(&mut woken);
            has_waited_longest = inner.longest_ns == 0;
        }
        let now_ns = self.clock.refresh().mono_ns;
        let has_left = self.show_taps(&mut woken);
        self.wheel.borrow_mut().advance(now_ns, &mut woken);
        let is_told = was_runnable || has_left || self.runnable.get() || !woken.is_empty();
        for waker in woken.drain(..) {
            waker.wake();
        }
        self.woken.replace(woken);
        Ok(is_told || has_waited_longest)
    }

    /// Queues an operation that somebody will wait for.
    pub(super) fn submit(
        &self,
        mut resource: Resource,
        build: impl FnOnce(&mut Resource) -> squeue::Entry,
    ) -> OpKey {
        let entry = build(&mut resource);
        self.inner.borrow_mut().start(State::Waiting(None), resource, entry)
    }

    /// Queues an operation that completes many times: an accept, or a receive into buffers the kernel picks.
    pub(super) fn submit_many(&self, resource: Resource, entry: squeue::Entry) -> OpKey {
        let state = State::Many { waker: None, ended: false, cancelled: false };
        self.inner.borrow_mut().start(state, resource, entry)
    }

    /// Queues an entry whose completion nobody waits for.
    pub(super) fn submit_unattended(&self, entry: squeue::Entry) {
        let entry = entry.user_data(IGNORED).flags(squeue::Flags::SKIP_SUCCESS);
        self.inner.borrow_mut().push(&entry);
    }

    /// The result of `key`, once; wakes the caller's task when it is there.
    pub(super) fn poll(&self, key: OpKey, context: &Context<'_>) -> Poll<Completion> {
        self.inner.borrow_mut().poll(key, context)
    }

    /// The next connection of an accept; `None` when it has ended, which frees its slot.
    pub(super) fn poll_accepted(
        &self,
        key: OpKey,
        context: &Context<'_>,
    ) -> Poll<Option<io::Result<OwnedFd>>> {
        self.inner.borrow_mut().poll_next(key, context).map(|next| {
            next.map(|(result, _)| {
                // SAFETY: the kernel has just made this descriptor, and nobody else has seen it.
                super::op::check(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
            })
        })
    }

    /// The next buffer of a receive into `group`; `None` when the receive has ended, which frees its slot. An empty buffer is
    /// the end of the stream.
    pub(super) fn poll_received(
        &self,
        key: OpKey,
        group: Group,
        context: &Context<'_>,
    ) -> Poll<Option<io::Result<RecvBuf>>> {
        let mut inner = self.inner.borrow_mut();
        inner.poll_next(key, context).map(|next| {
            next.map(|(result, flags)| {
                let buffer = picked(&inner.groups, group, result, flags);
                super::op::check(result)?;
                Ok(buffer.unwrap_or_else(|| RecvBuf::owned(Vec::new(), 0)))
            })
        })
    }

    /// Whether a receive runs and has brought nothing that was not taken: neither bytes nor an end.
    pub(super) fn is_quiet(&self, key: OpKey) -> bool {
        let inner = self.inner.borrow();
        let slot = &inner.slots[key.index as usize];
        slot.is_all_taken() && matches!(slot.state, State::Many { ended: false, .. })
    }

    /// Whether a receive has ended because it was paused, with nothing left to be taken; its slot is free then.
    pub(super) fn take_pause(&self, key: OpKey) -> bool {
        let mut inner = self.inner.borrow_mut();
        let Inner { slots, free, .. } = &mut *inner;
        let slot = &mut slots[key.index as usize];
        let is_over = matches!(slot.state, State::Many { ended: true, .. }) && slot.to_show == 0;
        let is_paused = is_over && slot.queue.iter().all(|(result, _)| *result == -libc::ECANCELED);
        if is_paused {
            slot.queue.clear();
            release(slot, key.index, free);
        }
        is_paused
    }

    /// Asks an operation that has many results to end; those it has brought are still there to be taken.
    pub(super) fn end(&self, key: OpKey) {
        self.inner.borrow_mut().cancel(key.user_data());
    }

    /// Gives `group` more buffers where it has none; whether it has some now.
    pub(super) fn grow(&self, group: Group) -> bool {
        let inner = self.inner.borrow();
        inner.groups[usize::from(group.id())].grow()
    }

    /// Gives memory back of buffers that nobody has needed since the call before last, some at a time. To be called every few
    /// seconds.
    pub fn give_memory_back(&self) {
        let mut inner = self.inner.borrow_mut();
        for group in [Group::Small, Group::Large] {
            let surplus = inner.groups[usize::from(group.id())].surplus();
            inner.set_aside(group, surplus.min(ASIDE_MAX));
        }
    }

    /// Nobody waits for `key` any more: cancels it; its memory stays until the completion.
    pub(super) fn abandon(&self, key: OpKey) {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return };
        inner.abandon(key);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.inner.borrow().uring.as_raw_fd()
    }
}

impl Inner {
    fn start(&mut self, state: State, resource: Resource, entry: squeue::Entry) -> OpKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::free());
            u32::try_from(self.slots.len() - 1).expect("operations are bounded by connections")
        });
        let slot = &mut self.slots[index as usize];
        slot.state = state;
        slot.resource = resource;
        let key = OpKey { index, generation: slot.generation };
        self.in_flight += 1;
        self.push(&entry.user_data(key.user_data()));
        key
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: whatever the entry points to lies in its slot's resource, which lives until the completion.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is full.
            self.hand_over();
        }
    }

    /// Hands what is queued over to the kernel now rather than at the turn.
    fn hand_over(&mut self) {
        let Err(error) = self.uring.submit() else { return };
        assert!(
            matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)),
            "io_uring does not take entries any more: {error}"
        );
        // Completions overflowed: make room for them.
        let mut woken = std::mem::take(&mut self.woken_early);
        self.reap(&mut woken);
        self.woken_early = woken;
    }

    /// A wait until `wake_ns`. Its longest time is a timer that outlasts many waits: one for each would be set and ended for nothing.
    fn wait(&mut self, now_ns: u64, wake_ns: Option<u64>) -> Turn {
        if self.longest_ns == 0 {
            self.longest_ns = now_ns + park::LONGEST.as_nanos() as u64;
            let timer = opcode::Timeout::new(&raw const self.longest).build();
            self.push(&timer.user_data(LONGEST));
        }
        let sooner = wake_ns.filter(|at| *at < self.longest_ns);
        Turn::Wait { at_most_ns: sooner.map(|at| at.saturating_sub(now_ns)) }
    }

    fn reap(&mut self, woken: &mut Vec<Waker>) {
        let queue = self.uring.submission();
        let were_all_offered = queue.is_empty() && !queue.cq_overflow();
        drop(queue);
        let mut messages = Vec::new();
        let Self { uring, groups, slots, free, in_flight, floods, tapped, longest_ns, .. } = self;
        for entry in uring.completion() {
            let user_data = entry.user_data();
            if user_data >= RESERVED {
                if user_data == LONGEST {
                    *longest_ns = 0;
                }
                let group = ASIDE.iter().position(|aside| *aside == user_data);
                if let (Some(group), Some(id)) = (group, cqueue::buffer_select(entry.flags())) {
                    groups[group].set_aside(id);
                }
                continue;
            }
            let index = (user_data & u64::from(u32::MAX)) as u32;
            let slot = slots.get_mut(index as usize);
            let same = slot.filter(|slot| u64::from(slot.generation) == user_data >> 32);
            let Some(slot) = same else { continue };
            let more = cqueue::more(entry.flags());
            if !more {
                *in_flight -= 1;
            }
            if let Resource::Picked(group) = slot.resource {
                groups[usize::from(group.id())].note(entry.result(), entry.flags());
            }
            let to_be_shown = slot.to_be_shown();
            match (&mut slot.state, to_be_shown) {
                (State::Waiting(waker), _) => {
                    woken.extend(waker.take());
                    slot.state = State::Done(entry.result(), entry.flags());
                }
                (State::Many { ended, .. }, Some(group)) => {
                    *ended = !more;
                    slot.to_show += 1;
                    let key = OpKey { index, generation: slot.generation };
                    let (result, flags) = (entry.result(), entry.flags());
                    tapped.push(Tapped { key, group, result, flags });
                }
                (State::Many { waker, ended, cancelled }, None) => {
                    slot.queue.push_back((entry.result(), entry.flags()));
                    *ended = !more;
                    woken.extend(waker.take());
                    let flooded = slot.queue.len() >= UNTAKEN_MAX
                        && matches!(slot.resource, Resource::Picked(_));
                    if flooded && more && !*cancelled {
                        *cancelled = true;
                        floods.push(user_data);
                    }
                }
                (State::Message(_), _) => messages.push((index, entry.result())),
                (State::Orphan, _) => {
                    discard(groups, &slot.resource, entry.result(), entry.flags());
                    if !more {
                        release(slot, index, free);
                    }
                }
                (State::Free | State::Done(..), _) => {}
            }
        }
        self.end_messages(messages, were_all_offered, woken);
        while let Some(user_data) = self.floods.pop() {
            self.cancel(user_data);
        }
    }

    /// Has the kernel pick `count` buffers of `group` for nobody.
    fn set_aside(&mut self, group: Group, count: u16) {
        if count == 0 || !add(&self.drain, count) {
            return;
        }
        let fd = types::Fd(self.drain.as_raw_fd());
        let read = opcode::Read::new(fd, std::ptr::null_mut(), 8).buf_group(group.id()).build();
        let user_data = ASIDE[usize::from(group.id())];
        let entry = read.user_data(user_data).flags(squeue::Flags::BUFFER_SELECT);
        for _ in 0..count {
            self.push(&entry);
        }
    }

    fn cancel(&mut self, user_data: u64) {
        let cancel = opcode::AsyncCancel::new(user_data).build();
        self.push(&cancel.user_data(IGNORED).flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn poll(&mut self, key: OpKey, context: &Context<'_>) -> Poll<Completion> {
        let slot = &mut self.slots[key.index as usize];
        debug_assert_eq!(
            slot.generation, key.generation,
            "an operation is polled until it is done"
        );
        match &mut slot.state {
            State::Done(result, _) => {
                let result = *result;
                let resource = std::mem::replace(&mut slot.resource, Resource::None);
                release(slot, key.index, &mut self.free);
                Poll::Ready(Completion { result, resource })
            }
            State::Waiting(waker) => {
                keep_waker(waker, context);
                Poll::Pending
            }
            State::Free | State::Message(_) | State::Orphan | State::Many { .. } => Poll::Pending,
        }
    }

    fn poll_next(&mut self, key: OpKey, context: &Context<'_>) -> Poll<Option<(i32, u32)>> {
        let slot = &mut self.slots[key.index as usize];
        let State::Many { waker, ended, .. } = &mut slot.state else { return Poll::Ready(None) };
        if let Some(next) = slot.queue.pop_front() {
            return Poll::Ready(Some(next));
        }
        if *ended && slot.to_show == 0 {
            release(slot, key.index, &mut self.free);
            return Poll::Ready(None);
        }
        keep_waker(waker, context);
        Poll::Pending
    }

    fn abandon(&mut self, key: OpKey) {
        let slot = &mut self.slots[key.index as usize];
        if slot.generation != key.generation {
            return;
        }
        slot.tap = None;
        let runs = match slot.state {
            State::Waiting(_) | State::Message(_) => true,
            State::Many { ended, .. } => !ended,
            State::Done(result, flags) => {
                discard(&self.groups, &slot.resource, result, flags);
                false
            }
            State::Free | State::Orphan => return,
        };
        for (result, flags) in slot.queue.drain(..) {
            discard(&self.groups, &slot.resource, result, flags);
        }
        if runs {
            slot.state = State::Orphan;
            self.cancel(key.user_data());
        } else {
            release(slot, key.index, &mut self.free);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The kernel may still work on these while it tears the ring down in the background: they are given up, not freed.
        for slot in &mut self.slots {
            if !matches!(slot.state, State::Free) {
                let _given_up =
                    ManuallyDrop::new(std::mem::replace(&mut slot.resource, Resource::None));
            }
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
