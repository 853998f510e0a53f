//! A request that is forwarded, and its answer, without a turn of the connection's task.
//!
//! In: a planned request, whole; what the origin answers. Out: the answer at the client, or the exchange at the point that it has
//! come to, for the task to go on with. Always holds: this does nothing that the task would not do, in the same order; whatever is
//! not a whole small answer on a connection that stays is left to the task, with every byte that has come; a wait has a deadline.
//!
//! It saves two wakes a request, and the state machines between the ring and the relay.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::net::{Outbox, Tap, Timer};
use crate::stream::Stream;

use super::planned::{Exchange, Upload};
use super::relay::LOOK_AFTER;
use super::upstream::Upstream;
use super::{Shard, response};

/// An exchange whose request is with the origin.
pub(super) struct UnderWay {
    pub(super) exchange: Box<Exchange>,
    pub(super) upstream: Upstream,
    /// When the request was sent, monotonic nanoseconds.
    pub(super) sent_ns: u64,
}

/// What a connection's requests are forwarded by while its task waits for the next one.
pub(super) struct Forwarding {
    shard: Rc<Shard>,
    /// The client's.
    outbox: Rc<Outbox>,
    /// The one by which the task waits.
    timer: Rc<Timer>,
    under_way: RefCell<Option<UnderWay>>,
}

impl Forwarding {
    pub(super) fn new(shard: Rc<Shard>, outbox: Rc<Outbox>, timer: Rc<Timer>) -> Self {
        Self { shard, outbox, timer, under_way: RefCell::new(None) }
    }

    /// Whether the answer to a request is waited for.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.borrow().is_some()
    }

    /// The exchange for the task to go on with.
    pub(super) fn take(&self) -> Option<UnderWay> {
        let under_way = self.under_way.borrow_mut().take();
        if let Some(under_way) = &under_way {
            under_way.upstream.stream.socket().untap();
        }
        under_way
    }

    /// Sends a request that is whole where a connection is at hand; gives it back where this needs the task.
    pub(super) fn begin(self: &Rc<Self>, mut exchange: Box<Exchange>) -> Result<(), Box<Exchange>> {
        let shard = &self.shard;
        let is_plain_request = matches!(exchange.upload, Upload::Done)
            && exchange.keep_alive
            && !exchange.expects_continue
            && !exchange.asks_websocket;
        let pool = exchange.policy.pool(exchange.decision.site);
        if !is_plain_request || pool.is_https() {
            return Err(exchange);
        }
        let Some(upstream) = pool.take() else { return Err(exchange) };
        let Stream::Plain(socket) = &upstream.stream else { return Err(exchange) };
        shard.metrics.upstream_reused.inc();
        socket.outbox().queue_and_keep(std::mem::take(&mut exchange.request));
        socket.tap(Rc::<Self>::clone(self));
        let timeout_ms = exchange.policy.site(exchange.decision.site).response_timeout_ms();
        let patience = Duration::from_millis(u64::from(timeout_ms)).min(LOOK_AFTER);
        self.timer.set(shard.deadline(patience));
        let sent_ns = shard.ring.now_ns();
        self.under_way.replace(Some(UnderWay { exchange, upstream, sent_ns }));
        Ok(())
    }

    /// Passes a whole answer on and ends the exchange; whether `bytes` were one.
    fn finish(&self, bytes: &[u8]) -> bool {
        let shard = &self.shard;
        let mut slot = self.under_way.borrow_mut();
        let Some(UnderWay { exchange, sent_ns, .. }) = slot.as_mut() else { return false };
        if shard.is_draining() || !self.outbox.is_idle() {
            return false;
        }
        let waited_ns = shard.ring.now_ns().saturating_sub(*sent_ns);
        let Some(answer) = response::whole(shard, exchange, bytes) else { return false };
        exchange.origin_ns += waited_ns;
        let Some(UnderWay { mut exchange, upstream, .. }) = slot.take() else { return false };
        drop(slot);
        self.outbox.queue(answer);
        exchange.take_request_back(shard, &upstream);
        let socket = upstream.stream.socket();
        socket.untap();
        if socket.is_clear() {
            exchange.policy.pool(exchange.decision.site).put_back(upstream, shard.ring.now_ns());
        }
        exchange.end(shard);
        shard.give_spare(std::mem::take(&mut exchange.request));
        self.timer.set(shard.deadline(shard.settings.deadlines.idle));
        true
    }
}

impl Tap for Forwarding {
    fn received(&self, bytes: &[u8]) -> bool {
        let is_done = self.finish(bytes);
        if !is_done {
            // The task waits for the client, or for this.
            self.timer.fire();
        }
        is_done
    }
}
