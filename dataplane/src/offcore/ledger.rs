//! The ledger that a node leases from when it runs from a policy file: in memory, on a thread of its own.
//!
//! In: lease requests of owner shards. Out: replies in their inboxes, how long one has been owed. Always holds: shards never wait for this thread; what does not
//! fit an inbox is kept, in order.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use policy::budget::{Destination, Ledger, Message, Now, ShardId};

use crate::clock::Clock;
use crate::offcore::state::NodeState;
use crate::shard::{Links, Mail};

/// Requests that may wait for the ledger.
const REQUESTS_MAX: usize = 64 * 1024;
/// How often old periods are looked for, and full inboxes tried again.
const PAUSE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(1);
/// This node, to its own ledger.
const NODE: u64 = 0;

/// What an owner shard asks or tells.
pub type Request = (ShardId, Message);

/// The way from shards to the ledger.
#[must_use]
pub fn channel() -> (Sender<Request>, Receiver<Request>) {
    bounded(REQUESTS_MAX)
}

/// Runs the ledger until `ended` is closed; shards may be gone before.
///
/// # Errors
/// When the thread cannot be made.
pub fn start(
    requests: Receiver<Request>,
    links: Arc<Links>,
    state: Arc<NodeState>,
    clock: Clock,
    ended: Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("payfence-ledger".to_owned())
        .spawn(move || run(&requests, &links, &state, clock, &ended))
}

fn run(
    requests: &Receiver<Request>,
    links: &Links,
    state: &NodeState,
    clock: Clock,
    ended: &Receiver<()>,
) {
    let mut ledger = Ledger::new();
    let mut replies = VecDeque::new();
    // When the oldest request was taken whose reply is in no inbox yet. What waits in the channel is taken in one go,
    // so it has waited no longer than this round.
    let mut owing_since_ns = None;
    loop {
        let pause = if replies.is_empty() { PAUSE } else { RETRY };
        crossbeam::channel::select! {
            recv(requests) -> request => match request {
                Ok((shard, message)) => ledger.on_message(NODE, shard, &message),
                Err(_) => return,
            },
            recv(ended) -> _ => return,
            default(pause) => {}
        }
        while let Ok((shard, message)) = requests.try_recv() {
            ledger.on_message(NODE, shard, &message);
        }
        let now = clock.now();
        ledger.tick(Now { mono_us: now.mono_ns / 1_000, unix_s: now.unix_s() });
        replies.extend(ledger.drain_outbox().map(|(_, shard, message)| (shard, message)));
        deliver(&mut replies, links);
        owing_since_ns = (!replies.is_empty()).then(|| owing_since_ns.unwrap_or(now.mono_ns));
        let lag_ns = owing_since_ns.map_or(0, |since_ns| now.mono_ns.saturating_sub(since_ns));
        state.set_ledger_lag_ns(lag_ns);
    }
}

fn deliver(replies: &mut VecDeque<(ShardId, Message)>, links: &Links) {
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
