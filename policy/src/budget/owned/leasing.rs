//! An owner's side of the ledger: what it asks for, gives back and tells.
//!
//! In: needs of shards, the time, recalls. Out: lease requests.
//! Always holds: no two requests have one stamp; units that shards hold are never given back.

use super::{AHEAD_S, AHEAD_SHARED_S, Owned};
use crate::budget::lease::{Cover, Lease};
use crate::budget::mail::Mail;
use crate::budget::message::LeaseReply;
use crate::budget::{LeaseRequest, Message, Now, Period};

impl Owned {
    pub(super) fn ask_lease(&mut self, now: Now, need: u64, mail: &mut Mail) {
        let cover = self.cover(now);
        if let Some(request) = self.lease.ask(now, &cover, need) {
            self.send(request, mail);
        }
    }

    /// Leases more before it is needed, and the next period's units before it begins.
    pub(super) fn ask_ahead(&mut self, now: Now, mail: &mut Mail) {
        if self.terms.limit.is_none() {
            return;
        }
        if !self.lease.known {
            self.ask_lease(now, 0, mail);
        }
        let (committed, _) = self.units();
        let leased = self.lease.held().saturating_sub(committed);
        let gone = self.lease.held().saturating_add(self.lease.used.elsewhere());
        let wanted = self.terms.ceiling().is_some_and(|ceiling| ceiling > gone);
        if wanted && self.lease.runs_low(leased) {
            self.ask_lease(now, 0, mail);
        }
        let ahead_s = if self.setting.shared { AHEAD_SHARED_S } else { AHEAD_S };
        let soon = self.lease.period.left_s(now.unix_s) <= ahead_s && self.lease.known;
        if soon && self.lease.used.totals().charged > 0 {
            self.ask_next(now, mail);
        }
    }

    /// Leases of the next period: again while no reply has come, and for more when demand has grown.
    pub(super) fn ask_next(&mut self, now: Now, mail: &mut Mail) {
        if self.next.is_some() && !self.setting.shared {
            return;
        }
        let cover = self.cover(now);
        let demand = if self.setting.shared { self.lease.demand(now) } else { 1 };
        let period = self.lease.period.next(&self.terms.calendar);
        let next = self.next.take().or_else(|| self.take_older(period));
        let mut next = next.unwrap_or_else(|| self.lease_of(period, now));
        let request = next.ask_ahead(now, &cover, demand);
        self.next = Some(next);
        if let Some(request) = request {
            self.send(request, mail);
        }
    }

    /// Totals as they are.
    pub(super) fn tell(&mut self, now: Now, mail: &mut Mail) {
        let cover = self.cover(now);
        let request = self.lease.tell(&cover);
        self.send(request, mail);
    }

    pub(super) fn lease_of(&self, period: Period, now: Now) -> Lease {
        let carried = self.setting.carried.use_in(self.id, period.id);
        Lease::new(period, self.setting.shards, now, carried)
    }

    pub(super) fn send(&mut self, request: LeaseRequest, mail: &mut Mail) {
        if let Some(claim) = request.share {
            self.note_claim(&claim, request.stamp_us);
        }
        mail.send_to_ledger(Message::LeaseRequest(Box::new(request)));
    }

    /// What goes with every request to the ledger. No two have one stamp.
    pub(super) fn cover(&mut self, now: Now) -> Cover {
        self.last_stamp_us = now.mono_us.max(self.last_stamp_us.saturating_add(1));
        let (id, terms, stamp_us) = (self.id, self.terms, self.last_stamp_us);
        Cover { id, terms, stamp_us, share: self.claim(now) }
    }

    /// Gives the ledger all units that are not with shards.
    pub(super) fn give_back_lease(&mut self, now: Now, mail: &mut Mail) {
        let (committed, _) = self.units();
        let free = self.lease.held().saturating_sub(committed);
        if free > 0 {
            self.lease.give_back(free);
            self.owes_word = false;
            self.tell(now, mail);
        }
    }

    /// Gives back what is asked for of another period than the current one.
    pub(super) fn yield_other(&mut self, now: Now, reply: &LeaseReply, mail: &mut Mail) {
        let cover = self.cover(now);
        let is_asked = |lease: &&mut Lease| lease.period.id == reply.period.id;
        let request = if let Some(next) = self.next.as_mut().filter(is_asked) {
            next.give_back(next.held());
            next.tell(&cover)
        } else if let Some(older) = self.older.iter_mut().find(is_asked) {
            older.tell(&cover)
        } else {
            // Leased to an earlier start, or forgotten since.
            self.lease_of(reply.period, now).close(&cover)
        };
        self.send(request, mail);
    }
}
