//! What both sides of a shard's budgets share: outgoing messages and due times.
//!
//! In: messages and due times of the borrower's and the owner's side. Out: the outbox, what is due.
//! Always holds: a message to the shard itself never leaves it; a due time fires once, unless an earlier one of the
//! same entry has taken its place.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::{Destination, EntitlementId, Message, ShardId};

/// Maps by an id that is its own hash.
pub(super) type IdMap<V> = HashMap<EntitlementId, V, BuildHasherDefault<IdHasher>>;

/// Passes the one word an id writes.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

/// Messages on their way out of this shard, or to itself.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) shard: ShardId,
    pub(super) shards: u16,
    pub(super) to_self: VecDeque<Message>,
    pub(super) outbox: VecDeque<(Destination, Message)>,
    /// Recalls sent, in all.
    pub(super) recalls: u64,
}

impl Mail {
    /// No messages yet.
    pub(super) fn new(shard: ShardId, shards: u16) -> Self {
        Self {
            shard,
            shards: shards.max(1),
            to_self: VecDeque::new(),
            outbox: VecDeque::new(),
            recalls: 0,
        }
    }

    /// The shard that counts an entitlement.
    pub(super) fn owner(&self, id: EntitlementId) -> ShardId {
        owner_of(id, self.shards)
    }

    /// To a shard of this node.
    pub(super) fn send(&mut self, to: ShardId, message: Message) {
        self.recalls += u64::from(matches!(message, Message::Recall(_)));
        if to == self.shard {
            self.to_self.push_back(message);
        } else {
            self.outbox.push_back((Destination::Shard(to), message));
        }
    }

    /// To the ledger.
    pub(super) fn send_to_ledger(&mut self, message: Message) {
        self.outbox.push_back((Destination::Ledger, message));
    }
}

/// Which side of a shard's budgets is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Borrower,
    Owner,
}

/// Due times on the monotonic clock, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(u64, EntitlementId, Side)>>,
}

impl Timers {
    /// Makes an entry due at `at_us` at the latest. `due_us` is the entry's own note of when it is due.
    pub(super) fn set(
        &mut self,
        due_us: &mut Option<u64>,
        at_us: u64,
        id: EntitlementId,
        side: Side,
    ) {
        if due_us.is_none_or(|due_us| at_us < due_us) {
            *due_us = Some(at_us);
            self.heap.push(Reverse((at_us, id, side)));
        }
    }

    /// The earliest due time.
    pub(super) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_us, ..))| *at_us)
    }

    /// What is due by now. The entry compares the time with its own note: an older one has been replaced.
    pub(super) fn pop(&mut self, now_us: u64) -> Option<(u64, EntitlementId, Side)> {
        let Reverse((at_us, ..)) = self.heap.peek()?;
        if *at_us > now_us {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }
}

/// The shard of a node of so many that counts an entitlement. By the low half of the id; maps hash by the high half.
#[must_use]
pub fn owner_of(id: EntitlementId, shards: u16) -> ShardId {
    let index = (id.0 as u64) % u64::from(shards.max(1));
    ShardId(u16::try_from(index).unwrap_or(0))
}
