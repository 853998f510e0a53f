//! Requests that were refused, kept in case their client sends the same bytes again, as whoever retries does.
//!
//! In: the head of a request that was refused, as it was read and decided on. Out: both again, for the same bytes on the same
//! connection under the same snapshot. Always holds: the budget is asked each time, and what was decided from policy alone
//! counts within its second only, since tokens and grace end at one; [`SLOTS`] heads are kept at most, of [`HEAD_BYTES_MAX`]
//! bytes each, and they go with their snapshot.

use policy::address::SiteMatch;
use policy::decision::Decision;

use crate::http1::RequestHead;

use super::Shard;
use super::peer::Peer;
use super::policy_view::PolicyView;

const SLOTS: usize = 128;
const HEAD_BYTES_MAX: usize = 2048;

/// What policy alone said of a request.
#[derive(Clone, Copy)]
pub(super) struct Judged {
    /// The site that its address names.
    pub(super) found: SiteMatch,
    pub(super) decision: Decision,
    /// The second that the decision was made in, Unix time.
    pub(super) now_s: i64,
}

/// A request that was refused.
pub(super) struct Refused {
    /// Names it among all of the shard, so that a connection finds none but its own.
    serial: u64,
    bytes: Vec<u8>,
    head: RequestHead,
    judged: Judged,
}

impl Refused {
    /// The head, as it was read.
    pub(super) const fn head(&self) -> &RequestHead {
        &self.head
    }

    /// Bytes of the head.
    pub(super) const fn head_len(&self) -> usize {
        self.bytes.len()
    }

    /// What policy said.
    pub(super) const fn judged(&self) -> Judged {
        self.judged
    }
}

/// The refused requests of one snapshot.
#[derive(Default)]
pub(super) struct Again {
    /// Empty until something was refused.
    slots: Vec<Option<Box<Refused>>>,
}

impl Again {
    /// The connection's last request, where that was refused and `bytes` begin with the same one.
    pub(super) fn take(&mut self, peer: &Peer, bytes: &[u8]) -> Option<Box<Refused>> {
        let serial = peer.refused.get();
        let slot = self.slots.get_mut(slot_of(serial))?;
        slot.take_if(|kept| kept.serial == serial && bytes.starts_with(&kept.bytes))
    }

    fn put(&mut self, refused: Box<Refused>) {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        if let Some(slot) = self.slots.get_mut(slot_of(refused.serial)) {
            *slot = Some(refused);
        }
    }

    /// What another request leaves to be written over, which saves its memory from being asked for anew.
    fn spare(&mut self, serial: u64) -> Option<Box<Refused>> {
        self.slots.get_mut(slot_of(serial))?.take()
    }
}

fn slot_of(serial: u64) -> usize {
    (serial % SLOTS as u64) as usize
}

/// Keeps a request that was refused again, or forgets it where this time it was not.
pub(super) fn keep_on(
    policy: &PolicyView,
    peer: &Peer,
    mut refused: Box<Refused>,
    judged: Option<Judged>,
) {
    let Some(judged) = judged else { return peer.refused.set(0) };
    refused.judged = judged;
    policy.again().borrow_mut().put(refused);
}

/// Keeps a request that was refused.
pub(super) fn keep(
    shard: &Shard,
    policy: &PolicyView,
    peer: &Peer,
    (head, bytes): (&RequestHead, &[u8]),
    judged: Judged,
) {
    if bytes.len() > HEAD_BYTES_MAX {
        return peer.refused.set(0);
    }
    let serial = shard.refusals.get() + 1;
    shard.refusals.set(serial);
    peer.refused.set(serial);
    let mut kept = policy.again().borrow_mut();
    let refused = match kept.spare(serial) {
        Some(mut spare) => {
            spare.serial = serial;
            spare.judged = judged;
            spare.bytes.clear();
            spare.bytes.extend_from_slice(bytes);
            spare.head.clone_from(head);
            spare
        }
        None => Box::new(Refused { serial, bytes: bytes.to_vec(), head: head.clone(), judged }),
    };
    kept.put(refused);
}

#[cfg(test)]
#[path = "again_tests.rs"]
mod tests;
