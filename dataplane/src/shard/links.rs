//! What the shards of a node share: inboxes, wakers, loads, the policy, the way to the ledger.
//!
//! In: messages between shards and from off-core threads. Out: the same, in the receiver's turn. Always holds: no lock; every
//! inbox is bounded, and a sender keeps what does not fit; a connection is counted by exactly one shard.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use policy::budget::{Message, ShardId, Source};
use policy::snapshot::Snapshot;

use crate::net::{ShardWaker, WakerSet};

use super::peer::Listens;

/// Messages that an inbox holds.
const INBOX_MESSAGES: usize = 4096;

/// What a shard finds in its inbox.
pub enum Mail {
    /// About units.
    Budget(Source, Message),
    /// A connection that another shard accepted and has not read from.
    Connection(OwnedFd, SocketAddr, Listens),
}

/// One shard as the others see it.
struct Link {
    inbox: ArrayQueue<Mail>,
    connections: CachePadded<AtomicUsize>,
}

/// What all shards of a node share.
pub struct Links {
    links: Box<[Link]>,
    wakers: WakerSet,
    policy: Arc<ArcSwap<Snapshot>>,
    ledger: crossbeam::channel::Sender<(ShardId, Message)>,
    draining: AtomicBool,
}

impl Links {
    /// Links for `shards` shards that begin with `snapshot` and send what is for the ledger to `ledger`.
    ///
    /// # Errors
    /// When no more descriptors can be had.
    pub fn new(
        shards: usize,
        snapshot: Arc<Snapshot>,
        ledger: crossbeam::channel::Sender<(ShardId, Message)>,
    ) -> std::io::Result<Self> {
        let links = (0..shards)
            .map(|_| Link {
                inbox: ArrayQueue::new(INBOX_MESSAGES),
                connections: CachePadded::new(AtomicUsize::new(0)),
            })
            .collect();
        let wakers = (0..shards).map(|_| ShardWaker::new()).collect::<Result<_, _>>()?;
        Ok(Self {
            links,
            wakers,
            policy: Arc::new(ArcSwap::new(snapshot)),
            ledger,
            draining: AtomicBool::new(false),
        })
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.links.len()
    }

    /// How `shard` is woken.
    #[must_use]
    pub fn waker(&self, shard: usize) -> &ShardWaker {
        &self.wakers[shard]
    }

    /// Puts `mail` into a shard's inbox; gives it back when that is full. The sender wakes the shard afterwards.
    ///
    /// # Errors
    /// When the inbox is full.
    pub fn put(&self, shard: usize, mail: Mail) -> Result<(), Mail> {
        self.links[shard].inbox.push(mail)
    }

    pub(super) fn take(&self, shard: usize) -> Option<Mail> {
        self.links[shard].inbox.pop()
    }

    pub(super) fn has_mail(&self, shard: usize) -> bool {
        !self.links[shard].inbox.is_empty()
    }

    /// Sends `message` of `shard` to the ledger; gives it back when the ledger is behind.
    pub(super) fn put_ledger(&self, shard: ShardId, message: Message) -> Result<(), Message> {
        self.ledger.try_send((shard, message)).map_err(|error| error.into_inner().1)
    }

    /// The policy in force.
    pub(super) const fn policy(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.policy
    }

    /// Puts a new policy in force: requests that begin from now on see it.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.policy.store(snapshot);
        self.wakers.iter().for_each(ShardWaker::wake);
    }

    /// Tells every shard to stop accepting and to finish.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.wakers.iter().for_each(ShardWaker::wake);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(super) fn connection_opened(&self, shard: usize) {
        self.links[shard].connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connection_closed(&self, shard: usize) {
        self.links[shard].connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections of all shards.
    pub(super) fn connections(&self) -> usize {
        self.links.iter().map(|link| link.connections.load(Ordering::Relaxed)).sum()
    }

    /// The shard that a connection accepted at `shard` should live on: its own, unless that has clearly more than the
    /// emptiest.
    pub(super) fn place(&self, shard: usize) -> usize {
        let load = |at: usize| self.links[at].connections.load(Ordering::Relaxed);
        let own = load(shard);
        let emptiest = (0..self.links.len()).min_by_key(|at| load(*at)).unwrap_or(shard);
        // Moving costs a message and a wake, so a small difference is left alone.
        if own > load(emptiest) + own / 16 { emptiest } else { shard }
    }
}
