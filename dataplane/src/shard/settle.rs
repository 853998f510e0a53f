//! The end of an exchange: the charge settled, the decision counted.
//!
//! In: a ticket and how the exchange ended. Out: units given back or corrected, counters. Always holds: each ticket is settled
//! once; a decision is counted once, with its final reason, before its answer's first byte is sent.

use policy::budget::{Decided, Figures, Outcome, Settle, Ticket};
use policy::decision::Reason;

use crate::message::Cost;

use super::Shard;
use super::planned::Exchange;
use super::upstream::Upstream;

impl Shard {
    /// Gives back what an admitted request was charged that will not be forwarded.
    pub(super) fn refund(&self, ticket: Ticket) {
        self.metrics.refunds.inc();
        self.settle(ticket, Settle::Refund);
    }

    pub(super) fn settle(&self, ticket: Ticket, how: Settle) {
        let _record = self.budgets.borrow_mut().settle(self.budget_now(), ticket, how);
    }

    /// Undoes an outcome that nobody waits for any more.
    pub(super) fn undo(&self, outcome: Outcome) {
        if let Outcome::Decided(Decided::Admitted(admitted)) = outcome {
            self.refund(admitted.ticket);
        }
    }
}

impl Exchange {
    /// Counts the decision, for the reason it has come to.
    pub(super) fn count(&mut self, reason: Reason) {
        debug_assert!(!self.is_counted, "a decision is counted once");
        self.is_counted = true;
        self.reason = reason;
        self.policy.cells(self.decision.site).decided(reason);
    }

    /// Takes back what was sent on `upstream`, to be sent again or its memory to be used again.
    pub(super) fn take_request_back(&mut self, shard: &Shard, upstream: &Upstream) {
        let Some(request) = upstream.stream.socket().take_memory() else { return };
        shard.give_spare(std::mem::replace(&mut self.request, request));
    }

    /// Gives the charge back: nothing was delivered.
    pub(super) fn refund(&mut self, shard: &Shard) {
        let Some(ticket) = self.ticket.take() else { return };
        let charge = ticket.charge();
        shard.refund(ticket);
        if let Some(figures) = &mut self.figures {
            recharge(figures, charge, 0);
        }
    }

    /// Corrects the charge as the origin's `PayFence-Cost` says.
    pub(super) fn correct(&mut self, shard: &Shard, cost: Cost) {
        match (cost, &mut self.ticket) {
            (Cost::None, _) => {}
            (Cost::Ignored, _) => shard.metrics.cost_ignored.inc(),
            (Cost::Units(_), None) => {}
            (Cost::Units(units), Some(ticket)) => {
                let before = ticket.charge();
                shard.budgets.borrow_mut().correct(ticket, units);
                shard.metrics.cost_corrections.inc();
                if let Some(figures) = &mut self.figures {
                    recharge(figures, before, units);
                }
            }
        }
    }

    /// Ends the exchange: what it holds goes back, what it took is measured.
    pub(super) fn end(&mut self, shard: &Shard) {
        let charge = self.ticket.as_ref().map_or(0, Ticket::charge);
        if let Some(ticket) = self.ticket.take() {
            shard.settle(ticket, Settle::Keep);
        }
        let metrics = &shard.metrics;
        let total_ns = shard.now().mono_ns.saturating_sub(self.started.mono_ns);
        shard.record_end(self, charge, total_ns);
        metrics.request_duration.observe_ns(total_ns);
        metrics.gateway_overhead.observe_ns(total_ns.saturating_sub(self.origin_ns));
        metrics.request_bytes.add(self.request_bytes);
        metrics.response_bytes.add(self.response_bytes);
    }
}

/// Figures after a charge of `before` units became one of `after`.
fn recharge(figures: &mut Figures, before: u64, after: u64) {
    figures.used = figures.used.saturating_sub(before).saturating_add(after);
    figures.remaining = figures.limit.map(|limit| limit.saturating_sub(figures.used));
}
