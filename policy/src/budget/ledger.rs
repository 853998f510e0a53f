//! The ledger in memory: leases units of each entitlement and period to nodes.
//!
//! In: `LeaseRequest`s of nodes. Out: `LeaseReply`s.
//! Always holds: granted − returned over all nodes never exceeds what the terms allow in a period.

use super::{Message, Now, ShardId};

/// Every entitlement's leases.
#[derive(Debug, Default)]
pub struct Ledger {}

impl Ledger {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one message of a shard of `node`. Answers come out of `drain_outbox`.
    pub fn on_message(&mut self, _now: Now, _node: u64, _shard: ShardId, _message: Message) {}

    /// Answers to carry: node, shard, message.
    pub fn drain_outbox(&mut self) -> impl Iterator<Item = (u64, ShardId, Message)> + '_ {
        std::iter::empty()
    }
}
