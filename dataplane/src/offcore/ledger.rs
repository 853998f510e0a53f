//! The ledger that a node leases from when it runs from a policy file: on a thread of its own, written down before it is used.
//!
//! In: lease requests of owner shards. Out: replies in their inboxes, how long one has been owed, a log of leases. Always holds:
//! shards never wait for this thread; what does not fit an inbox is kept, in order; a lease is durable before a shard has it, unless
//! the disk refuses and the operator chose to go on; at a clean end the log says of each lease what of it was used.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use link::lease_log::{Lease, LeaseLog, Record};
use policy::budget::{
    Carried, Destination, EntitlementId, LastWord, Ledger, Message, Now, PeriodId, ShardId,
};

use super::lease_writer::LeaseWriter;
use crate::clock::Clock;
use crate::config::JournalFull;
use crate::offcore::state::NodeState;
use crate::shard::{Links, Mail};

/// Requests that may wait for the ledger.
const REQUESTS_MAX: usize = 64 * 1024;
/// How often old periods are looked for, and full inboxes tried again.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
pub(super) const RETRY: Duration = Duration::from_millis(1);
/// How long the end waits for the disk.
const END: Duration = Duration::from_secs(5);
/// Last words taken before they are written down.
const WORDS_PER_WRITE: usize = 8 * 1024;
/// This node, to its own ledger.
const NODE: u64 = 0;

/// What the ledger begins with, and where it writes down what it leases.
pub struct Keeping {
    /// What was used before this start.
    pub carried: Arc<Carried>,
    /// Where leases are written; none: nowhere.
    pub log: Option<LeaseLog>,
    /// What to do when they cannot be.
    pub full: JournalFull,
}

/// What an owner shard asks or tells.
pub type Request = (ShardId, Message);

/// The way from shards to the ledger.
#[must_use]
pub fn channel() -> (Sender<Request>, Receiver<Request>) {
    bounded(REQUESTS_MAX)
}

/// What the owners of every shard have left to say.
pub type LastWords = Vec<(ShardId, Vec<LastWord>)>;

/// The ledger's thread.
pub struct LedgerThread {
    ends: Sender<LastWords>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl LedgerThread {
    /// Runs `run`, which returns once it has had the last words, or nobody holds the handle any more.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(super) fn start(
        run: impl FnOnce(&Receiver<LastWords>) + Send + 'static,
    ) -> io::Result<Self> {
        let (ends, words) = bounded(1);
        let (alive, ended) = bounded(0);
        let thread =
            thread::Builder::new().name("payfence-ledger".to_owned()).spawn(move || {
                let _alive: Sender<()> = alive;
                run(&words);
            })?;
        Ok(Self { ends, ended, thread })
    }

    /// Ends it, after the owners' last words are written down. The shards must have ended, so that nothing more is used.
    pub fn finish(self, words: LastWords) {
        // It waits for nothing else: there is room for the one message, and a thread that has ended needs none.
        let _ = self.ends.try_send(words);
        if self.ended.recv_timeout(END) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(
                "the disk does not answer: what was given back of leases is not written down, and if decisions were lost from \
                 the log, the next start counts it as used"
            );
            return;
        }
        // A panic on it has been reported by the hook.
        let _ = self.thread.join();
    }
}

/// Runs the ledger until it is told to finish, or its handle is gone; shards may be gone before.
///
/// # Errors
/// When the thread cannot be made.
pub fn start(
    requests: Receiver<Request>,
    links: Arc<Links>,
    state: Arc<NodeState>,
    clock: Clock,
    keeping: Keeping,
) -> io::Result<LedgerThread> {
    LedgerThread::start(move |words| run(&requests, &links, &state, clock, (keeping, words)))
}

fn run(
    requests: &Receiver<Request>,
    links: &Links,
    state: &NodeState,
    clock: Clock,
    (keeping, words): (Keeping, &Receiver<LastWords>),
) {
    let mut books = Books::new(keeping);
    let mut replies = VecDeque::new();
    // When the oldest request was taken whose reply is in no inbox yet. What waits in the channel is taken in one go,
    // so it has waited no longer than this round.
    let mut owing_since_ns = None;
    let mut last_words = None;
    loop {
        let pause = if replies.is_empty() { PAUSE } else { RETRY };
        crossbeam::channel::select! {
            recv(requests) -> request => match request {
                Ok((shard, message)) => books.take(shard, &message),
                Err(_) => return,
            },
            recv(words) -> words => last_words = Some(words.unwrap_or_default()),
            default(pause) => {}
        }
        while let Ok((shard, message)) = requests.try_recv() {
            books.take(shard, &message);
        }
        let now = clock.now();
        books.writer.tick(now);
        books.ledger.tick(Now { mono_us: now.mono_ns / 1_000, unix_s: now.unix_s() });
        replies.extend(books.ledger.drain_outbox().map(|(_, shard, message)| (shard, message)));
        if books.write() {
            deliver(&mut replies, links);
        }
        if let Some(words) = last_words {
            books.close(words);
            return;
        }
        owing_since_ns = (!replies.is_empty()).then(|| owing_since_ns.unwrap_or(now.mono_ns));
        let lag_ns = owing_since_ns.map_or(0, |since_ns| now.mono_ns.saturating_sub(since_ns));
        state.set_ledger_lag_ns(lag_ns);
    }
}

/// The ledger and its log.
struct Books {
    ledger: Ledger,
    writer: LeaseWriter,
    /// Periods whose leases or use may have changed since they were written.
    touched: Vec<(EntitlementId, PeriodId)>,
    records: Vec<Record>,
}

impl Books {
    fn new(keeping: Keeping) -> Self {
        Self {
            ledger: Ledger::new(),
            writer: LeaseWriter::new(keeping.log, keeping.full),
            touched: Vec::new(),
            records: Vec::new(),
        }
    }

    fn take(&mut self, shard: ShardId, message: &Message) {
        if let Message::LeaseRequest(request) = message
            && self.writer.writes()
        {
            self.touched.push((request.id, request.period.id));
        }
        self.ledger.on_message(NODE, shard, message);
    }

    /// Takes what the owners of all shards have left to say, and makes it durable: of each lease what was used.
    fn close(&mut self, words: LastWords) {
        let words = words
            .into_iter()
            .flat_map(|(shard, words)| words.into_iter().map(move |word| (shard, word)));
        for (shard, word) in words {
            self.take(shard, &word.into_message());
            // Nobody is there to take an answer.
            self.ledger.drain_outbox().for_each(drop);
            if self.touched.len() >= WORDS_PER_WRITE && (!self.write() || self.writer.is_refused())
            {
                return;
            }
        }
        self.write();
        self.writer.finish();
    }

    /// Writes down what has changed. Whether replies may go out.
    fn write(&mut self) -> bool {
        if !self.writer.writes() {
            return true;
        }
        self.touched.sort_unstable();
        self.touched.dedup();
        self.records.clear();
        let mut grows = false;
        for (id, period) in &self.touched {
            let Some(leased) = self.ledger.leased(NODE, *id, *period) else { continue };
            let known = self.writer.lease(*id, *period);
            let lease = Lease {
                period: leased.period,
                granted: leased.granted,
                returned: leased.returned,
                used: leased.used,
                unlimited: leased.granted == 0,
            };
            grows |= leased.granted > known.map_or(0, |known| known.granted);
            if known != Some(lease) {
                self.records.push(Record { entitlement: *id, lease });
            }
        }
        let written = self.writer.write(&self.records, grows);
        if written.is_written {
            self.touched.clear();
        }
        written.may_deliver
    }
}

/// Puts replies into the inboxes of the shards they are for, as far as there is room.
pub(super) fn deliver(replies: &mut VecDeque<(ShardId, Message)>, links: &Links) {
    while let Some((shard, message)) = replies.pop_front() {
        let at = usize::from(shard.0);
        match links.put(at, Mail::Budget(Destination::Ledger, message)) {
            Ok(()) => links.waker(at).wake(),
            Err(Mail::Budget(_, message)) => {
                links.waker(at).wake();
                replies.push_front((shard, message));
                return;
            }
            Err(Mail::Connection(..)) => unreachable!("a full inbox gives back what was put in"),
        }
    }
}
