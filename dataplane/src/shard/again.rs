//! Requests kept in case their client sends the same bytes again, as whoever polls or retries does.
//!
//! In: the head of a request that was decided on, as it was read, and the head that its origin got, where it was forwarded. Out:
//! all of it again, for the same bytes on the same connection under the same snapshot. Always holds: the budget is asked each
//! time, and what was decided from policy alone counts within its second only, since tokens and grace end at one; a head for the
//! origin is given again only under the decision that it was written for, with the new request's id; [`SLOTS`] requests are kept
//! at most, of [`HEAD_BYTES_MAX`] bytes each and as many for the origin, and they go with their snapshot.
//!
//! A request is kept once it comes for a second time, so that one with something new in it each time, as a trace id, costs the hash
//! of its head.

use std::hash::BuildHasher;

use policy::address::SiteMatch;
use policy::decision::Decision;
use subtle::ConstantTimeEq as _;

use crate::http1::RequestHead;
use crate::message::RequestId;

use super::Shard;
use super::peer::Peer;
use super::policy_view::PolicyView;

const SLOTS: usize = 256;
const HEAD_BYTES_MAX: usize = 2048;

/// What is known of a connection's last request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Last {
    /// Nothing.
    #[default]
    Unknown,
    /// The hash of its head.
    Seen(u64),
    /// It was kept, with this number.
    Kept(u64),
}

/// What policy alone said of a request.
#[derive(Clone, Copy)]
pub(super) struct Judged {
    /// The site that its address names.
    pub(super) found: SiteMatch,
    pub(super) decision: Decision,
    /// The second that the decision was made in, Unix time.
    pub(super) now_s: i64,
}

/// A head for the origin.
#[derive(Clone, Copy)]
pub(super) struct ForOrigin<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the request's id stands in it.
    pub(super) id_at: usize,
}

/// A request that was decided on.
pub(super) struct Kept {
    /// Names it among all of the shard, so that a connection finds none but its own.
    serial: u64,
    bytes: Vec<u8>,
    head: RequestHead,
    judged: Judged,
    /// Its head for the origin under that decision; empty where it was not forwarded.
    for_origin: Vec<u8>,
    id_at: usize,
}

impl Kept {
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

    /// Appends the head that the origin gets under `decision`; whether there was one.
    pub(super) fn write_request(
        &self,
        out: &mut Vec<u8>,
        decision: &Decision,
        id: &RequestId,
    ) -> bool {
        if self.for_origin.is_empty() || self.judged.decision != *decision {
            return false;
        }
        let id_at = out.len() + self.id_at;
        out.extend_from_slice(&self.for_origin);
        if let Some(place) = out.get_mut(id_at..).and_then(<[u8]>::first_chunk_mut) {
            *place = *id.as_bytes();
        }
        true
    }

    /// Takes what came of the request this time; `for_origin` where its head was written anew.
    fn renew(&mut self, judged: Judged, for_origin: Option<ForOrigin<'_>>) {
        if let Some(written) = for_origin {
            self.for_origin.clear();
            if written.bytes.len() <= HEAD_BYTES_MAX {
                self.for_origin.extend_from_slice(written.bytes);
            }
            self.id_at = written.id_at;
        } else if self.judged.decision != judged.decision {
            self.for_origin.clear();
        }
        self.judged = judged;
    }
}

/// The requests of one snapshot.
#[derive(Default)]
pub(super) struct Again {
    /// Empty until something was kept.
    slots: Vec<Option<Box<Kept>>>,
}

impl Again {
    /// The connection's last request, where that was kept and `bytes` begin with the same one.
    pub(super) fn take(&mut self, peer: &Peer, bytes: &[u8]) -> Option<Box<Kept>> {
        let Last::Kept(serial) = peer.last.get() else { return None };
        let slot = self.slots.get_mut(slot_of(serial))?;
        slot.take_if(|kept| kept.serial == serial && begins_with(bytes, &kept.bytes))
    }

    fn put(&mut self, kept: Box<Kept>) {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        if let Some(slot) = self.slots.get_mut(slot_of(kept.serial)) {
            *slot = Some(kept);
        }
    }

    /// What another request leaves to be written over, which saves its memory from being asked for anew.
    fn spare(&mut self, serial: u64) -> Option<Box<Kept>> {
        self.slots.get_mut(slot_of(serial))?.take()
    }
}

/// Whether `bytes` begin with a head that was kept. How long that takes says nothing of where they differ: a head has a token, and
/// a proxy may send those of several clients on one connection.
fn begins_with(bytes: &[u8], head: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..head.len()) else { return false };
    let differing = bytes.iter().zip(head).fold(0, |differing, (a, b)| differing | (a ^ b));
    bool::from(differing.ct_eq(&0))
}

fn slot_of(serial: u64) -> usize {
    (serial % SLOTS as u64) as usize
}

/// Keeps a request that came again, or forgets it where this time it was not decided on.
pub(super) fn keep_on(
    policy: &PolicyView,
    peer: &Peer,
    mut kept: Box<Kept>,
    judged: Option<Judged>,
    for_origin: Option<ForOrigin<'_>>,
) {
    let Some(judged) = judged else { return peer.last.set(Last::Unknown) };
    kept.renew(judged, for_origin);
    policy.again().borrow_mut().put(kept);
}

/// Keeps a request that was decided on, where its connection's last one was the same.
pub(super) fn keep(
    shard: &Shard,
    policy: &PolicyView,
    peer: &Peer,
    (head, bytes): (&RequestHead, &[u8]),
    judged: Judged,
    for_origin: Option<ForOrigin<'_>>,
) {
    if bytes.len() > HEAD_BYTES_MAX {
        return peer.last.set(Last::Unknown);
    }
    let hash = shard.heads.hash_one(bytes);
    if peer.last.replace(Last::Seen(hash)) != Last::Seen(hash) {
        return;
    }
    let serial = shard.kept.get() + 1;
    shard.kept.set(serial);
    peer.last.set(Last::Kept(serial));
    let mut again = policy.again().borrow_mut();
    let mut kept = match again.spare(serial) {
        Some(mut spare) => {
            spare.serial = serial;
            spare.bytes.clear();
            spare.bytes.extend_from_slice(bytes);
            spare.head.clone_from(head);
            spare.for_origin.clear();
            spare
        }
        None => Box::new(Kept {
            serial,
            bytes: bytes.to_vec(),
            head: head.clone(),
            judged,
            for_origin: Vec::new(),
            id_at: 0,
        }),
    };
    kept.renew(judged, for_origin);
    again.put(kept);
}

#[cfg(test)]
#[path = "again_tests.rs"]
mod tests;
