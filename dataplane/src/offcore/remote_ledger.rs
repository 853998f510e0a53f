//! The way between owner shards and a control plane's ledger: on a thread of its own, written down before it is used.
//!
//! In: lease requests of owner shards, replies of the control link. Out: the requests to the link, the replies in the owners' inboxes, a log of
//! leases. Always holds: shards never wait for this thread; a lease is durable before a shard has it, unless the disk refuses and the
//! operator chose to go on; every queue is bounded, and whoever is not heard asks again.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use link::lease_log::{Lease, Record};
use policy::budget::{
    Carried, EntitlementId, LeaseReply, LeaseRequest, Message, PeriodId, owner_of,
};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::lease_writer::LeaseWriter;
use super::ledger::{Keeping, LastWords, LedgerThread, PAUSE, RETRY, Request, deliver};
use crate::clock::Clock;
use crate::shard::Links;

/// Batches of replies that may wait.
const REPLIES_MAX: usize = 4_096;
/// Requests that may wait for the link beside those it holds itself.
const WAITING_MAX: usize = 64 * 1024;

/// The link's side of this thread.
pub struct Port {
    /// Requests go here.
    pub requests: mpsc::Sender<LeaseRequest>,
    /// Replies come from here.
    pub replies: Receiver<Vec<LeaseReply>>,
}

/// The way of replies from the link to the thread.
#[must_use]
pub fn replies() -> (Sender<Vec<LeaseReply>>, Receiver<Vec<LeaseReply>>) {
    bounded(REPLIES_MAX)
}

/// Carries messages until it is told to finish, or its handle is gone.
///
/// # Errors
/// When the thread cannot be made.
pub fn start(
    requests: Receiver<Request>,
    port: Port,
    links: Arc<Links>,
    clock: Clock,
    keeping: Keeping,
) -> io::Result<LedgerThread> {
    LedgerThread::start(move |words| {
        Carrier::new(port, links, keeping).run(&requests, words, clock);
    })
}

struct Carrier {
    port: Port,
    links: Arc<Links>,
    carried: Arc<Carried>,
    writer: LeaseWriter,
    /// What the link has no room for yet, in order.
    waiting: VecDeque<LeaseRequest>,
    /// What is not in an inbox yet.
    undelivered: VecDeque<(policy::budget::ShardId, Message)>,
    /// What is not written down yet.
    unwritten: HashMap<(EntitlementId, PeriodId), Lease>,
    grows: bool,
}

impl Carrier {
    fn new(port: Port, links: Arc<Links>, keeping: Keeping) -> Self {
        let carried = Arc::clone(&keeping.carried);
        Self {
            port,
            links,
            carried,
            writer: LeaseWriter::new(keeping.log, keeping.full),
            waiting: VecDeque::new(),
            undelivered: VecDeque::new(),
            unwritten: HashMap::new(),
            grows: false,
        }
    }

    fn run(&mut self, requests: &Receiver<Request>, words: &Receiver<LastWords>, clock: Clock) {
        let replies = self.port.replies.clone();
        let (never, deaf) = (crossbeam::channel::never(), crossbeam::channel::never());
        loop {
            let is_behind = !self.undelivered.is_empty() || !self.waiting.is_empty();
            let pause = if is_behind { RETRY } else { PAUSE };
            // Full, it takes no more: shards keep what they have to say.
            let taken = if self.waiting.len() < WAITING_MAX { requests } else { &never };
            // The same for replies: what the link then drops, the ledger says again when asked again.
            let heard = if self.undelivered.len() < WAITING_MAX { &replies } else { &deaf };
            let mut last_words = None;
            crossbeam::channel::select! {
                recv(taken) -> request => match request {
                    Ok((_, message)) => self.ask(&message),
                    Err(_) => return,
                },
                recv(heard) -> batch => match batch {
                    Ok(batch) => self.hear(batch),
                    // The link has ended; nobody answers any more.
                    Err(_) => thread::park_timeout(RETRY),
                },
                recv(words) -> words => last_words = Some(words.unwrap_or_default()),
                default(pause) => {}
            }
            while self.waiting.len() < WAITING_MAX
                && let Ok((_, message)) = requests.try_recv()
            {
                self.ask(&message);
            }
            while self.undelivered.len() < WAITING_MAX
                && let Ok(batch) = replies.try_recv()
            {
                self.hear(batch);
            }
            self.send();
            self.writer.tick(clock.now());
            if self.write() {
                deliver(&mut self.undelivered, &self.links);
            }
            if let Some(words) = last_words {
                self.finish(words);
                return;
            }
        }
    }

    fn ask(&mut self, message: &Message) {
        if let Message::LeaseRequest(request) = message {
            self.note(request.id, request.period.id, |lease, before| {
                lease.returned = lease.returned.max(request.returned);
                lease.used = lease.used.max(request.totals.net().saturating_add(before));
            });
            self.waiting.push_back(**request);
        }
    }

    fn hear(&mut self, batch: Vec<LeaseReply>) {
        let shards = u16::try_from(self.links.shards()).unwrap_or(u16::MAX);
        for reply in batch {
            let before = self.carried.use_in(reply.id, reply.period.id).units;
            let known = self.lease(reply.id, reply.period.id);
            let mut lease = known.unwrap_or(Lease {
                period: reply.period,
                granted: 0,
                returned: 0,
                used: before,
                unlimited: false,
            });
            let granted = reply.granted.saturating_add(before);
            if reply.granted > 0 && granted > lease.granted {
                lease.granted = granted;
                lease.period = reply.period;
                self.grows = true;
                self.record(reply.id, lease);
            }
            let owner = owner_of(reply.id, shards);
            self.undelivered.push_back((owner, Message::LeaseReply(Box::new(reply))));
        }
    }

    /// Changes what is written of a lease, where there is one.
    fn note(&mut self, id: EntitlementId, period: PeriodId, change: impl FnOnce(&mut Lease, u64)) {
        let Some(known) = self.lease(id, period) else { return };
        let mut lease = known;
        change(&mut lease, self.carried.use_in(id, period).units);
        if lease != known {
            self.record(id, lease);
        }
    }

    fn lease(&self, id: EntitlementId, period: PeriodId) -> Option<Lease> {
        self.unwritten.get(&(id, period)).copied().or_else(|| self.writer.lease(id, period))
    }

    fn record(&mut self, id: EntitlementId, lease: Lease) {
        if self.writer.writes() {
            self.unwritten.insert((id, lease.period.id), lease);
        }
    }

    /// Writes down what has changed. Whether replies may go out.
    fn write(&mut self) -> bool {
        if self.unwritten.is_empty() {
            return true;
        }
        let record = |(key, lease): (&(EntitlementId, PeriodId), &Lease)| Record {
            entitlement: key.0,
            lease: *lease,
        };
        let records: Vec<Record> = self.unwritten.iter().map(record).collect();
        let written = self.writer.write(&records, self.grows);
        if written.is_written {
            self.unwritten.clear();
            self.grows = false;
        }
        written.may_deliver
    }

    fn send(&mut self) {
        while let Some(request) = self.waiting.pop_front() {
            match self.port.requests.try_send(request) {
                Ok(()) => {}
                Err(TrySendError::Full(request)) => {
                    self.waiting.push_front(request);
                    return;
                }
                // The link has ended before the shards: nobody is there to ask.
                Err(TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }

    /// Says what the owners have left to say, and makes durable what was used of each lease.
    fn finish(&mut self, words: LastWords) {
        for word in words.into_iter().flat_map(|(_, words)| words) {
            self.ask(&word.into_message());
            self.send();
        }
        // What has no room is lost to the ledger until this node is back: its journal says it then.
        self.write();
        self.writer.finish();
    }
}

#[cfg(test)]
#[path = "remote_ledger_tests.rs"]
mod tests;
