//! The owner's account of one entitlement: what is leased, what is lent to which shard, who waits for what.
//!
//! In: questions of shards, the ledger's replies, the time. Out: verdicts, recalls, lease requests.
//! Always holds: what is lent and used never exceeds the lease, nor the limit and its overage cap;
//! level + rate loans ≤ burst; slots held ≤ the concurrency limit, but for a limit that was lowered under them. The
//! first question that cannot be answered yet holds up the others, so that nobody starves.

mod books;
mod leasing;
mod periods;
mod rate;
mod share;

use std::collections::VecDeque;
use std::sync::Arc;

use super::account::loan_size;
use super::bucket::Bucket;
use super::cells::{NodeCell, NodeUse, PeriodCell};
use super::lease::{Cover, Lease, REPORT_US};
use super::mail::Mail;
use super::message::{Answer, Ask, LeaseReply, Need, Recall, Totals, Verdict};
use super::{
    Carried, EntitlementId, LastWord, Message, Now, Past, Period, RateTerms, Refused, ShardId,
    Terms,
};
use share::Shares;

/// A recall that has not shown in the cells is sent again after this long.
pub(super) const RECALL_AGAIN_US: u64 = 10_000;
/// Rate units are lent for this long.
const RATE_LOAN_US: u64 = 100_000;
/// Rate units are not lent in smaller numbers. While they are out the bucket has no room for them, whenever they
/// were used, so it may fill a little less than it should; a small bucket is exact because it lends none.
const RATE_LOAN_MIN: u64 = 16;
/// Earlier periods whose late refunds are still reported.
const OLDER_MAX: usize = 4;
/// A period's units are asked for this long before it begins, where the ledger is on this machine.
const AHEAD_S: u64 = 10;
/// And where it may be out of reach when the period begins.
const AHEAD_SHARED_S: u64 = 3_600;

/// An entry that nobody has asked for this long may be forgotten.
const QUIET_US: u64 = 60_000_000;
/// An idle entry is looked at this often at least.
const IDLE_CHECK_US: u64 = 600_000_000;
/// And one that refuses because of what was used elsewhere, which may have been given back, or whose use others wait to hear of.
const SHARED_CHECK_US: u64 = 5_000_000;

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
    since_us: u64,
}

/// Whether the head of the queue has its answer.
enum Step {
    Done(Option<Verdict>),
    Wait,
}

/// What an owner is part of.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) shards: u16,
    /// Other nodes lease from the same ledger.
    pub(super) shared: bool,
    /// How long requests wait at a shard, and so questions here.
    pub(super) wait_us_max: u64,
    pub(super) carried: Arc<Carried>,
}

/// One owned entitlement.
#[derive(Debug)]
pub(super) struct Owned {
    id: EntitlementId,
    setting: Setting,
    terms: Terms,
    /// The bucket's: those of the terms, or this node's share of them.
    rate: Option<RateTerms>,
    shares: Shares,
    /// Grows with each period begun.
    turn: u64,
    /// When the last one was: what the ledger said before that is no news.
    turned_us: u64,
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
    /// The ledger has asked and not been answered.
    owes_word: bool,
    last_stamp_us: u64,
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
        setting: Setting,
    ) -> Self {
        let first = || Period::first(&terms.calendar, now.unix_s);
        let period = last.map(|last| last.period).map_or_else(first, |last| {
            let period = last.at(&terms.calendar, now.unix_s);
            // The calendar may be another than it was then.
            if period == last { last.moved_to(&terms.calendar, now.unix_s) } else { period }
        });
        let shards = setting.shards;
        let lease = Lease::new(period, shards, now, setting.carried.use_in(id, period.id));
        lease.used.set_elsewhere(
            last.filter(|last| last.period.id == period.id).map_or(0, |last| last.used),
        );
        // A share comes with what is in its bucket.
        let rate = terms.rate.filter(|_| !setting.shared);
        let bucket = rate.map(|rate| Bucket::full(&rate, now.mono_us)).unwrap_or_default();
        let owned = Self {
            id,
            setting,
            terms: *terms,
            rate,
            shares: Shares::default(),
            turn: 0,
            turned_us: 0,
            lease,
            next: None,
            older: Vec::new(),
            node: Arc::new(NodeUse::new(shards)),
            bucket,
            outstanding: 0,
            lent: vec![Lent::default(); usize::from(shards)].into(),
            queue: VecDeque::new(),
            yielding: false,
            owes_word: false,
            last_stamp_us: 0,
            asked_us: now.mono_us,
            due_us: None,
        };
        owned.publish();
        owned
    }

    /// Says nothing with a stamp as early as this, and knows of nothing that was said until then.
    pub(super) fn after_stamp(self, now: Now, stamp_us: u64) -> Self {
        let first_us = now.mono_us.max(stamp_us.saturating_add(1));
        let shares = Shares::counted_from(first_us);
        Self { last_stamp_us: first_us.saturating_sub(1), shares, ..self }
    }

    /// The stamp of what was said last.
    pub(super) fn last_stamp_us(&self) -> u64 {
        self.last_stamp_us
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
        self.queue.push_back(Waiting {
            from,
            ask,
            need: ask.need,
            slot: false,
            since_us: now.mono_us,
        });
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
        if self.setting.shared {
            self.agree(now, reply, mail);
            self.take_share(now, reply, mail);
        }
        let leases = [Some(&mut self.lease), self.next.as_mut()];
        for lease in leases.into_iter().flatten() {
            if lease.period.id == reply.period.id {
                lease.take(reply);
            }
        }
        if reply.recall && reply.period.id == self.lease.period.id {
            (self.yielding, self.owes_word) = (true, true);
            self.recall_all(now, mail);
        } else if reply.recall {
            self.yield_other(now, reply, mail);
        }
    }

    /// Answers the queue as far as units go.
    pub(super) fn serve(&mut self, now: Now, mail: &mut Mail) {
        self.begin_period(now, mail);
        self.settle_rate(now);
        self.tell_cells(now, mail);
        while let Some(mut head) = self.queue.pop_front() {
            let waited_us = now.mono_us.saturating_sub(head.since_us);
            if self.setting.shared && waited_us >= self.setting.wait_us_max {
                // Whoever asked has given up; what the shard wants now it asks anew, under the terms of now.
                self.answer(now, &head, Some(Verdict::Unknown), mail);
                continue;
            }
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
            self.give_back_lease(now, mail);
            self.yielding = self.units().1 > 0;
        } else {
            self.ask_ahead(now, mail);
        }
        if std::mem::take(&mut self.owes_word) {
            self.tell(now, mail);
        }
        if self.setting.shared {
            self.tell_share(now, mail);
        }
    }

    /// Those who ask for nothing but the cells do not wait behind others, who may wait for what these then give back.
    fn tell_cells(&mut self, now: Now, mail: &mut Mail) {
        if !(self.lease.known || self.terms.limit.is_none()) {
            return;
        }
        while let Some(index) = self.queue.iter().position(|waiting| waiting.need.is_none()) {
            let Some(asks) = self.queue.remove(index) else { break };
            self.answer(now, &asks, None, mail);
        }
    }

    /// All its leases, for their last words, which give its share of rate and slots away.
    pub(super) fn into_last_words(self) -> impl Iterator<Item = LastWord> {
        let (id, terms, share) = (self.id, self.terms, self.last_claim());
        let Self { lease, next, older, last_stamp_us, .. } = self;
        let leases = older.into_iter().chain([lease]).chain(next);
        leases.zip(1_u64..).map(move |(lease, nth)| {
            let stamp_us = last_stamp_us.saturating_add(nth);
            LastWord::new(Cover { id, terms, stamp_us, share }, lease)
        })
    }

    /// Whether a question waits.
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
        if self.terms.rate.is_some() && need.rate {
            self.shares.count();
            let Some(rate) = self.rate else {
                // No share of it yet.
                return self.ask_share(now, mail);
            };
            if self.bucket.level(&rate, now.mono_us) > 0 {
                self.bucket.take(&rate, now.mono_us, 1);
            } else if self.outstanding > 0 {
                return self.recall(now, |recall| recall.rate = true, mail);
            } else {
                return refuse(Refused::Rate, self.rate_wait_s(&rate, now));
            }
        }
        need.rate = false;
        if let Some(slots_max) = self.slots_max()
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
            } else if self.slots_may_come(now, head.since_us) {
                return self.ask_slot(now, mail);
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
        let is_told = verdict != Some(Verdict::Unknown);
        if refused.is_none() && is_told {
            let (committed, _) = self.units();
            let cost = head.ask.need.map_or(0, |need| need.cost);
            let queued = head.ask.waiting.saturating_sub(cost);
            let units = loan_size(self.free(committed), queued, head.ask.want, share);
            if self.terms.ceiling().is_some() && units > 0 {
                self.lend(head.from, units);
            }
        }
        // Also with a refusal by a later row: the next requests then need not ask to be refused.
        if refused != Some(Refused::Rate) && is_told {
            let level = self.rate.map_or(0, |rate| self.bucket.level(&rate, now.mono_us));
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
            turn: self.turn,
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
            let (node_cell, cell) = (self.node.cell(shard), self.lease.used.cell(shard));
            if Idle::of(lent, node_cell, cell).any_of(&recall) {
                lent.recalled = Some((now.mono_us, recall, given_back(node_cell, cell)));
                mail.send(shard, Message::Recall(recall));
            }
        }
    }

    /// Does what time brings: asks again, reports use, gives back an idle lease. False when the entry is not needed
    /// any more.
    pub(super) fn on_due(&mut self, now: Now, mail: &mut Mail) -> bool {
        self.serve(now, mail);
        for index in 0..=self.older.len() {
            let cover = self.cover(now);
            let lease = self.older.get_mut(index).unwrap_or(&mut self.lease);
            if let Some(report) = lease.report(now, &cover) {
                self.send(report, mail);
            }
        }
        self.close_older(now, mail);
        if self.is_exhausted_elsewhere() {
            self.ask_lease(now, 0, mail);
        }
        if self.lease.is_idle(now) && self.queue.is_empty() {
            self.give_back_lease(now, mail);
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
        let longest_us = if self.has_share() || self.is_leaving() {
            REPORT_US
        } else if self.is_exhausted_elsewhere() || self.may_be_charged() {
            SHARED_CHECK_US
        } else {
            IDLE_CHECK_US
        };
        now.mono_us + REPORT_US.max(idle_us.min(longest_us))
    }

    /// A shard that has the cells may charge without a word, and other nodes want to know of it.
    fn may_be_charged(&self) -> bool {
        self.setting.shared && Arc::strong_count(&self.lease.used) > 1
    }

    /// Requests are refused here for what was used on other nodes.
    fn is_exhausted_elsewhere(&self) -> bool {
        let used = &self.lease.used;
        self.setting.shared && used.elsewhere() > 0 && self.terms.refuses(used.used(), 1)
    }

    /// Nothing depends on the entry: never before its period is over, since use must outlive a subscription's
    /// removal and return.
    fn is_done(&self, now: Now) -> bool {
        let unused = self.lease.used.totals() == Totals::default() && self.lease.held() == 0;
        let rate_full = self.outstanding == 0
            && self.rate.is_none_or(|rate| self.bucket.full_in_us(&rate, now.mono_us, 0) == 0);
        // A shard that still has the cells may yet charge in them: a correction of a free request.
        let unseen = Arc::strong_count(&self.lease.used) == 1 && Arc::strong_count(&self.node) == 1;
        unused
            && unseen
            && rate_full
            && !self.has_share()
            && self.queue.is_empty()
            && self.slots().0 == 0
            && now.mono_us.saturating_sub(self.asked_us) >= QUIET_US
    }
}

fn refuse(by: Refused, retry_after_s: u64) -> Step {
    Step::Done(Some(Verdict::Refuse { by, retry_after_s: retry_after_s.max(1) }))
}
