//! The side of a shard's budgets that borrows: for every entitlement used here, its loans and the requests that wait.
//!
//! In: requests, answers and recalls of the owner, the time. Out: verdicts, questions to the owner.
//! Always holds: per entitlement requests are decided in the order they came, one question is under way at most, and
//! whatever a waiting request has got is given back when it is refused, cancelled or late.

use std::collections::{HashMap, VecDeque};

use super::entry::{Held, Loans, figures};
use super::mail::{IdMap, Mail, Side, Timers};
use super::message::{Answer, Ask, Need, Recall, Verdict};
use super::shard::Config;
use super::{
    Admitted, Decided, EntitlementId, Message, Now, Outcome, Settle, Settled, Terms, Ticket, WaitId,
};

/// Loans that nobody has used for this long go back.
const IDLE_US: u64 = 1_000_000;
/// An entry without loans, waits or tickets is forgotten after this long.
const FORGET_US: u64 = 10_000_000;
/// Questions closer together than this double what is asked for, and it is halved when they are ten times as far.
const BUSY_US: u64 = 100_000;
const WANT_MAX: u64 = 1 << 20;
/// Where what went on unmetered could not be counted, its cells are asked for this often.
const UNMETERED_ASK_US: u64 = 1_000_000;

#[derive(Debug)]
enum Call {
    Admit { cost: u64, held: Held },
    Usage,
}

#[derive(Debug)]
struct Waiter {
    wait: WaitId,
    deadline_us: u64,
    call: Call,
}

#[derive(Debug)]
struct Entry {
    loans: Loans,
    waiters: VecDeque<Waiter>,
    /// The question under way, and the waiter it is for.
    asked: Option<(u64, Option<WaitId>)>,
    want: u64,
    /// Quota and rate units below which more are asked for ahead of need.
    low: (u64, u64),
    answered_us: u64,
    used_us: u64,
    due_us: Option<u64>,
    /// Its part of [`Borrower::loaned_units`].
    loaned_units: u64,
}

/// All entries of one shard.
#[derive(Debug)]
pub(super) struct Borrower {
    config: Config,
    entries: IdMap<Box<Entry>>,
    waits: HashMap<WaitId, EntitlementId>,
    resolved: VecDeque<(WaitId, Outcome)>,
    last_wait: u64,
    last_seq: u64,
    pub(super) unknown: u64,
    pub(super) settled_late: u64,
    /// Answers that brought units, in all.
    pub(super) loans: u64,
    /// Quota units in loans, each entry's as of its last answer, recall or due time, so about a second old at most:
    /// a sum over all entries would hold up the shard.
    pub(super) loaned_units: u64,
}

impl Borrower {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            entries: IdMap::default(),
            waits: HashMap::new(),
            resolved: VecDeque::new(),
            last_wait: 0,
            last_seq: 0,
            unknown: 0,
            settled_late: 0,
            loans: 0,
            loaned_units: 0,
        }
    }

    /// Decides with what is here; `Err` says how far it came where it must wait.
    pub(super) fn admit(
        &mut self,
        now: Now,
        id: EntitlementId,
        terms: &Terms,
        cost: u64,
        mail: &mut Mail,
    ) -> Result<Decided, Held> {
        let mut held = Held::default();
        let Some(entry) = self.entries.get_mut(&id) else { return Err(held) };
        if terms.version != entry.loans.terms.version && entry.loans.learn(terms) {
            mail.send(mail.owner(id), Message::Returned(id));
        }
        entry.used_us = now.mono_us;
        if !entry.waiters.is_empty() {
            return Err(held);
        }
        let decided = entry.loans.decide(now, &mut held, cost).ok_or(held)?;
        if entry.asked.is_none() && entry.runs_low() {
            self.last_seq += 1;
            entry.ask(now, self.last_seq, mail);
        }
        Ok(decided)
    }

    /// Charges a request that goes on without units.
    pub(super) fn admit_unmetered(
        &mut self,
        now: Now,
        id: EntitlementId,
        terms: &Terms,
        cost: u64,
        (shard, timers): (super::ShardId, &mut Timers),
    ) -> Option<Admitted> {
        let entry = self.entries.entry(id).or_insert_with(|| Entry::new(id, shard, terms, now));
        entry.used_us = now.mono_us;
        let admitted = entry.loans.charge_unmetered(now, cost);
        if admitted.is_none() {
            entry.schedule(now, timers);
        }
        admitted
    }

    /// Lets a request wait; `None` where too many do.
    pub(super) fn wait_admit(
        &mut self,
        now: Now,
        id: EntitlementId,
        terms: &Terms,
        call: (u64, Held),
        side: (&mut Mail, &mut Timers),
    ) -> Option<WaitId> {
        let (cost, held) = call;
        self.wait(now, id, terms, Call::Admit { cost, held }, side)
    }

    /// Lets a question for figures wait; `None` where too many do.
    pub(super) fn wait_usage(
        &mut self,
        now: Now,
        id: EntitlementId,
        terms: &Terms,
        side: (&mut Mail, &mut Timers),
    ) -> Option<WaitId> {
        self.wait(now, id, terms, Call::Usage, side)
    }

    fn wait(
        &mut self,
        now: Now,
        id: EntitlementId,
        terms: &Terms,
        call: Call,
        (mail, timers): (&mut Mail, &mut Timers),
    ) -> Option<WaitId> {
        let shard = mail.shard;
        let entry = self.entries.entry(id).or_insert_with(|| Entry::new(id, shard, terms, now));
        if entry.loans.learn(terms) {
            mail.send(mail.owner(id), Message::Returned(id));
        }
        if entry.waiters.len() >= self.config.waiting_max {
            entry.release(&call);
            self.unknown += 1;
            return None;
        }
        self.last_wait += 1;
        let wait = WaitId(self.last_wait);
        let deadline_us = now.mono_us.saturating_add(self.config.wait_us_max);
        entry.waiters.push_back(Waiter { wait, deadline_us, call });
        self.waits.insert(wait, id);
        timers.set(&mut entry.due_us, deadline_us, id, Side::Borrower);
        if entry.asked.is_none() {
            self.last_seq += 1;
            entry.ask(now, self.last_seq, mail);
        }
        Some(wait)
    }

    /// An entitlement's figures, where they are known here.
    pub(super) fn usage(
        &self,
        now: Now,
        id: EntitlementId,
        terms: &Terms,
    ) -> Option<super::Figures> {
        let loans = &self.entries.get(&id)?.loans;
        let news = terms.version > loans.terms.version && !terms.same_as(&loans.terms);
        if news {
            return None;
        }
        loans.current(now).map(|view| figures(&loans.terms, view, now))
    }

    /// The owner's answer: the head of the queue gets its verdict, the others what the loans allow.
    pub(super) fn on_answer(
        &mut self,
        now: Now,
        answer: &Answer,
        mail: &mut Mail,
        timers: &mut Timers,
    ) {
        let id = answer.id;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        // Where the owner could not tell, it does not know either what the cells are worth.
        if answer.verdict != Some(Verdict::Unknown) {
            self.loans += u64::from(entry.loans.take_answer(answer));
        }
        entry.note_loan(&mut self.loaned_units);
        entry.answered_us = now.mono_us;
        entry.low = (entry.loans.units_unspent() / 4, entry.loans.rate_unspent() / 4);
        let Some((_, asker)) = entry.asked.take_if(|(seq, _)| *seq == answer.seq) else { return };
        if entry.waiters.front().is_some_and(|head| Some(head.wait) == asker)
            && let Some(head) = entry.waiters.pop_front()
        {
            let outcome = entry.conclude(now, head.call, answer);
            self.waits.remove(&head.wait);
            self.resolved.push_back((head.wait, outcome));
        }
        self.go_on(now, id, mail, timers);
    }

    /// Decides for those who wait as far as the loans go; asks for the first who cannot be served.
    fn go_on(&mut self, now: Now, id: EntitlementId, mail: &mut Mail, timers: &mut Timers) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        while let Some(head) = entry.waiters.front_mut() {
            let outcome = match &mut head.call {
                Call::Admit { cost, held } => {
                    entry.loans.decide(now, held, *cost).map(Outcome::Decided)
                }
                Call::Usage => {
                    let terms = &entry.loans.terms;
                    let view = entry.loans.current(now);
                    view.map(|view| Outcome::Usage(figures(terms, view, now)))
                }
            };
            let Some(outcome) = outcome else { break };
            self.waits.remove(&head.wait);
            self.resolved.push_back((head.wait, outcome));
            entry.waiters.pop_front();
        }
        if !entry.waiters.is_empty() && entry.asked.is_none() {
            self.last_seq += 1;
            entry.ask(now, self.last_seq, mail);
        }
        entry.note_loan(&mut self.loaned_units);
        entry.schedule(now, timers);
    }

    /// The owner wants units back. What was lent here of a period that the owner left and came back to is given back once
    /// its cells are here again.
    pub(super) fn on_recall(
        &mut self,
        now: Now,
        recall: &Recall,
        mail: &mut Mail,
        timers: &mut Timers,
    ) {
        let (id, shard) = (recall.id, mail.shard);
        let fresh = || Entry::new(id, shard, &Terms::UNKNOWN, now);
        let entry = self.entries.entry(id).or_insert_with(fresh);
        let has_given = entry.loans.give_back(recall);
        entry.note_loan(&mut self.loaned_units);
        if !has_given && entry.asked.is_none() && entry.loans.has_left() {
            self.last_seq += 1;
            entry.ask(now, self.last_seq, mail);
        }
        if entry.due_us.is_none() {
            entry.schedule(now, timers);
        }
        mail.send(mail.owner(id), Message::Returned(id));
    }

    /// The next wait that has ended.
    pub(super) fn poll_resolved(&mut self) -> Option<(WaitId, Outcome)> {
        self.resolved.pop_front()
    }

    /// Takes one wait's outcome out of turn.
    pub(super) fn take_resolved(&mut self, wait: WaitId) -> Option<Outcome> {
        let index = self.resolved.iter().position(|(ended, _)| *ended == wait)?;
        self.resolved.remove(index).map(|(_, outcome)| outcome)
    }

    /// The client of a waiting request is gone.
    pub(super) fn cancel(&mut self, now: Now, wait: WaitId) {
        if let Some(Outcome::Decided(Decided::Admitted(admitted))) = self.take_resolved(wait) {
            self.settle(now, admitted.ticket, Settle::Refund);
            return;
        }
        let Some(id) = self.waits.remove(&wait) else { return };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(index) = entry.waiters.iter().position(|waiter| waiter.wait == wait) else {
            return;
        };
        if let Some(waiter) = entry.waiters.remove(index) {
            entry.release(&waiter.call);
        }
    }

    /// Changes a charge.
    pub(super) fn correct(&mut self, ticket: &mut Ticket, charge: u64) {
        let loans = self.entries.get(&ticket.id).map(|entry| &entry.loans);
        let shard = loans.map(|loans| loans.shard);
        let cells = loans.and_then(|loans| loans.cells_of(ticket.period));
        match cells.zip(shard) {
            Some((cells, shard)) if charge > ticket.charge => {
                cells.cell(shard).correct(charge - ticket.charge);
            }
            Some((cells, shard)) => cells.cell(shard).refund(ticket.charge - charge),
            None => self.settled_late += 1,
        }
        ticket.charge = charge;
    }

    /// Ends an admitted request. True in the second place where an earlier period's use has changed.
    pub(super) fn settle(&mut self, now: Now, mut ticket: Ticket, how: Settle) -> (Settled, bool) {
        let before = ticket.charge;
        match how {
            Settle::Keep => {}
            Settle::Refund => self.correct(&mut ticket, 0),
            Settle::Correct(charge) if charge != before => self.correct(&mut ticket, charge),
            Settle::Correct(_) => {}
        }
        let mut late = false;
        if let Some(entry) = self.entries.get_mut(&ticket.id) {
            if ticket.slot {
                entry.loans.free_slot();
            }
            let current = entry.loans.current(now).map(|view| view.period.id);
            late = ticket.charge != before && current != Some(ticket.period);
            entry.loans.close(ticket.period);
            entry.used_us = now.mono_us;
        }
        (Settled { period: ticket.period, charge: ticket.charge }, late)
    }

    /// An entry is due: late waits end, idle loans go back, what is not needed any more is forgotten.
    pub(super) fn on_due(
        &mut self,
        now: Now,
        id: EntitlementId,
        at_us: u64,
        mail: &mut Mail,
        timers: &mut Timers,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.due_us != Some(at_us) {
            return;
        }
        entry.due_us = None;
        while entry.waiters.front().is_some_and(|head| head.deadline_us <= now.mono_us) {
            let Some(head) = entry.waiters.pop_front() else { break };
            entry.release(&head.call);
            self.unknown += 1;
            self.waits.remove(&head.wait);
            let outcome = Outcome::Decided(Decided::Unknown { retry_after_s: 1 });
            self.resolved.push_back((head.wait, outcome));
        }
        let idle_us = now.mono_us.saturating_sub(entry.used_us);
        let idle = idle_us >= IDLE_US && entry.waiters.is_empty();
        let rate = idle || now.mono_us >= entry.loans.rate_until_us();
        if entry.loans.give_back(&Recall { id, rate, slots: idle, units: idle }) {
            mail.send(mail.owner(id), Message::Returned(id));
        }
        if entry.loans.unmetered > 0 && entry.asked.is_none() && entry.waiters.is_empty() {
            self.last_seq += 1;
            entry.ask(now, self.last_seq, mail);
        }
        entry.note_loan(&mut self.loaned_units);
        if idle_us >= FORGET_US && entry.is_done() {
            self.loaned_units = self.loaned_units.saturating_sub(entry.loaned_units);
            self.entries.remove(&id);
            return;
        }
        entry.schedule(now, timers);
    }

    /// Quota units an entitlement may still use here, and their period; for the simulator.
    pub(super) fn spendable(&self, id: EntitlementId) -> Option<(super::PeriodId, u64)> {
        let loans = &self.entries.get(&id)?.loans;
        loans.view.as_ref().map(|view| (view.period.id, loans.units_unspent()))
    }

    /// Entries, and requests that wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.entries.len(), self.waits.len())
    }
}

impl Entry {
    fn new(id: EntitlementId, shard: super::ShardId, terms: &Terms, now: Now) -> Box<Self> {
        Box::new(Self {
            loans: Loans::new(id, shard, terms),
            waiters: VecDeque::new(),
            asked: None,
            want: 1,
            low: (0, 0),
            answered_us: 0,
            used_us: now.mono_us,
            due_us: None,
            loaned_units: 0,
        })
    }

    /// Brings the sum over all entries up to date with this one.
    fn note_loan(&mut self, sum: &mut u64) {
        let held = self.loans.units_unspent();
        *sum = sum.saturating_sub(self.loaned_units).saturating_add(held);
        self.loaned_units = held;
    }

    /// Less than a quarter of what the last answer left here is still there.
    fn runs_low(&self) -> bool {
        let (units, rate) = self.low;
        (units > 0 && self.loans.units_unspent() < units)
            || (rate > 0 && self.loans.rate_unspent() < rate)
    }

    /// Asks the owner for what the first in the queue lacks, or for more units where nobody waits. What is left of
    /// loans that do not suffice goes back with it, so that the owner need not recall it.
    fn ask(&mut self, now: Now, seq: u64, mail: &mut Mail) {
        let since_us = now.mono_us.saturating_sub(self.answered_us);
        if since_us < BUSY_US {
            self.want = (self.want * 2).min(WANT_MAX);
        } else if since_us > 10 * BUSY_US {
            self.want = (self.want / 2).max(1);
        }
        let id = self.loans.id;
        let head = self.waiters.front();
        let need = head.and_then(|head| match &head.call {
            Call::Admit { cost, held } => {
                Some(Need { rate: !held.rate, slot: !held.slot, cost: *cost })
            }
            Call::Usage => None,
        });
        let asker = head.map(|head| head.wait);
        if let Some(need) = need {
            self.loans.give_back(&Recall { id, rate: need.rate, slots: false, units: true });
        }
        self.asked = Some((seq, asker));
        let cost = |waiter: &Waiter| match waiter.call {
            Call::Admit { cost, .. } => cost,
            Call::Usage => 0,
        };
        let waiting = self.waiters.iter().map(cost).fold(0, u64::saturating_add);
        let want = self.want.max(self.waiters.len() as u64);
        let ask = Ask { id, terms: self.loans.terms, seq, need, waiting, want };
        mail.send(mail.owner(id), Message::Ask(ask));
    }

    /// Ends the head's wait by the owner's verdict.
    fn conclude(&mut self, now: Now, call: Call, answer: &Answer) -> Outcome {
        match (call, answer.verdict) {
            (Call::Admit { cost, held }, Some(Verdict::Admit { slot })) => {
                if slot {
                    self.loans.take_slot();
                }
                Outcome::Decided(self.loans.charge(now, &answer.terms, slot || held.slot, cost))
            }
            (call, Some(Verdict::Refuse { by, retry_after_s })) => {
                self.release(&call);
                Outcome::Decided(self.loans.refuse_as_told(now, by, retry_after_s))
            }
            (call, Some(Verdict::Unknown)) => {
                self.release(&call);
                Outcome::Decided(Decided::Unknown { retry_after_s: 1 })
            }
            (Call::Usage, _) => match self.loans.any_figures(now) {
                Some(figures) => Outcome::Usage(figures),
                None => Outcome::Decided(Decided::Unknown { retry_after_s: 1 }),
            },
            (call @ Call::Admit { .. }, None) => {
                self.release(&call);
                Outcome::Decided(Decided::Unknown { retry_after_s: 1 })
            }
        }
    }

    /// Frees what a request holds that does not go on. Its rate unit stays used: it was a request.
    fn release(&self, call: &Call) {
        if let Call::Admit { held: Held { slot: true, .. }, .. } = call {
            self.loans.free_slot();
        }
    }

    fn is_done(&self) -> bool {
        self.waiters.is_empty()
            && self.asked.is_none()
            && self.loans.open == 0
            && self.loans.unmetered == 0
            && self.loans.older.is_empty()
    }

    /// Sets when there is something to do next without a request or message.
    fn schedule(&mut self, now: Now, timers: &mut Timers) {
        let mut at_us = self.used_us.saturating_add(FORGET_US).max(now.mono_us + IDLE_US);
        if let Some(head) = self.waiters.front() {
            at_us = at_us.min(head.deadline_us);
        }
        if self.loans.units_unspent() > 0 || self.loans.slots_idle() > 0 {
            at_us = at_us.min(self.used_us.saturating_add(IDLE_US).max(now.mono_us + 1));
        }
        if self.loans.unmetered > 0 {
            at_us = at_us.min(now.mono_us + UNMETERED_ASK_US);
        }
        if self.loans.rate_unspent() > 0 {
            at_us = at_us.min(self.loans.rate_until_us());
        }
        timers.set(&mut self.due_us, at_us, self.loans.id, Side::Borrower);
    }
}
