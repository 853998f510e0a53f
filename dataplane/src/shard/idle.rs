//! The requests of a connection that waits for its next one: planned as soon as their bytes are there, before its task runs.
//!
//! In: received bytes. Out: an answer of the gateway's own, sent at once; a request forwarded at once (`forwarding.rs`); or a plan
//! that the task carries out. A refusal costs so no wake and no turn of a task, and goes out with all others of a turn in one
//! system call. Always holds: a plan that was made is carried out, once; whatever is not a whole request, and nothing after it, is
//! left to the task.

use std::cell::RefCell;
use std::rc::Rc;

use crate::clock::Now;
use crate::net::{Outbox, Tap, Timer};

use super::Shard;
use super::forwarding::Forwarding;
use super::peer::Peer;
use super::plan::plan;
use super::planned::Plan;

/// A plan, and when its request came.
pub(super) type Planned = (Plan, Now);

/// What looks at a connection's bytes while its task waits.
pub(super) struct Idle {
    shard: Rc<Shard>,
    peer: Peer,
    outbox: Rc<Outbox>,
    /// The connection's idle deadline.
    timer: Rc<Timer>,
    pub(super) forwarding: Rc<Forwarding>,
    planned: RefCell<Option<Planned>>,
}

impl Idle {
    pub(super) fn new(shard: Rc<Shard>, peer: Peer, outbox: Rc<Outbox>, timer: Rc<Timer>) -> Self {
        let (to, by) = (Rc::clone(&outbox), Rc::clone(&timer));
        let forwarding = Rc::new(Forwarding::new(Rc::clone(&shard), to, by));
        Self { shard, peer, outbox, timer, forwarding, planned: RefCell::new(None) }
    }

    /// The plan that waits for the task.
    pub(super) fn take(&self) -> Option<Planned> {
        self.planned.borrow_mut().take()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // Its tap on the origin's connection would keep both for ever.
        drop(self.forwarding.take());
    }
}

impl Tap for Idle {
    fn received(&self, bytes: &[u8]) -> bool {
        let shard = &self.shard;
        let is_ready = self.outbox.is_idle() && !self.outbox.is_broken();
        if bytes.is_empty() || shard.is_draining() || !is_ready || self.forwarding.is_under_way() {
            return false;
        }
        let started = shard.now();
        let plan = match plan(shard, &self.peer, bytes, 0, started, None) {
            Plan::Partial => return false,
            Plan::Answer(answer)
                if answer.head_len == bytes.len() && !answer.close && answer.skip == 0 =>
            {
                self.outbox.queue(answer.bytes);
                self.timer.set(shard.deadline(shard.settings.deadlines.idle));
                return true;
            }
            Plan::Forward(exchange) if exchange.consumed == bytes.len() => {
                match self.forwarding.begin(exchange) {
                    Ok(()) => return true,
                    Err(exchange) => Plan::Forward(exchange),
                }
            }
            plan => plan,
        };
        self.planned.replace(Some((plan, started)));
        false
    }
}
