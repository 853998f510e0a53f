//! The owner's account of one entitlement: what is leased, what is lent to which shard, who waits for what.
//!
//! In: questions of shards, the ledger's replies, the time. Out: verdicts, recalls, lease requests.
//! Always holds: what is lent and used never exceeds the lease, nor the limit and its overage cap;
//! level + rate loans ≤ burst; slots held ≤ the concurrency limit, but for a limit that was lowered under them. The
//! first question that cannot be answered yet holds up the others, so that nobody starves.

mod books;

use std::collections::VecDeque;
use std::sync::Arc;

use super::account::loan_size;
use super::bucket::Bucket;
use super::cells::{Level, NodeCell, NodeUse, PeriodCell};
use super::lease::{Lease, REPORT_US};
use super::mail::Mail;
use super::message::{Answer, Ask, LeaseReply, Need, Recall, Totals, Verdict};
use super::{
    EntitlementId, LastWord, Message, Now, Past, Period, RateTerms, Refused, ShardId, Terms,
};

/// A recall that has not shown in the cells is sent again after this long.
pub(super) const RECALL_AGAIN_US: u64 = 10_000;
/// Rate units are lent for this long.
const RATE_LOAN_US: u64 = 100_000;
/// Rate units are not lent in smaller numbers. While they are out the bucket has no room for them, whenever they
/// were used, so it may fill a little less than it should; a small bucket is exact because it lends none.
const RATE_LOAN_MIN: u64 = 16;
/// Earlier periods whose late refunds are still reported.
const OLDER_MAX: usize = 4;
/// A period's units are asked for this long before it begins.
const AHEAD_S: u64 = 10;

/// An entry that nobody has asked for this long may be forgotten.
const QUIET_US: u64 = 60_000_000;
/// An idle entry is looked at this often at least.
const IDLE_CHECK_US: u64 = 600_000_000;

/// What one shard has of this entitlement.
#[derive(Clone, Copy, Debug, Default)]
struct Lent {
    units: u64,
    rate: u64,
    /// Rate units back in the bucket.
    rate_back: u64,
    slots: u64,
    /// The last recall that has brought nothing yet, when it was sent, and what had come back until then.
    recalled: Option<(u64, Recall, u64)>,
}

/// What a shard has and does not use.
struct Idle {
    rate: bool,
    slots: bool,
    units: bool,
}

impl Idle {
    fn of(lent: &Lent, node_cell: &NodeCell, cell: &PeriodCell) -> Self {
        Self {
            rate: node_cell.rate_unspent(lent.rate) > 0,
            slots: node_cell.slots(lent.slots).unspent() > 0,
            units: cell.loan(lent.units).unspent() > 0,
        }
    }

    fn any_of(&self, recall: &Recall) -> bool {
        (recall.rate && self.rate) || (recall.slots && self.slots) || (recall.units && self.units)
    }
}

/// All that a shard has ever given back; only whether it moves matters.
fn given_back(node_cell: &NodeCell, cell: &PeriodCell) -> u64 {
    let node = node_cell.rate_returned().wrapping_add(node_cell.slots(0).returned);
    node.wrapping_add(cell.returned())
}

#[derive(Debug)]
struct Waiting {
    from: ShardId,
    ask: Ask,
    need: Option<Need>,
    slot: bool,
}

/// Whether the head of the queue has its answer.
enum Step {
    Done(Option<Verdict>),
    Wait,
}

/// One owned entitlement.
#[derive(Debug)]
pub(super) struct Owned {
    id: EntitlementId,
    terms: Terms,
    lease: Lease,
    next: Option<Lease>,
    older: Vec<Lease>,
    node: Arc<NodeUse>,
    bucket: Bucket,
    /// Rate units outstanding when the bucket was last looked at.
    outstanding: u64,
    lent: Box<[Lent]>,
    queue: VecDeque<Waiting>,
    /// The ledger wants its units back: what shards return goes on to it.
    yielding: bool,
    pub(super) asked_us: u64,
    pub(super) due_us: Option<u64>,
}

impl Owned {
    /// `last` is the period in which the entitlement was counted before, if it was, and its use.
    pub(super) fn new(
        now: Now,
        id: EntitlementId,
        terms: &Terms,
        last: Option<Past>,
        shards: u16,
    ) -> Self {
        let first = || Period::first(&terms.calendar, now.unix_s);
        let period = last.map(|last| last.period).map_or_else(first, |last| {
            let period = last.at(&terms.calendar, now.unix_s);
            // The calendar may be another than it was then.
            if period == last { last.moved_to(&terms.calendar, now.unix_s) } else { period }
        });
        let lease = Lease::new(period, shards, now);
        lease.used.set_elsewhere(
            last.filter(|last| last.period.id == period.id).map_or(0, |last| last.used),
        );
        let bucket = terms.rate.map(|rate| Bucket::full(&rate, now.mono_us)).unwrap_or_default();
        let owned = Self {
            id,
            terms: *terms,
            lease,
            next: None,
            older: Vec::new(),
            node: Arc::new(NodeUse::new(shards)),
            bucket,
            outstanding: 0,
            lent: vec![Lent::default(); usize::from(shards)].into(),
            queue: VecDeque::new(),
            yielding: false,
            asked_us: now.mono_us,
            due_us: None,
        };
        owned.publish();
        owned
    }

    /// The period that is counted, and the use of it that is not this owner's.
    pub(super) fn past(&self) -> Past {
        Past { period: self.lease.period, used: self.lease.used.elsewhere() }
    }

    /// A shard's question. Answered by `serve`.
    pub(super) fn take_ask(&mut self, now: Now, from: ShardId, ask: Ask, mail: &mut Mail) {
        self.asked_us = now.mono_us;
        self.begin_period(now, mail);
        self.learn(now, &ask.terms, mail);
        self.queue.push_back(Waiting { from, ask, need: ask.need, slot: false });
    }

    /// A shard has given units back, or a past period's use has changed. A recall that brought nothing is not sent
    /// again at once: two sides that disagree must not talk without end.
    pub(super) fn take_returned(&mut self, from: ShardId) {
        let (node_cell, cell) = (self.node.cell(from), self.lease.used.cell(from));
        let Some(lent) = self.lent.get_mut(usize::from(from.0)) else { return };
        let idle = Idle::of(lent, node_cell, cell);
        let is_done = |(_, recall, before): (u64, Recall, u64)| {
            !idle.any_of(&recall) || before != given_back(node_cell, cell)
        };
        if lent.recalled.is_some_and(is_done) {
            lent.recalled = None;
        }
    }

    /// The ledger's reply, for this period or the next.
    pub(super) fn take_reply(&mut self, now: Now, reply: &LeaseReply, mail: &mut Mail) {
        let leases = [Some(&mut self.lease), self.next.as_mut()];
        for lease in leases.into_iter().flatten() {
            if lease.period.id == reply.period {
                lease.take(reply);
            }
        }
        if reply.recall && reply.period == self.lease.period.id {
            self.yielding = true;
            self.recall_all(now, mail);
        }
    }

    /// Answers the queue as far as units go.
    pub(super) fn serve(&mut self, now: Now, mail: &mut Mail) {
        self.begin_period(now, mail);
        self.settle_rate(now);
        while let Some(mut head) = self.queue.pop_front() {
            match self.decide(now, &mut head, mail) {
                Step::Done(verdict) => self.answer(now, &head, verdict, mail),
                Step::Wait => {
                    self.queue.push_front(head);
                    break;
                }
            }
        }
        self.publish();
        if self.yielding && self.queue.is_empty() {
            self.give_back_lease(mail);
            self.yielding = self.units().1 > 0;
        } else {
            self.ask_ahead(now, mail);
        }
    }

    /// Whether a question waits.
    /// All its leases, for their last words.
    pub(super) fn into_last_words(self) -> impl Iterator<Item = LastWord> {
        let Self { id, terms, lease, next, older, .. } = self;
        let leases = older.into_iter().chain([lease]).chain(next);
        leases.map(move |lease| LastWord::new(id, terms, lease))
    }

    pub(super) fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    fn decide(&mut self, now: Now, head: &mut Waiting, mail: &mut Mail) -> Step {
        let Some(need) = &mut head.need else {
            // Figures of a limited plan need what other nodes have used.
            if self.lease.known || self.terms.limit.is_none() {
                return Step::Done(None);
            }
            self.ask_lease(now, 0, mail);
            return Step::Wait;
        };
        if let Some(rate) = self.terms.rate
            && need.rate
        {
            if self.bucket.level(&rate, now.mono_us) > 0 {
                self.bucket.take(&rate, now.mono_us, 1);
            } else if self.outstanding > 0 {
                return self.recall(now, |recall| recall.rate = true, mail);
            } else {
                let wait_us = self.bucket.next_in_us(&rate, now.mono_us);
                return refuse(Refused::Rate, wait_us.div_ceil(1_000_000));
            }
        }
        need.rate = false;
        if let Some(slots_max) = self.terms.concurrency
            && need.slot
        {
            let (held, idle) = self.slots();
            if held < u64::from(slots_max) {
                if let Some(lent) = self.lent.get_mut(usize::from(head.from.0)) {
                    let slots = self.node.cell(head.from).slots(lent.slots);
                    lent.slots = slots.granted_after(1);
                }
                head.slot = true;
            } else if idle > 0 {
                return self.recall(now, |recall| recall.slots = true, mail);
            } else {
                return refuse(Refused::Concurrency, 1);
            }
        }
        need.slot = false;
        let cost = need.cost;
        self.decide_quota(now, head, cost, mail)
    }

    fn decide_quota(&mut self, now: Now, head: &Waiting, cost: u64, mail: &mut Mail) -> Step {
        let slot = head.slot;
        if cost == 0 || self.terms.ceiling().is_none() {
            return Step::Done(Some(Verdict::Admit { slot }));
        }
        let (committed, unspent) = self.units();
        if self.free(committed) >= cost {
            self.lend(head.from, cost);
            return Step::Done(Some(Verdict::Admit { slot }));
        }
        let used = self.lease.used.used();
        if self.terms.refuses(used, cost) {
            return refuse(Refused::Quota, self.lease.period.left_s(now.unix_s));
        }
        if unspent > 0 {
            return self.recall(now, |recall| recall.units = true, mail);
        }
        let leased = self.lease.held().saturating_sub(committed);
        let waiting = self.queue.iter().map(|other| other.ask.waiting);
        let need = waiting.fold(head.ask.waiting.max(cost), u64::saturating_add);
        self.ask_lease(now, need.saturating_sub(leased).max(1), mail);
        Step::Wait
    }

    fn answer(&mut self, now: Now, head: &Waiting, verdict: Option<Verdict>, mail: &mut Mail) {
        let refused = verdict.and_then(Verdict::refused_by);
        let share = 2 * self.lent.len() as u64;
        if refused.is_none() {
            let (committed, _) = self.units();
            let cost = head.ask.need.map_or(0, |need| need.cost);
            let queued = head.ask.waiting.saturating_sub(cost);
            let units = loan_size(self.free(committed), queued, head.ask.want, share);
            if self.terms.ceiling().is_some() && units > 0 {
                self.lend(head.from, units);
            }
        }
        // Also with a refusal by a later row: the next requests then need not ask to be refused.
        if refused != Some(Refused::Rate) {
            let level = self.terms.rate.map_or(0, |rate| self.bucket.level(&rate, now.mono_us));
            let units = loan_size(level, 0, head.ask.want, share);
            if units >= RATE_LOAN_MIN {
                self.lend_rate(now, head.from, units);
            }
        }
        let lent = self.lent.get(usize::from(head.from.0)).copied().unwrap_or_default();
        let answer = Answer {
            id: self.id,
            seq: head.ask.seq,
            verdict,
            terms: self.terms,
            period: self.lease.period,
            used: self.lease.used.clone(),
            node: self.node.clone(),
            units_granted: lent.units,
            rate_granted: lent.rate,
            rate_until_us: now.mono_us.saturating_add(RATE_LOAN_US),
            slots_granted: lent.slots,
        };
        mail.send(head.from, Message::Answer(Box::new(answer)));
    }

    fn lend(&mut self, to: ShardId, units: u64) {
        let cell = self.lease.used.cell(to);
        if let Some(lent) = self.lent.get_mut(usize::from(to.0)) {
            lent.units = cell.loan(lent.units).granted_after(units);
        }
    }

    /// Said in the cells before the bucket's lower level is: units may be seen twice for a moment, never missed.
    fn lend_rate(&mut self, now: Now, to: ShardId, units: u64) {
        let Some(rate) = self.terms.rate.filter(|_| units > 0) else { return };
        let Some(lent) = self.lent.get_mut(usize::from(to.0)) else { return };
        lent.rate += units;
        self.node.cell(to).set_rate_lent(lent.rate - lent.rate_back);
        self.bucket.take(&rate, now.mono_us, units);
        self.outstanding += units;
        self.publish();
    }

    /// Puts rate units back that shards have returned, and lets in only what fits beside those still out.
    fn settle_rate(&mut self, now: Now) {
        let Some(rate) = self.terms.rate else { return };
        self.bucket.cap(&rate, now.mono_us, self.outstanding);
        let mut outstanding = 0;
        for (index, lent) in (0..).zip(&mut self.lent) {
            let cell = self.node.cell(ShardId(index));
            let returned = cell.rate_returned();
            let back = returned.saturating_sub(lent.rate_back);
            outstanding += cell.rate_unspent(lent.rate);
            if back > 0 {
                self.bucket.put_back(&rate, back);
                lent.rate_back = returned;
            }
        }
        self.outstanding = outstanding;
        self.publish();
        for (index, lent) in (0..).zip(&self.lent) {
            self.node.cell(ShardId(index)).set_rate_lent(lent.rate.saturating_sub(lent.rate_back));
        }
    }

    fn publish(&self) {
        self.node.publish(&Level { bucket: self.bucket, terms: self.terms.rate });
    }

    /// Units the shards hold or have used, and those of them that are not used.
    fn units(&self) -> (u64, u64) {
        (0..).zip(&self.lent).fold((0_u64, 0_u64), |(committed, unspent), (index, lent)| {
            let loan = self.lease.used.cell(ShardId(index)).loan(lent.units);
            (committed.saturating_add(loan.committed()), unspent.saturating_add(loan.unspent()))
        })
    }

    /// Slots the shards hold, and those of them that are idle.
    fn slots(&self) -> (u64, u64) {
        (0..).zip(&self.lent).fold((0, 0), |(held, idle), (index, lent)| {
            let slots = self.node.cell(ShardId(index)).slots(lent.slots);
            (held + slots.committed(), idle + slots.unspent())
        })
    }

    /// Units that may be lent: leased ones, and of these only what the present terms allow.
    fn free(&self, committed: u64) -> u64 {
        let gone = committed.saturating_add(self.lease.used.elsewhere());
        let within = self.terms.ceiling().map_or(u64::MAX, |ceiling| ceiling.saturating_sub(gone));
        within.min(self.lease.held().saturating_sub(committed))
    }

    /// Calls in what is lent and idle, of every shard that has any and was not just asked.
    fn recall(&mut self, now: Now, what: impl Fn(&mut Recall), mail: &mut Mail) -> Step {
        let mut recall = Recall { id: self.id, rate: false, slots: false, units: false };
        what(&mut recall);
        for (index, lent) in (0..).zip(&mut self.lent) {
            let shard = ShardId(index);
            let (node_cell, cell) = (self.node.cell(shard), self.lease.used.cell(shard));
            let idle = Idle::of(lent, node_cell, cell);
            let asked = lent.recalled.is_some_and(|(at_us, last, _)| {
                now.mono_us < at_us + RECALL_AGAIN_US && last.covers(&recall)
            });
            if idle.any_of(&recall) && !asked {
                lent.recalled = Some((now.mono_us, recall, given_back(node_cell, cell)));
                mail.send(shard, Message::Recall(recall));
            }
        }
        Step::Wait
    }

    fn recall_all(&mut self, now: Now, mail: &mut Mail) {
        for (index, lent) in (0..).zip(&mut self.lent) {
            let recall = Recall { id: self.id, rate: true, slots: true, units: true };
            let shard = ShardId(index);
            let before = given_back(self.node.cell(shard), self.lease.used.cell(shard));
            lent.recalled = Some((now.mono_us, recall, before));
            mail.send(ShardId(index), Message::Recall(recall));
        }
    }

    fn ask_lease(&mut self, now: Now, need: u64, mail: &mut Mail) {
        if let Some(request) = self.lease.ask(now, self.id, &self.terms, need) {
            mail.send_to_ledger(Message::LeaseRequest(request));
        }
    }

    /// Leases more before it is needed, and the next period's units before it begins.
    fn ask_ahead(&mut self, now: Now, mail: &mut Mail) {
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
        let soon = self.lease.period.left_s(now.unix_s) <= AHEAD_S && self.lease.known;
        if soon && self.next.is_none() && self.lease.used.totals().charged > 0 {
            let period = self.lease.period.next(&self.terms.calendar);
            let mut next = Lease::new(period, self.shards(), now);
            if let Some(request) = next.ask(now, self.id, &self.terms, 0) {
                mail.send_to_ledger(Message::LeaseRequest(request));
            }
            self.next = Some(next);
        }
    }

    fn shards(&self) -> u16 {
        u16::try_from(self.lent.len()).unwrap_or(u16::MAX)
    }

    /// Gives the ledger all units that are not with shards.
    fn give_back_lease(&mut self, mail: &mut Mail) {
        let (committed, _) = self.units();
        let free = self.lease.held().saturating_sub(committed);
        if free > 0 {
            self.lease.give_back(free);
            mail.send_to_ledger(Message::LeaseRequest(self.lease.tell(self.id, &self.terms)));
        }
    }

    /// Begins a new period when the old one is over. Its loans are void; what was used of it stays reported.
    fn begin_period(&mut self, now: Now, mail: &mut Mail) {
        let period = self.lease.period.at(&self.terms.calendar, now.unix_s);
        if period.id == self.lease.period.id {
            return;
        }
        let ahead = self.next.take().filter(|next| next.period == period);
        let fresh = ahead.unwrap_or_else(|| Lease::new(period, self.shards(), now));
        let mut old = std::mem::replace(&mut self.lease, fresh);
        mail.send_to_ledger(Message::LeaseRequest(old.close(self.id, &self.terms)));
        self.older.push(old);
        if self.older.len() > OLDER_MAX {
            self.older.remove(0);
        }
        for lent in &mut self.lent {
            lent.units = 0;
        }
    }

    /// Takes newer terms. The period keeps its id and use, the bucket what is missing in it.
    fn learn(&mut self, now: Now, terms: &Terms, mail: &mut Mail) {
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
        if terms.rate != old.rate {
            self.reshape_rate(now, old.rate);
        }
        self.recall_all(now, mail);
    }

    fn reshape_rate(&mut self, now: Now, old: Option<RateTerms>) {
        self.bucket = match (old, self.terms.rate) {
            (Some(old), Some(new)) => {
                self.bucket.cap(&old, now.mono_us, self.outstanding);
                self.bucket.reshaped(&old, &new, now.mono_us)
            }
            (None, Some(new)) => Bucket::full(&new, now.mono_us),
            (_, None) => Bucket::default(),
        };
        self.publish();
    }

    /// Does what time brings: asks again, reports use, gives back an idle lease. False when the entry is not needed
    /// any more.
    pub(super) fn on_due(&mut self, now: Now, mail: &mut Mail) -> bool {
        self.serve(now, mail);
        let (id, terms) = (self.id, self.terms);
        for lease in self.older.iter_mut().chain([&mut self.lease]) {
            if let Some(report) = lease.report(now, id, &terms) {
                mail.send_to_ledger(Message::LeaseRequest(report));
            }
        }
        if self.lease.is_idle(now) && self.queue.is_empty() {
            self.give_back_lease(mail);
        }
        !self.is_done(now)
    }

    /// When to look again, without any message.
    pub(super) fn next_due_us(&self, now: Now) -> u64 {
        if !self.queue.is_empty() {
            return now.mono_us + RECALL_AGAIN_US;
        }
        // A busy entry reports each second; an idle one is only waiting for its period's end.
        let idle_us = now.mono_us.saturating_sub(self.asked_us);
        now.mono_us + REPORT_US.max(idle_us.min(IDLE_CHECK_US))
    }

    /// Nothing depends on the entry: never before its period is over, since use must outlive a subscription's
    /// removal and return.
    fn is_done(&self, now: Now) -> bool {
        let unused = self.lease.used.totals() == Totals::default() && self.lease.held() == 0;
        let rate_full = self.outstanding == 0
            && self
                .terms
                .rate
                .is_none_or(|rate| self.bucket.full_in_us(&rate, now.mono_us, 0) == 0);
        // A shard that still has the cells may yet charge in them: a correction of a free request.
        let unseen = Arc::strong_count(&self.lease.used) == 1 && Arc::strong_count(&self.node) == 1;
        unused
            && unseen
            && rate_full
            && self.queue.is_empty()
            && self.slots().0 == 0
            && now.mono_us.saturating_sub(self.asked_us) >= QUIET_US
    }
}

fn refuse(by: Refused, retry_after_s: u64) -> Step {
    Step::Done(Some(Verdict::Refuse { by, retry_after_s: retry_after_s.max(1) }))
}
