//! The end of a run: all is healed and reported, and what is left of every quota can be used, to the unit, anywhere.
//!
//! In: a world. Out: an error where a unit is lost or given twice. Always holds: what cannot be used is what the
//! ledger counts as used because a journal was lost or a node declared dead.

use std::cmp::Reverse;

use super::{Calendar, Event, Mishaps, Overage, QUIET, Terms, Unit, World};

/// Requests that may stay undecided at the end before it counts as a failure.
const UNKNOWN_MAX: u32 = 60;

impl World {
    pub(super) fn check(&mut self) -> Result<(), String> {
        for truth in &self.truths {
            if let Some(account) = self.accounts.get(&truth.id.0) {
                truth.check(account)?;
            }
        }
        Ok(())
    }

    /// Runs what is due for so long.
    fn pass(&mut self, us: u64) -> Result<(), String> {
        let until_us = self.mono_us + us;
        self.at(us, Event::Mishap);
        while self.mono_us < until_us {
            self.step()?;
        }
        Ok(())
    }

    /// What links had to wait with, or have no answer to, arrives now.
    fn hasten(&mut self) {
        for (from, message) in std::mem::take(&mut self.unheard) {
            self.at(1, Event::ToLedger { from, message });
        }
        let waits = |event: &&Event| matches!(event, Event::ToLedger { .. });
        let numbers =
            self.events.iter().filter(|(_, event)| waits(event)).map(|(number, _)| *number);
        let due: Vec<_> = (1..).zip(numbers).collect();
        self.due.extend(due.into_iter().map(|(nth, number)| Reverse((self.mono_us + nth, number))));
        self.links.clear();
    }

    pub(super) fn use_up(&mut self) -> Result<(), String> {
        let had = std::mem::replace(&mut self.mishaps, Mishaps { lossy: 0, ..QUIET });
        let mut gone = Vec::new();
        for at in 0..self.nodes.len() {
            if let Some(node) = self.nodes.get_mut(at) {
                node.cut_until_us = 0;
            }
            let is_down = self.nodes.get(at).is_some_and(|node| !node.is_up);
            // A node may be gone for good, if an operator says so.
            if is_down && (at == 0 || !had.deaths) {
                self.restart(at);
            } else if is_down {
                gone.push(at);
            }
        }
        self.hasten();
        self.pass(6_000_000)?;
        // What a node has said before it was declared dead takes that back when it comes late: all has come now.
        gone.into_iter().for_each(|at| self.declare_dead(at));
        self.pass(6_000_000)?;
        for index in 0..self.truths.len() {
            let Some(truth) = self.truths.get_mut(index) else { break };
            let plain = Terms {
                version: truth.newest().version + 1,
                limit: Some(self.random.below(120)),
                overage: Overage::Deny,
                calendar: Calendar { unit: Unit::Year, anchor_s: Some(self.offset_ms / 1_000) },
                rate: None,
                concurrency: None,
            };
            truth.change(self.mono_us, 0, plain);
            // Units that were given back late, and what others wait to hear of that, need their reports.
            for _ in 0..3 {
                self.use_all_of(index)?;
                self.pass(6_000_000)?;
            }
            self.hold_against(index, plain)?;
        }
        Ok(())
    }

    /// Requests until every node refuses.
    fn use_all_of(&mut self, index: usize) -> Result<(), String> {
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.nodes.get(*at).is_some_and(|node| node.is_up))
            .collect();
        let (mut refused, mut unknown) = (0, 0);
        while refused < 4 * up.len() {
            let node = self.random.pick(&up, 0);
            let (admitted, undecided) = (self.stats.admitted, self.stats.unknown);
            self.request(index, node, 1)?;
            self.carry()?;
            while !self.waiting.is_empty() {
                self.step()?;
            }
            if self.stats.unknown > undecided {
                unknown += 1;
                if unknown > UNKNOWN_MAX {
                    let account = self.truths.get(index);
                    let account = account.and_then(|truth| self.accounts.get(&truth.id.0));
                    return Err(format!("undecided with nothing amiss: {account:?}"));
                }
            }
            refused = if self.stats.admitted > admitted { 0 } else { refused + 1 };
            while self.open > 8 {
                self.step()?;
            }
        }
        Ok(())
    }

    /// All units of the last limit were had, but those that count as used for a loss.
    fn hold_against(&self, index: usize, plain: Terms) -> Result<(), String> {
        let limit = plain.limit.unwrap_or(0);
        let Some(truth) = self.truths.get(index) else { return Ok(()) };
        let Some(account) = self.accounts.get(&truth.id.0) else {
            return if limit == 0 { Ok(()) } else { Err("the ledger knows nothing".into()) };
        };
        let period = account.current.id;
        let Some(books) = account.period(period) else {
            return if limit == 0 {
                Ok(())
            } else {
                Err(format!("the period was never used: {account:?}"))
            };
        };
        let used = truth.used(period);
        let mut counted_over = 0;
        for lease in &books.leases {
            let really = truth.used_by(period, usize::try_from(lease.node).unwrap_or(0));
            counted_over += lease.used().saturating_sub(really);
        }
        let is_exact = !truth.has_losses && !truth.has_deaths;
        if is_exact && counted_over > truth.unplaced {
            let each: Vec<(u64, u64, u64)> = books
                .leases
                .iter()
                .map(|lease| {
                    let really = truth.used_by(period, usize::try_from(lease.node).unwrap_or(0));
                    (lease.node, lease.used(), really)
                })
                .collect();
            return Err(format!(
                "{counted_over} units more are counted than used: {each:?} {books:?}"
            ));
        }
        // Units of an unlimited plan are not leased, so the ledger may not have heard of the period in which they were used; a node
        // that has used more than the limit in it refuses without asking.
        let used = used.max(truth.used_lately(period));
        // What was forwarded unmetered may not have been reported yet.
        if used + counted_over.max(truth.unplaced) < limit {
            return Err(format!("only {used} of {limit} units could be used: {books:?}"));
        }
        Ok(())
    }
}
