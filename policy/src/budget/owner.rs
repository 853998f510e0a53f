//! The side of a shard's budgets that owns: every entitlement this shard counts for the node.
//!
//! In: questions of shards, replies of the ledger, the time. Out: answers, recalls, lease requests.
//! Always holds: one shard of the node owns an entitlement, chosen by its id.

use super::lease::REPORT_US;
use super::mail::{IdMap, Mail, Side, Timers};
use super::message::{Ask, LeaseReply};
use super::owned::{Owned, RECALL_AGAIN_US};
use super::{EntitlementId, Now, ShardId};

/// All owned entitlements of one shard.
#[derive(Debug, Default)]
pub(super) struct Owner {
    owned: IdMap<Box<Owned>>,
    /// The latest wall clock at which an entry was forgotten. Should the clock go back, an entry made anew does not:
    /// its period id would.
    forgotten_s: i64,
}

impl Owner {
    /// A shard's question.
    pub(super) fn on_ask(
        &mut self,
        now: Now,
        from: ShardId,
        ask: Ask,
        mail: &mut Mail,
        timers: &mut Timers,
    ) {
        let shards = mail.shards;
        let first = Now { unix_s: now.unix_s.max(self.forgotten_s), ..now };
        let fresh = || Box::new(Owned::new(first, ask.id, &ask.terms, shards));
        let owned = self.owned.entry(ask.id).or_insert_with(fresh);
        owned.take_ask(now, from, ask, mail);
        serve(now, ask.id, owned, mail, timers);
    }

    /// A shard has given units back.
    pub(super) fn on_returned(
        &mut self,
        now: Now,
        from: ShardId,
        id: EntitlementId,
        mail: &mut Mail,
        timers: &mut Timers,
    ) {
        if let Some(owned) = self.owned.get_mut(&id) {
            owned.take_returned(from);
            serve(now, id, owned, mail, timers);
        }
    }

    /// The ledger's reply.
    pub(super) fn on_reply(
        &mut self,
        now: Now,
        reply: &LeaseReply,
        mail: &mut Mail,
        timers: &mut Timers,
    ) {
        if let Some(owned) = self.owned.get_mut(&reply.id) {
            owned.take_reply(now, reply, mail);
            serve(now, reply.id, owned, mail, timers);
        }
    }

    /// An entry is due.
    pub(super) fn on_due(
        &mut self,
        now: Now,
        id: EntitlementId,
        at_us: u64,
        mail: &mut Mail,
        timers: &mut Timers,
    ) {
        let Some(owned) = self.owned.get_mut(&id) else { return };
        if owned.due_us != Some(at_us) {
            return;
        }
        owned.due_us = None;
        if !owned.on_due(now, mail) {
            self.owned.remove(&id);
            self.forgotten_s = self.forgotten_s.max(now.unix_s);
            return;
        }
        let at_us = owned.next_due_us(now);
        timers.set(&mut owned.due_us, at_us, id, Side::Owner);
    }

    /// Entitlements owned.
    pub(super) fn len(&self) -> usize {
        self.owned.len()
    }

    /// The account of one entitlement, for the simulator's invariants.
    pub(super) fn get(&self, id: EntitlementId) -> Option<&Owned> {
        self.owned.get(&id).map(|owned| &**owned)
    }
}

fn serve(now: Now, id: EntitlementId, owned: &mut Owned, mail: &mut Mail, timers: &mut Timers) {
    owned.serve(now, mail);
    let wait_us = if owned.waits() { RECALL_AGAIN_US } else { REPORT_US };
    timers.set(&mut owned.due_us, now.mono_us + wait_us, id, Side::Owner);
}
