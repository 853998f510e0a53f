//! Messages: what is sent without anybody waiting for its end, as nearly all is gone at once.
//!
//! In: bytes and a socket. Out: their memory, and whether all of them went. Always holds: a message is first offered to the
//! socket, at once where a turn has few, else as it is submitted with the others. What is taken whole then has no completion, so
//! that none ends a wait: a submission that has returned without one tells the end. What is not taken whole goes on in an
//! operation that waits for room, from where it stopped.

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::Waker;

use io_uring::{opcode, squeue, types};

use super::super::slots::{OpKey, Resource, State, release};
use super::{Inner, Ring};

/// What became of what was queued to be sent.
#[derive(Debug, Default)]
pub(in super::super) struct Outcome {
    pub(in super::super) is_under_way: Cell<bool>,
    /// Not all of it went: the connection is broken.
    pub(in super::super) is_broken: Cell<bool>,
    pub(in super::super) waker: RefCell<Option<Waker>>,
    /// The memory comes back here, for whoever may have to send it again, rather than to the ring's spent ones.
    pub(in super::super) keeps_memory: Cell<bool>,
    pub(in super::super) memory: RefCell<Option<Vec<u8>>>,
}

/// A message on its way.
pub(in super::super) struct Sending {
    outcome: Rc<Outcome>,
    fd: RawFd,
    /// Bytes that have not gone, as far as is known.
    left: usize,
    /// The socket had no room for all of it: the kernel waits for some.
    is_waiting: bool,
}

impl Sending {
    /// A message of which the last `left` bytes are to be sent.
    const fn new(fd: RawFd, left: usize, outcome: Rc<Outcome>) -> Self {
        Self { outcome, fd, left, is_waiting: false }
    }

    /// Whether all of it has gone.
    const fn is_whole(&self) -> bool {
        self.left == 0
    }

    /// Sends what is left of `bytes`: all of it or an error, since nobody looks at how much has gone.
    fn entry(&self, bytes: &[u8]) -> squeue::Entry {
        let rest = &bytes[bytes.len() - self.left..];
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(types::Fd(self.fd), rest.as_ptr(), len);
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        if self.is_waiting {
            return send.flags(flags).build();
        }
        send.flags(flags | libc::MSG_DONTWAIT).build().flags(squeue::Flags::SKIP_SUCCESS)
    }

    /// Takes a completion in; whether the rest is to be sent by an operation that waits.
    fn goes_on(&mut self, result: i32) -> bool {
        let has_no_room = matches!(-result, libc::EAGAIN | libc::EINTR);
        let gone = usize::try_from(result).unwrap_or(0).min(self.left);
        self.left -= gone;
        let goes_on = !self.is_waiting && self.left > 0 && (gone > 0 || has_no_room);
        self.is_waiting |= goes_on;
        goes_on
    }

    /// The submission that offered the message has returned without a completion: it went whole.
    fn was_taken(&mut self) {
        self.left = 0;
    }

    /// Tells the end: gives the memory unless that is kept, and whom to wake.
    fn end(&self, bytes: Vec<u8>) -> (Option<Vec<u8>>, Option<Waker>) {
        let outcome = &self.outcome;
        outcome.is_under_way.set(false);
        if !self.is_whole() {
            outcome.is_broken.set(true);
        }
        let waker = outcome.waker.take();
        if !outcome.keeps_memory.get() {
            return (Some(bytes), waker);
        }
        outcome.memory.replace(Some(bytes));
        (None, waker)
    }
}

impl Ring {
    /// Whether what is sent now goes by itself rather than together with other messages.
    pub(in super::super) fn sends_at_once(&self) -> bool {
        self.sends_at_once.get()
    }

    /// Queues what is left of a message, of which `gone` bytes have been sent, and tells `outcome` its end.
    pub(in super::super) fn queue_message(
        &self,
        (fd, bytes, gone): (RawFd, Vec<u8>, usize),
        outcome: Rc<Outcome>,
    ) -> Option<OpKey> {
        let sending = Sending::new(fd, bytes.len() - gone, outcome);
        let mut inner = self.inner.borrow_mut();
        if sending.is_whole() {
            inner.spent.extend(sending.end(bytes).0);
            return None;
        }
        let entry = sending.entry(&bytes);
        let key = inner.start(State::Message(sending), Resource::Bytes(bytes), entry);
        inner.offered.push(key);
        Some(key)
    }

    /// Memory of a message that has gone.
    pub fn take_spent(&self) -> Option<Vec<u8>> {
        self.inner.borrow_mut().spent.pop()
    }
}

impl Inner {
    /// Takes in what has completed, by slot, and the ends of what has not, where all was submitted and reaped.
    pub(super) fn end_messages(
        &mut self,
        completed: Vec<(u32, i32)>,
        were_all_offered: bool,
        woken: &mut Vec<Waker>,
    ) {
        for (index, result) in completed {
            self.message_completed(index, result, woken);
        }
        if were_all_offered {
            self.end_offered(woken);
        }
    }

    /// A message that was not taken whole, or that waited for room: goes on or ends.
    fn message_completed(&mut self, index: u32, result: i32, woken: &mut Vec<Waker>) {
        let slot = &mut self.slots[index as usize];
        let (State::Message(sending), Resource::Bytes(bytes)) = (&mut slot.state, &slot.resource)
        else {
            return;
        };
        if !sending.goes_on(result) {
            self.end_message(index, woken);
            return;
        }
        let key = OpKey { index, generation: slot.generation };
        let entry = sending.entry(bytes).user_data(key.user_data());
        self.offered.retain(|offered| *offered != key);
        self.in_flight += 1;
        self.push(&entry);
    }

    /// Whatever was offered and has no completion was taken whole.
    fn end_offered(&mut self, woken: &mut Vec<Waker>) {
        let mut offered = std::mem::take(&mut self.offered);
        for key in offered.drain(..) {
            let slot = &mut self.slots[key.index as usize];
            if slot.generation != key.generation {
                continue;
            }
            self.in_flight -= 1;
            if let State::Message(sending) = &mut slot.state {
                sending.was_taken();
                self.end_message(key.index, woken);
            } else {
                release(slot, key.index, &mut self.free);
            }
        }
        self.offered = offered;
    }

    fn end_message(&mut self, index: u32, woken: &mut Vec<Waker>) {
        let slot = &mut self.slots[index as usize];
        let memory = std::mem::replace(&mut slot.resource, Resource::None);
        if let (State::Message(sending), Resource::Bytes(bytes)) = (&slot.state, memory) {
            let (spent, waker) = sending.end(bytes);
            self.spent.extend(spent);
            woken.extend(waker);
        }
        release(slot, index, &mut self.free);
    }
}
