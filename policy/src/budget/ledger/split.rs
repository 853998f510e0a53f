//! Rate and slots of one entitlement, split between nodes.
//!
//! In: what each node has and wants. Out: a share for each.
//! Always holds: what nodes may be using of rate, burst and slots never adds up to more than the limit. A share that
//! becomes smaller counts at its old size until the node has said that it uses the new one, or it has run out; rate
//! units only move: out of a bucket that gets smaller into the pool, and from there into one that gets larger.

use super::super::message::{Cut, LeaseRequest, Share};
use super::super::{RateTerms, Unit};
use super::state::{Account, Authority, Borrower, LedgerNow, Member, NODES_MAX, Pool};
use super::take::Notes;

/// A share is valid for this long after the request that it answers.
pub const SHARE_VALID_MS: i64 = 10_000;
/// Clocks of two machines drift; the ledger lets a share run out later than its node does.
const DRIFT_MS: i64 = 1_000;
/// A node not heard of for this long has no share of the rate any more; it gives up the rest of its own a little
/// earlier.
pub const FORGET_MS: i64 = 3_600_000;

impl Account {
    /// Takes what a node says of its share, and shares anew.
    pub(super) fn split(
        &mut self,
        from: Borrower,
        request: &LeaseRequest,
        now: LedgerNow,
        notes: &mut Notes,
    ) {
        if now.authority == Authority::Node || (request.share.is_none() && self.members.is_empty())
        {
            return;
        }
        let whole = whole_rate(self.terms.rate.as_ref());
        self.pass_time(whole, now);
        let asks = self.hear(from, request, now);
        self.share_rate(whole, from.node, notes);
        self.share_slots(notes);
        if asks {
            notes.add(from.node, self.current.id, false);
        }
    }

    /// A node is gone for good: its slots are free, its rate is when it would have run out.
    pub(super) fn part_with(&mut self, node: u64, now: LedgerNow, notes: &mut Notes) {
        self.pass_time(whole_rate(self.terms.rate.as_ref()), now);
        let Some(member) = self.members.iter_mut().find(|member| member.node == node) else {
            return;
        };
        (member.slots, member.slots_out, member.slots_held, member.slots_want) = (0, 0, 0, 0);
        member.has_left = true;
        (member.floor, member.out_floor) = (Cut::default(), Cut::default());
        self.share_slots(notes);
    }

    /// Does what time brings, moment by moment: shares that run out shrink to their floor, a node not heard of for long
    /// has none any more, and what no node has flows into the pool, as much as was free until each of these moments.
    /// With all of the time at the rate that is free at its end, the pool would have what a node still had.
    fn pass_time(&mut self, whole: Option<(Cut, Unit)>, now: LedgerNow) {
        while let Some(at_ms) = self.next_end_ms(now) {
            self.fill_pool(whole, at_ms);
            self.end_shares(at_ms);
        }
        self.fill_pool(whole, now.unix_ms);
    }

    /// The earliest moment that has passed at which a share ended and has not been ended here.
    fn next_end_ms(&self, now: LedgerNow) -> Option<i64> {
        let ends = self.members.iter().filter_map(Member::next_end_ms);
        ends.filter(|at_ms| *at_ms < now.unix_ms).min()
    }

    fn end_shares(&mut self, at_ms: i64) {
        for member in &mut self.members {
            if !member.is_over && member.until_ms <= at_ms {
                member.is_over = true;
                member.rate = member.rate.min(member.floor);
                member.out = member.out.min(member.out_floor);
                member.serial += 1;
            }
        }
        self.members.retain(|member| member.forgotten_ms().is_none_or(|end_ms| end_ms > at_ms));
    }

    /// The part of the rate that no node has flows into the pool, up to the part of the burst that none has.
    fn fill_pool(&mut self, whole: Option<(Cut, Unit)>, at_ms: i64) {
        let Some((whole, unit)) = whole else {
            self.pool = Pool::default();
            return;
        };
        let free = self.free_rate(whole);
        let most = free.burst.saturating_mul(1_000);
        if self.pool.burst == 0 {
            // The first rate limit of this account begins full, as a bucket does.
            self.pool.level_milli = most;
        } else {
            let elapsed_ms = u64::try_from(at_ms.saturating_sub(self.pool.at_ms)).unwrap_or(0);
            let flow = u128::from(free.requests) * u128::from(elapsed_ms)
                / u128::from(unit.nominal_s().max(1));
            let flow = u64::try_from(flow).unwrap_or(u64::MAX);
            self.pool.level_milli = self.pool.level_milli.saturating_add(flow).min(most);
        }
        self.pool.at_ms = self.pool.at_ms.max(at_ms);
        self.pool.burst = whole.burst;
    }

    fn free_rate(&self, whole: Cut) -> Cut {
        let mut free = whole;
        for member in &self.members {
            free.requests = free.requests.saturating_sub(member.out.requests);
            free.burst = free.burst.saturating_sub(member.out.burst);
        }
        free
    }

    /// Takes a node's claim. True where it is to be answered.
    fn hear(&mut self, from: Borrower, request: &LeaseRequest, now: LedgerNow) -> bool {
        let Some(claim) = request.share else { return false };
        let position = self.members.iter().position(|member| member.node == from.node);
        let index = position.unwrap_or(self.members.len());
        if position.is_none() {
            if self.members.len() >= NODES_MAX {
                return false;
            }
            self.members.push(Member::new(from));
        }
        let Some(member) = self.members.get_mut(index) else { return false };
        if (from.start, claim.since_us) > (member.start, member.since_us) {
            // Its bucket and its slots are gone with the process, or were given back and forgotten.
            *member = Member { serial: member.serial + 1, ..Member::new(from) };
        }
        if request.stamp_us <= member.stamp_us {
            return false;
        }
        let given = claim.given.saturating_sub(member.given);
        // What was handed out with a share that is over and has not come to the node will not be taken any more.
        let is_void = member.is_over || claim.leaves;
        let lost = if is_void { member.tokens.saturating_sub(claim.taken) } else { 0 };
        *member = Member {
            shard: from.shard,
            stamp_us: request.stamp_us,
            seen_ms: member.seen_ms.max(now.unix_ms),
            until_ms: member.until_ms.max(now.unix_ms + SHARE_VALID_MS + DRIFT_MS),
            is_over: false,
            has_left: claim.leaves,
            since_us: claim.since_us,
            tokens: member.tokens - lost,
            given: member.given.max(claim.given),
            demand: claim.demand,
            slots_held: claim.slots_held,
            slots_want: claim.slots_want,
            ..*member
        };
        if claim.leaves {
            (member.rate, member.floor) = (Cut::default(), Cut::default());
            (member.out, member.out_floor) = (Cut::default(), Cut::default());
            (member.slots, member.slots_out) = (0, claim.slots_held);
            member.serial += 1;
        } else if claim.serial == member.serial {
            (member.out, member.out_floor) = (member.rate, member.floor);
            member.slots_out = member.slots.max(claim.slots_held);
        } else {
            member.slots_out = member.slots_out.max(claim.slots_held);
        }
        // What has come back goes where there is room for it.
        let back_milli = given.saturating_add(lost).saturating_mul(1_000);
        self.pool.level_milli = self.pool.level_milli.saturating_add(back_milli);
        true
    }

    /// Half of the rate evenly, half by recent demand.
    fn share_rate(&mut self, whole: Option<(Cut, Unit)>, asker: u64, notes: &mut Notes) {
        let whole = whole.map_or(Cut::default(), |(whole, _)| whole);
        let targets = self.rate_targets(whole);
        let nodes = self.members.iter().filter(|member| !member.has_left).count() as u64;
        let even =
            Cut { requests: whole.requests / nodes.max(1), burst: whole.burst / nodes.max(1) };
        let period = self.current.id;
        for (member, target) in self.members.iter_mut().zip(&targets) {
            let is_much = |have: u64, want: u64| have > want && (have - want) * 8 > have;
            let lower = is_much(member.rate.requests, target.requests)
                || is_much(member.rate.burst, target.burst)
                || nodes == 1 && member.rate.min(*target) != member.rate;
            if lower {
                member.rate = member.rate.min(*target);
                // Higher than before where there are fewer nodes now: what may be left of the share is the larger of both.
                member.floor = member.rate.min(even);
                member.out_floor = member.out_floor.max(member.floor);
                member.serial += 1;
                notes.add(member.node, period, false);
            }
        }
        for (index, target) in targets.iter().enumerate() {
            let free = self.free_rate(whole);
            let Some(member) = self.members.get_mut(index) else { break };
            // Up to what it may be using anyway, and what is free beside that.
            let most = Cut {
                requests: member.out.requests.saturating_add(free.requests),
                burst: member.out.burst.saturating_add(free.burst),
            };
            let rate = member.rate.max(target.min(most));
            if member.is_over || rate == member.rate {
                continue;
            }
            let is_much = (rate.requests - member.rate.requests) * 8 > rate.requests
                || (rate.burst - member.rate.burst) * 8 > rate.burst;
            if !is_much && member.node != asker {
                continue;
            }
            let room = rate.burst - member.rate.burst;
            let tokens = room.min(self.pool.level_milli / 1_000);
            self.pool.level_milli -= tokens * 1_000;
            member.tokens += tokens;
            member.rate = rate;
            member.floor = rate.min(even);
            member.out = member.out.max(rate);
            member.out_floor = member.out_floor.max(member.floor);
            member.serial += 1;
            notes.add(member.node, period, false);
        }
        let most = self.free_rate(whole).burst.saturating_mul(1_000);
        self.pool.level_milli = self.pool.level_milli.min(most);
    }

    fn rate_targets(&self, whole: Cut) -> Vec<Cut> {
        let active = || self.members.iter().filter(|member| !member.has_left);
        let nodes = active().count() as u64;
        let weight = |member: &Member| u128::from(member.demand) + 1;
        let weights: u128 = active().map(weight).sum();
        let part = |whole: u64, member: &Member| {
            let even = whole / 2 / nodes.max(1);
            let by_demand = u128::from(whole - even * nodes) * weight(member) / weights.max(1);
            even.saturating_add(u64::try_from(by_demand).unwrap_or(u64::MAX))
        };
        let mut targets: Vec<Cut> = self
            .members
            .iter()
            .map(|member| match member.has_left {
                true => Cut::default(),
                false => {
                    Cut { requests: part(whole.requests, member), burst: part(whole.burst, member) }
                }
            })
            .collect();
        // What rounding leaves over goes to the busiest: with a burst of one, only that node has it.
        let busiest = self.members.iter().enumerate().filter(|(_, member)| !member.has_left);
        if let Some((index, _)) = busiest.max_by_key(|(index, member)| (member.demand, *index)) {
            let sum = targets.iter().fold(Cut::default(), |sum, cut| Cut {
                requests: sum.requests + cut.requests,
                burst: sum.burst + cut.burst,
            });
            if let Some(target) = targets.get_mut(index) {
                target.requests += whole.requests.saturating_sub(sum.requests);
                target.burst += whole.burst.saturating_sub(sum.burst);
            }
        }
        targets
    }

    /// As many slots for each; where there are fewer than nodes, one for each that wants one, as long as there are any.
    fn share_slots(&mut self, notes: &mut Notes) {
        let Some(most) = self.terms.concurrency else { return };
        let targets = self.slot_targets(most);
        let period = self.current.id;
        for (member, target) in self.members.iter_mut().zip(&targets) {
            if member.slots > *target {
                member.slots = *target;
                member.serial += 1;
                notes.add(member.node, period, false);
            }
        }
        for (index, target) in targets.iter().enumerate() {
            let out: u32 = self.members.iter().map(|member| member.slots_out).sum();
            let free = most.saturating_sub(out);
            let Some(member) = self.members.get_mut(index) else { break };
            let slots = (*target).min(member.slots_out.saturating_add(free));
            if slots > member.slots {
                member.slots = slots;
                member.slots_out = member.slots_out.max(slots);
                member.serial += 1;
                notes.add(member.node, period, false);
            }
        }
    }

    fn slot_targets(&self, most: u32) -> Vec<u32> {
        let stays = |member: &Member| !member.has_left || member.slots_out > 0;
        let nodes = self.members.iter().filter(|member| stays(member)).count() as u32;
        if most >= nodes {
            let mut more = most % nodes.max(1);
            let target = |member: &Member| {
                if !stays(member) {
                    return 0;
                }
                let one = u32::from(more > 0);
                more -= one;
                most / nodes.max(1) + one
            };
            return self.members.iter().map(target).collect();
        }
        // Those that use one keep it; then those that want one, in the order in which they came.
        let mut targets = vec![0; self.members.len()];
        let mut left = most;
        let uses = |member: &Member| member.slots_held > 0;
        let wants = |member: &Member| member.slots_held == 0 && member.slots_want > 0;
        let passes: [&dyn Fn(&Member) -> bool; 2] = [&uses, &wants];
        for pass in passes {
            for (target, member) in targets.iter_mut().zip(&self.members) {
                if left > 0 && stays(member) && pass(member) {
                    *target = 1;
                    left -= 1;
                }
            }
        }
        targets
    }

    /// A member's share as it is told.
    pub(super) fn share_of(&self, member: &Member) -> Option<Share> {
        if member.has_left {
            return None;
        }
        let unit = whole_rate(self.terms.rate.as_ref()).map_or(Unit::Second, |(_, unit)| unit);
        let most = self.terms.concurrency.unwrap_or(0);
        let nodes = self.members.iter().filter(|member| !member.has_left).count();
        let is_scarce = usize::try_from(most).is_ok_and(|most| most < nodes);
        Some(Share {
            serial: member.serial,
            unit,
            rate: member.rate,
            floor: member.floor,
            tokens: member.tokens,
            slots: member.slots,
            slots_may_grow: is_scarce
                || member.slots < most / u32::try_from(nodes).unwrap_or(1).max(1),
            valid_us: u64::try_from(SHARE_VALID_MS).unwrap_or(0) * 1_000,
        })
    }
}

impl Member {
    fn new(from: Borrower) -> Self {
        Self {
            node: from.node,
            start: from.start,
            since_us: 0,
            shard: from.shard,
            serial: 0,
            rate: Cut::default(),
            floor: Cut::default(),
            out: Cut::default(),
            out_floor: Cut::default(),
            tokens: 0,
            given: 0,
            demand: 0,
            slots: 0,
            slots_out: 0,
            slots_held: 0,
            slots_want: 0,
            stamp_us: 0,
            until_ms: 0,
            seen_ms: 0,
            is_over: false,
            has_left: false,
        }
    }

    /// When its share ends, or what is left of it; `None` where it has none that could.
    fn next_end_ms(&self) -> Option<i64> {
        if self.is_over { self.forgotten_ms() } else { Some(self.until_ms) }
    }

    /// When nothing is left of its share; a node that holds slots stays.
    fn forgotten_ms(&self) -> Option<i64> {
        (self.slots_out == 0).then(|| self.seen_ms.saturating_add(FORGET_MS + DRIFT_MS))
    }
}

/// The whole rate, in a unit long enough to be split: one request a second is 86,400 a day.
fn whole_rate(rate: Option<&RateTerms>) -> Option<(Cut, Unit)> {
    let rate = rate?;
    let unit = match rate.unit {
        Unit::Second | Unit::Minute => Unit::Day,
        Unit::Hour | Unit::Day => Unit::Week,
        longer => longer,
    };
    let times = unit.nominal_s() / rate.unit.nominal_s();
    let requests = rate.requests.saturating_mul(times);
    Some((Cut { requests, burst: rate.burst }, unit))
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
