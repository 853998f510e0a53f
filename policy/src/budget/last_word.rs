//! What an owner has left to tell the ledger when its shard ends.
//!
//! In: a lease of one period. Out: its last message. Always holds: the message is made of what shards have used by the time it is
//! asked for, so it is the last word only once all of them have ended.

use super::Message;
use super::lease::{Cover, Lease};

/// One period's last word: what was used, and that nothing more is wanted.
#[derive(Debug)]
pub struct LastWord {
    cover: Cover,
    lease: Lease,
}

impl LastWord {
    pub(super) const fn new(cover: Cover, lease: Lease) -> Self {
        Self { cover, lease }
    }

    /// The message, by which the ledger takes back whatever was not used. To be asked for when every shard has ended.
    #[must_use]
    pub fn into_message(mut self) -> Message {
        Message::LeaseRequest(Box::new(self.lease.close(&self.cover)))
    }
}
