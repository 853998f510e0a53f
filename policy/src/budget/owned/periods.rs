//! Which period an owner counts in, and its going from one to the next.
//!
//! In: the clock, newer terms, what the ledger says. Out: the lease of the period that is counted.
//! Always holds: there is one lease for each period; the loans of a period that was left are void; what was used of it stays reported.

use std::sync::Arc;

use super::{OLDER_MAX, Owned};
use crate::budget::lease::Lease;
use crate::budget::mail::Mail;
use crate::budget::message::LeaseReply;
use crate::budget::{Now, Period, Terms};

impl Owned {
    /// Goes to the period that the ledger says: a later one at once, an earlier one where this node has only guessed its own.
    /// Learns its bounds.
    pub(super) fn agree(&mut self, now: Now, reply: &LeaseReply, mail: &mut Mail) {
        if reply.stamp_us == 0 {
            return;
        }
        let current = reply.current;
        if current.id == self.lease.period.id {
            self.lease.period = current;
        } else if current.id > self.lease.period.id
            || (!self.lease.known && reply.stamp_us >= self.turned_us)
        {
            let fresh = self.next.take().filter(|next| next.period.id == current.id);
            let fresh = fresh.or_else(|| self.take_older(current));
            let fresh = fresh.unwrap_or_else(|| self.lease_of(current, now));
            self.turn_to(now, fresh, mail);
        }
    }

    /// A period that this node has been in and left by a wrong guess: it is counted on where it was.
    pub(super) fn take_older(&mut self, period: Period) -> Option<Lease> {
        let index = self.older.iter().position(|older| older.period.id == period.id)?;
        let mut lease = self.older.remove(index);
        lease.reopen(period);
        Some(lease)
    }

    /// Begins another period. The loans of the one before are void; what was used of it stays reported. Where other nodes
    /// may still lease of it, it is closed only when no shard can use a loan of it any more.
    pub(super) fn turn_to(&mut self, now: Now, fresh: Lease, mail: &mut Mail) {
        let cover = self.cover(now);
        let mut old = std::mem::replace(&mut self.lease, fresh);
        old.used.set_left(true);
        self.lease.used.set_left(false);
        self.lease.begin(now);
        old.left_with = self.lent.iter().map(|lent| lent.units).collect();
        let request = if self.setting.shared { old.tell(&cover) } else { old.close(&cover) };
        self.send(request, mail);
        self.older.push(old);
        if self.older.len() > OLDER_MAX {
            self.drop_oldest();
        }
        let before = std::mem::take(&mut self.lease.left_with);
        for (index, lent) in self.lent.iter_mut().enumerate() {
            lent.units = before.get(index).copied().unwrap_or(0);
        }
        self.turn += 1;
        self.turned_us = now.mono_us;
    }

    /// Drops one without use where there is one, or else the one that ended first: a node that has guessed its periods without
    /// the ledger may go back to any of them, and what was used of it must be known then.
    fn drop_oldest(&mut self) {
        let rank = |lease: &Lease| (lease.used.totals().charged > 0, lease.period.end_s);
        let oldest = self.older.iter().enumerate().min_by_key(|(_, lease)| rank(lease));
        if let Some((index, _)) = oldest {
            self.older.remove(index);
        }
    }

    /// Closes earlier periods that no shard has cells of any more, nor an answer on its way to one.
    pub(super) fn close_older(&mut self, now: Now, mail: &mut Mail) {
        for index in 0..self.older.len() {
            let cover = self.cover(now);
            let Some(lease) = self.older.get_mut(index) else { break };
            if !lease.is_closed() && Arc::strong_count(&lease.used) == 1 {
                let request = lease.close(&cover);
                self.send(request, mail);
            }
        }
    }

    /// Begins a new period when the old one is over. Its loans are void; what was used of it stays reported.
    pub(super) fn begin_period(&mut self, now: Now, mail: &mut Mail) {
        let period = self.lease.period.at(&self.terms.calendar, now.unix_s);
        if period.id == self.lease.period.id {
            return;
        }
        let ahead = self.next.take().filter(|next| next.period == period);
        let ahead = ahead.or_else(|| self.take_older(period));
        let fresh = ahead.unwrap_or_else(|| self.lease_of(period, now));
        self.turn_to(now, fresh, mail);
    }

    /// Takes newer terms. The period keeps its id and use, the bucket what is missing in it.
    pub(super) fn learn(&mut self, now: Now, terms: &Terms, mail: &mut Mail) {
        if terms.version <= self.terms.version {
            return;
        }
        let old = std::mem::replace(&mut self.terms, *terms);
        if terms.same_as(&old) {
            return;
        }
        if terms.calendar != old.calendar {
            self.lease.period = self.lease.period.moved_to(&terms.calendar, now.unix_s);
            self.next = None;
        }
        if terms.rate != old.rate && !self.setting.shared {
            self.reshape_rate(now, old.rate);
        }
        self.recall_all(now, mail);
    }
}
