//! The slots of a ring's operations: who waits for each, the memory it works on, what it has brought.
//!
//! In: completions. Out: results for those who wait. Always holds: a slot's generation tells a late completion from the next
//! operation; what nobody waits for any more is given back.

use std::collections::VecDeque;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Waker};

use io_uring::cqueue;

use super::buffers::{BufferGroup, Group, RecvBuf};
use super::ring::messages::Sending;

/// Memory that the kernel works on while an operation runs.
pub(super) enum Resource {
    None,
    /// Whatever buffer of the group the kernel picks.
    Picked(Group),
    Bytes(Vec<u8>),
    Received(RecvBuf),
    Message(Box<super::op::Message>),
    Address(Box<socket2::SockAddr>),
    /// Connections that a listener accepts.
    Accepted,
}

/// Whoever is shown what a receive brings as soon as it is reaped, without a task's turn in between.
pub trait Tap {
    /// Looks at `bytes`; whether that is all there was to do with them. If not, the receive brings them as if nobody had looked.
    /// No bytes are the end or an error, which the receive brings in any case.
    fn received(&self, bytes: &[u8]) -> bool;
}

pub(super) enum State {
    Free,
    Waiting(Option<Waker>),
    Done(i32, u32),
    /// Many completions, one operation: those not taken yet are in the slot's queue.
    Many {
        waker: Option<Waker>,
        ended: bool,
        cancelled: bool,
    },
    /// A message on its way out, which nobody waits for unless the peer is slow.
    Message(Sending),
    /// The future is gone; the memory waits for the completion.
    Orphan,
}

pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) resource: Resource,
    /// Results not taken yet, of an operation that has many.
    pub(super) queue: VecDeque<(i32, u32)>,
    /// Is shown what comes while nothing waits to be taken.
    pub(super) tap: Option<Rc<dyn Tap>>,
    /// Results on their way to the tap: what comes after them goes behind them.
    pub(super) to_show: usize,
    /// The first of them is with the tap now.
    pub(super) is_shown: bool,
}

/// What a receive has brought for a tap.
#[derive(Clone, Copy)]
pub(super) struct Tapped {
    pub(super) key: OpKey,
    /// Where its buffer was picked from.
    pub(super) group: Group,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// What became of an operation.
pub(super) struct Completion {
    pub result: i32,
    pub resource: Resource,
}

/// Names an operation in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl OpKey {
    pub(super) const fn user_data(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }
}

impl Slot {
    /// One that no operation has had yet.
    pub(super) const fn free() -> Self {
        Self {
            generation: 0,
            state: State::Free,
            resource: Resource::None,
            queue: VecDeque::new(),
            tap: None,
            to_show: 0,
            is_shown: false,
        }
    }

    /// Where the buffer of a completion was picked from that goes the tap's way: nothing waits to be taken before it.
    pub(super) fn to_be_shown(&self) -> Option<Group> {
        let is_next = self.tap.is_some() && self.queue.is_empty();
        match self.resource {
            Resource::Picked(group) if is_next || self.to_show > 0 => Some(group),
            _ => None,
        }
    }

    /// Whether nothing waits to be taken but what a tap looks at right now.
    pub(super) fn is_all_taken(&self) -> bool {
        self.queue.is_empty() && self.to_show == usize::from(self.is_shown)
    }
}

pub(super) fn keep_waker(kept: &mut Option<Waker>, context: &Context<'_>) {
    match kept {
        Some(waker) if waker.will_wake(context.waker()) => {}
        other => *other = Some(context.waker().clone()),
    }
}

pub(super) fn release(slot: &mut Slot, index: u32, free: &mut Vec<u32>) {
    slot.state = State::Free;
    slot.resource = Resource::None;
    slot.tap = None;
    slot.to_show = 0;
    slot.is_shown = false;
    slot.generation = slot.generation.wrapping_add(1);
    free.push(index);
}

pub(super) fn picked(
    groups: &[Rc<BufferGroup>; 2],
    group: Group,
    result: i32,
    flags: u32,
) -> Option<RecvBuf> {
    let id = cqueue::buffer_select(flags)?;
    let len = usize::try_from(result).unwrap_or(0);
    Some(groups[usize::from(group.id())].take(id, len))
}

/// Lets go of what a completion brought that nobody waits for: a picked buffer goes back, an accepted connection is closed.
pub(super) fn discard(groups: &[Rc<BufferGroup>; 2], resource: &Resource, result: i32, flags: u32) {
    match resource {
        Resource::Picked(group) => drop(picked(groups, *group, result, flags)),
        Resource::Accepted if result >= 0 => {
            // SAFETY: the kernel has just made this descriptor, and nobody else has seen it.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
        _ => {}
    }
}
