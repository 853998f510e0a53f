//! One request taken: the node's totals, a lease, units called in from others.
//!
//! In: an account, a request, the time. Out: the account changed, replies.
//! Always holds: what nodes hold or have used, and what is free, make up what the terms allow in a period; a request
//! that comes twice, late or out of turn leases nothing twice and takes nothing back; what an earlier start of a node
//! held is settled once, by what its journal says.

use super::super::account::lease_size;
use super::super::carried::CarriedUse;
use super::super::message::{LeaseReply, LeaseRequest, Totals};
use super::super::{PeriodId, ShardId};
use super::agree;
use super::state::{
    Account, Authority, Borrower, LedgerNow, NODES_MAX, NodeLease, PeriodBooks, Pool, Posted,
};

/// How long a node's request waits for units of others: as long as requests wait at a node.
const WAIT_MS: i64 = 1_000;
/// A period that is over is leased from by its nodes this much longer: their clocks follow the ledger's a little late.
const LATE_S: i64 = 60;

/// Who is to hear what, once the request is taken.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

#[derive(Clone, Copy, Debug)]
struct Note {
    node: u64,
    period: PeriodId,
    recall: bool,
}

impl Notes {
    /// A reply to a node about a period.
    pub(super) fn add(&mut self, node: u64, period: PeriodId, recall: bool) {
        let known = self.0.iter_mut().find(|note| note.node == node && note.period == period);
        match known {
            Some(note) => note.recall |= recall,
            None => self.0.push(Note { node, period, recall }),
        }
    }
}

impl Account {
    /// The account of an entitlement that has none yet.
    #[must_use]
    pub fn open(request: &LeaseRequest, now: LedgerNow) -> Self {
        Self {
            id: request.id,
            serial: 0,
            terms: request.terms,
            current: agree::first(request, now),
            books: Vec::new(),
            members: Vec::new(),
            pool: Pool::default(),
        }
    }

    /// Takes one request and says what is to be sent to whom.
    pub fn take(&mut self, from: Borrower, request: &LeaseRequest, now: LedgerNow) -> Vec<Posted> {
        if self.is_stale(from) {
            return Vec::new();
        }
        self.serial = self.serial.saturating_add(1);
        let is_lowered = self.learn(request, now);
        let mut notes = Notes::default();
        match self.place(request, now) {
            Some(index) => self.settle(index, from, request, now, &mut notes),
            None => notes.add(from.node, self.current.id, false),
        }
        if is_lowered {
            self.call_in(None, &mut notes);
        }
        self.split(from, request, now, &mut notes);
        self.post(from, request.stamp_us, &notes)
    }

    /// An operator says that a node is gone: what it held counts as used, nobody waits for it any more. Should it come
    /// back, what it says is taken. Its share of the rate ends when it would have run out.
    pub fn declare_dead(&mut self, node: u64, now: LedgerNow) -> Vec<Posted> {
        self.serial = self.serial.saturating_add(1);
        let mut notes = Notes::default();
        for books in &mut self.books {
            let Some(lease) = books.lease_mut(node) else { continue };
            lease.dead = true;
            lease.waits_for = 0;
            let period = books.period.id;
            let others = books.leases.iter().filter(|lease| lease.node != node && !lease.dead);
            others.for_each(|lease| notes.add(lease.node, period, false));
        }
        self.part_with(node, now, &mut notes);
        let from = Borrower { node, start: 0, shard: ShardId(0) };
        self.post(from, 0, &notes)
    }

    /// Drops periods that are over for so long that nobody will report of them.
    pub fn prune(&mut self, now_s: i64, keep_s: i64) {
        let current = self.current.id;
        self.books.retain(|books| {
            books.period.id >= current || now_s < books.period.end_s.saturating_add(keep_s)
        });
    }

    /// A message of a start that a later one has ended.
    fn is_stale(&self, from: Borrower) -> bool {
        let later = |node: u64, start: u64| node == from.node && start > from.start;
        let leases = self.books.iter().flat_map(|books| &books.leases);
        leases.map(|lease| (lease.node, lease.start)).any(|(node, start)| later(node, start))
            || self.members.iter().any(|member| later(member.node, member.start))
    }

    fn settle(
        &mut self,
        index: usize,
        from: Borrower,
        request: &LeaseRequest,
        now: LedgerNow,
        notes: &mut Notes,
    ) {
        let terms = self.terms;
        let Some(books) = self.books.get_mut(index) else { return };
        let period = books.period;
        let is_over = period.id < self.current.id
            && now.authority == Authority::Ledger
            && now.unix_s() > period.end_s.saturating_add(LATE_S);
        let used_before = books.used();
        if books.lease(from.node).is_none() {
            if books.leases.len() >= NODES_MAX {
                return;
            }
            books.leases.push(NodeLease::new(from, request));
        }
        let Some(lease) = books.lease_mut(from.node) else { return };
        let is_newest = lease.take(from, request, now);
        let asks = request.need > 0 || request.demand > 0;
        if is_newest && asks && !request.closed {
            if !is_over || lease.granted > 0 {
                lend(books, from.node, request, terms, now);
            }
            notes.add(from.node, period.id, false);
        }
        serve_waiting(books, terms, now, notes);
        if books.used() < used_before && terms.refuses(used_before, 1) {
            // Those who refuse because all was used must hear that it is not.
            for other in books.leases.iter().filter(|other| !other.dead) {
                notes.add(other.node, period.id, false);
            }
        }
        let lacks = books.lease(from.node).is_some_and(|lease| lease.waits_for > 0);
        if lacks && is_newest && asks {
            for holder in &books.leases {
                if holder.node != from.node && holder.unspent() > 0 {
                    notes.add(holder.node, period.id, true);
                }
            }
        }
        if now.authority == Authority::Ledger && self.current.id != period.id {
            notes.add(from.node, period.id, false);
        }
    }

    /// Asks every node for what it has not used.
    fn call_in(&self, but: Option<u64>, notes: &mut Notes) {
        for books in &self.books {
            for lease in books.leases.iter().filter(|lease| Some(lease.node) != but) {
                if lease.unspent() > 0 {
                    notes.add(lease.node, books.period.id, true);
                }
            }
        }
    }

    /// Writes the replies, of the account as it is now.
    fn post(&self, from: Borrower, stamp_us: u64, notes: &Notes) -> Vec<Posted> {
        notes.0.iter().map(|note| self.reply(from, stamp_us, *note)).collect()
    }

    fn reply(&self, from: Borrower, stamp_us: u64, note: Note) -> Posted {
        let node = note.node;
        let asks = node == from.node;
        let books = self.period(note.period);
        // What an earlier start of the node that asks has leased is nothing of its own.
        let lease = books
            .and_then(|books| books.lease(node))
            .filter(|lease| !asks || lease.start == from.start);
        let member = self.members.iter().find(|member| member.node == node);
        let member = member.filter(|member| !asks || member.start == from.start);
        let (start, shard) = lease
            .map(|lease| (lease.start, lease.shard))
            .or(member.map(|member| (member.start, member.shard)))
            .unwrap_or((from.start, from.shard));
        let member = member.filter(|member| member.start == start);
        // It has answered what it was asked even where there are no books for it: it is told which period it is.
        let answered_us = if asks { stamp_us } else { 0 };
        let stamp_us = answered_us.max(lease.map_or(0, |lease| lease.stamp_us));
        let all = books.map_or(0, PeriodBooks::used);
        let own =
            lease.map_or(0, |lease| if lease.dead { lease.used() } else { lease.totals.net() });
        let reply = LeaseReply {
            id: self.id,
            period: books.map_or(self.current, |books| books.period),
            granted: lease.map_or(0, |lease| lease.granted),
            returned: lease.map_or(0, |lease| lease.returned),
            elsewhere: all.saturating_sub(own),
            recall: note.recall,
            coming: lease.is_some_and(|lease| lease.waits_for > 0),
            current: self.current,
            serial: self.serial,
            stamp_us: stamp_us.max(member.map_or(0, |member| member.stamp_us)),
            lease_us: lease.map_or(0, |lease| lease.stamp_us),
            share: member.and_then(|member| self.share_of(member)),
        };
        Posted { node, start, shard, reply }
    }
}

impl NodeLease {
    /// Takes a node's totals. They only grow, so the larger is the later. True where nothing later is known.
    fn take(&mut self, from: Borrower, request: &LeaseRequest, now: LedgerNow) -> bool {
        if from.start > self.start {
            self.succeed(from, request.carried);
        }
        self.totals.charged = self.totals.charged.max(request.totals.charged);
        self.totals.refunded = self.totals.refunded.max(request.totals.refunded);
        self.totals.corrected = self.totals.corrected.max(request.totals.corrected);
        if request.stamp_us < self.stamp_us {
            return false;
        }
        // Not of an earlier message: the owner may have forgotten since that it gave units back, and been told that it has them.
        self.returned = self.returned.max(request.returned);
        self.dead &= request.stamp_us == self.stamp_us;
        self.stamp_us = request.stamp_us;
        self.shard = from.shard;
        self.seen_ms = self.seen_ms.max(now.unix_ms);
        self.closed = request.closed;
        if request.closed {
            self.granted = self.granted.min(self.returned.saturating_add(self.totals.net()));
            self.waits_for = 0;
        } else {
            // More than is known here: these books are older than the node's lease.
            self.granted = self.granted.max(request.granted);
        }
        true
    }

    /// A new start of the node: what those before it held is settled by what their journal says.
    fn succeed(&mut self, from: Borrower, carried: CarriedUse) {
        let counted = self.committed();
        if !carried.whole || carried.journal != self.journal {
            self.lost = self.lost.max(counted.saturating_sub(carried.units));
        }
        self.earlier = carried.units;
        self.journal = carried.journal;
        self.start = from.start;
        (self.granted, self.returned, self.totals) = (0, 0, Totals::default());
        (self.stamp_us, self.waits_for, self.closed, self.dead) = (0, 0, false, false);
    }
}

/// Leases units to the node that asks. One that does not know yet what it has been leased is only told again.
fn lend(
    books: &mut PeriodBooks,
    node: u64,
    request: &LeaseRequest,
    terms: super::super::Terms,
    now: LedgerNow,
) {
    let free = books.free(&terms);
    let others_hold = books.leases.iter().any(|other| other.node != node && other.unspent() > 0);
    let Some(lease) = books.lease_mut(node) else { return };
    if lease.granted > request.granted {
        return;
    }
    let units = lease_size(terms.limit, free, request.need, request.demand);
    lease.granted = lease.loan().granted_after(units);
    let lacks = units < request.need && others_hold;
    lease.waits_for = if lacks { request.need - units } else { 0 };
    lease.waits_until_ms = now.unix_ms.saturating_add(WAIT_MS);
}

/// Leases what has come back to the nodes whose requests wait for it.
fn serve_waiting(
    books: &mut PeriodBooks,
    terms: super::super::Terms,
    now: LedgerNow,
    notes: &mut Notes,
) {
    let period = books.period.id;
    let mut free = books.free(&terms).unwrap_or(u64::MAX);
    for lease in books.leases.iter_mut().filter(|lease| lease.waits_for > 0) {
        if now.unix_ms > lease.waits_until_ms {
            lease.waits_for = 0;
            continue;
        }
        let units = lease.waits_for.min(free);
        if units > 0 {
            let before = lease.committed();
            lease.granted = lease.loan().granted_after(units);
            free = free.saturating_sub(lease.committed().saturating_sub(before));
            lease.waits_for -= units;
            notes.add(lease.node, period, false);
        }
    }
}
