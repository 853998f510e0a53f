//! The budgets of one shard: what it may admit at once, what it must ask for, and what it owns and lends.
//!
//! In: requests, settlements, messages, the time. Out: verdicts, messages, the time of the next tick.
//! Always holds: nothing here blocks; a request that waits is resolved or cancelled, by its deadline at the latest.

use std::sync::Arc;

use super::borrower::Borrower;
use super::carried::Carried;
use super::mail::{Mail, Side, Timers};
use super::owned::Owned;
use super::owner::Owner;
use super::{
    Admission, Admitted, Decided, Destination, EntitlementId, LastWord, Message, Now, Outcome,
    PeriodId, Settle, Settled, ShardId, Source, Terms, Ticket, Usage, WaitId,
};

/// Bounds and delays of one shard's budgets.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Requests of one entitlement that may wait at one shard; past it the answer is `Unknown`.
    pub waiting_max: usize,
    /// How long a request may wait before the answer is `Unknown`.
    pub wait_us_max: u64,
    /// Other nodes lease from the same ledger: it says which period it is, and splits rates and slots.
    pub shared: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { waiting_max: 1_024, wait_us_max: 1_000_000, shared: false }
    }
}

/// For `/status` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entitlements with an entry at this shard.
    pub entries: usize,
    /// Entitlements this shard owns.
    pub owned: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Waits that ended with `Unknown`, or could not begin because too many waited, in all.
    pub unknown: u64,
    /// Answers that brought this shard units, in all.
    pub loans: u64,
    /// Recalls this shard sent as owner, in all.
    pub recalls: u64,
    /// Quota units in loans this shard holds and has not used; about a second old at most.
    pub loaned_units: u64,
    /// Settlements for a period that was no longer known, in all.
    pub settled_late: u64,
}

/// One shard's budgets.
#[derive(Debug)]
pub struct ShardBudgets {
    borrower: Borrower,
    owner: Owner,
    mail: Mail,
    timers: Timers,
}

impl ShardBudgets {
    /// The budgets of one of `shards` shards.
    #[must_use]
    pub fn new(shard: ShardId, shards: u16, config: Config) -> Self {
        Self {
            borrower: Borrower::new(config),
            owner: Owner::new(&config),
            mail: Mail::new(shard, shards),
            timers: Timers::default(),
        }
    }

    /// The same, going on from what was used before.
    #[must_use]
    pub fn carrying(mut self, carried: Arc<Carried>) -> Self {
        self.owner.carry(carried);
        self
    }

    /// Rows 11 to 15 of the decision table for one request of this cost.
    pub fn admit(&mut self, now: Now, id: EntitlementId, terms: &Terms, cost: u64) -> Admission {
        let held = match self.borrower.admit(now, id, terms, cost, &mut self.mail) {
            Ok(decided) => {
                self.deliver(now);
                return Admission::Decided(decided);
            }
            Err(held) => held,
        };
        let side = (&mut self.mail, &mut self.timers);
        let Some(wait) = self.borrower.wait_admit(now, id, terms, (cost, held), side) else {
            return Admission::Decided(Decided::Unknown { retry_after_s: 1 });
        };
        self.deliver(now);
        match self.borrower.take_resolved(wait) {
            Some(Outcome::Decided(decided)) => Admission::Decided(decided),
            _ => Admission::Pending(wait),
        }
    }

    /// The next wait that has ended. Call until `None`, after every other call.
    pub fn poll_resolved(&mut self) -> Option<(WaitId, Outcome)> {
        self.borrower.poll_resolved()
    }

    /// The client of a waiting request is gone. Nothing is charged, also where the wait has ended already and was
    /// not polled yet.
    pub fn cancel(&mut self, now: Now, wait: WaitId) {
        self.borrower.cancel(now, wait);
        self.deliver(now);
    }

    /// Changes an admitted request's charge while it goes on (`PayFence-Cost` in the response head).
    pub fn correct(&mut self, ticket: &mut Ticket, charge: u64) {
        if charge != ticket.charge {
            self.borrower.correct(ticket, charge);
        }
    }

    /// Ends an admitted request: frees its slot, and refunds or corrects in the period it came from.
    pub fn settle(&mut self, now: Now, ticket: Ticket, how: Settle) -> Settled {
        let id = ticket.id;
        let (settled, late) = self.borrower.settle(now, ticket, how);
        if late {
            self.mail.send(self.mail.owner(id), Message::Returned(id));
            self.deliver(now);
        }
        settled
    }

    /// Charges a request that goes on although it could not be known whether units are left. `None` where nothing is
    /// known of the entitlement here: then it is charged as soon as something is, and not given back.
    pub fn admit_unmetered(
        &mut self,
        now: Now,
        id: EntitlementId,
        terms: &Terms,
        cost: u64,
    ) -> Option<Admitted> {
        let side = (self.mail.shard, &mut self.timers);
        self.borrower.admit_unmetered(now, id, terms, cost, side)
    }

    /// An entitlement's numbers, free of charge; also for one that was never used.
    pub fn usage(&mut self, now: Now, id: EntitlementId, terms: &Terms) -> Usage {
        if let Some(figures) = self.borrower.usage(now, id, terms) {
            return Usage::Ready(figures);
        }
        let side = (&mut self.mail, &mut self.timers);
        let Some(wait) = self.borrower.wait_usage(now, id, terms, side) else {
            return Usage::Unknown;
        };
        self.deliver(now);
        match self.borrower.take_resolved(wait) {
            Some(Outcome::Usage(figures)) => Usage::Ready(figures),
            Some(Outcome::Decided(_)) => Usage::Unknown,
            None => Usage::Pending(wait),
        }
    }

    /// A message for this shard.
    pub fn on_message(&mut self, now: Now, from: Source, message: Message) {
        self.take(now, from, message);
        self.deliver(now);
    }

    /// Messages to carry, in order. The iterator must be run to its end: what it yields is gone.
    pub fn drain_outbox(&mut self) -> impl Iterator<Item = (Destination, Message)> + '_ {
        self.mail.outbox.drain(..)
    }

    /// Whether there is anything in the outbox.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.mail.outbox.is_empty()
    }

    /// Does what is due: deadlines, returns of idle units, recalls again, reports.
    pub fn tick(&mut self, now: Now) {
        while let Some((at_us, id, side)) = self.timers.pop(now.mono_us) {
            let (mail, timers) = (&mut self.mail, &mut self.timers);
            match side {
                Side::Borrower => self.borrower.on_due(now, id, at_us, mail, timers),
                Side::Owner => self.owner.on_due(now, id, at_us, mail, timers),
            }
            self.deliver(now);
        }
    }

    /// When `tick` is due next, on the monotonic clock in microseconds.
    #[must_use]
    pub fn next_tick(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Gives up what this shard owns and answers for, at its end: nothing more may be asked of it then. What the ledger is to
    /// be told once every other shard has ended too.
    pub fn last_words(&mut self) -> Vec<LastWord> {
        self.owner.last_words()
    }

    /// For `/status` and metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (entries, waiting) = self.borrower.counts();
        Counts {
            entries,
            owned: self.owner.len(),
            waiting,
            unknown: self.borrower.unknown,
            loans: self.borrower.loans,
            recalls: self.mail.recalls,
            loaned_units: self.borrower.loaned_units,
            settled_late: self.borrower.settled_late,
        }
    }

    /// The owner's account of an entitlement, for the simulator's invariants.
    pub(super) fn owned(&self, id: EntitlementId) -> Option<&Owned> {
        self.owner.get(id)
    }

    /// Quota units an entitlement may still use at this shard, and their period; for the simulator.
    pub(super) fn spendable(&self, id: EntitlementId) -> Option<(PeriodId, u64)> {
        self.borrower.spendable(id)
    }

    /// Messages of this shard to itself: its borrower's and its owner's side talk like any two shards.
    fn deliver(&mut self, now: Now) {
        while let Some(message) = self.mail.to_self.pop_front() {
            self.take(now, Source::Shard(self.mail.shard), message);
        }
    }

    fn take(&mut self, now: Now, from: Source, message: Message) {
        let (mail, timers) = (&mut self.mail, &mut self.timers);
        match (from, message) {
            (Source::Shard(from), Message::Ask(ask)) => {
                self.owner.on_ask(now, from, ask, mail, timers);
            }
            (Source::Shard(from), Message::Returned(id)) => {
                self.owner.on_returned(now, from, id, mail, timers);
            }
            (Source::Shard(_), Message::Answer(answer)) => {
                self.borrower.on_answer(now, &answer, mail, timers);
            }
            (Source::Shard(_), Message::Recall(recall)) => {
                self.borrower.on_recall(now, &recall, mail, timers);
            }
            (Source::Ledger, Message::LeaseReply(reply)) => {
                self.owner.on_reply(now, &reply, mail, timers);
            }
            // Nobody sends these: a shard is no ledger, and the ledger knows no shards' loans.
            (Source::Shard(_), Message::LeaseRequest(_) | Message::LeaseReply(_))
            | (Source::Ledger, _) => {}
        }
    }
}

#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
