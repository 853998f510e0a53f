//! The side of a shard's budgets that owns: every entitlement this shard counts for the node.
//!
//! In: questions of shards, replies of the ledger, the time. Out: answers, recalls, lease requests.
//! Always holds: one shard of the node owns an entitlement, chosen by its id.

use std::sync::Arc;

use super::lease::REPORT_US;
use super::mail::{IdMap, Mail, Side, Timers};
use super::message::{Ask, LeaseReply, LeaseRequest, Totals};
use super::owned::{Owned, RECALL_AGAIN_US, Setting};
use super::{Carried, Config, EntitlementId, LastWord, Message, Now, Past, ShardId, Terms};

/// All owned entitlements of one shard.
#[derive(Debug, Default)]
pub(super) struct Owner {
    owned: IdMap<Box<Owned>>,
    /// The last period of entries that were forgotten: made anew, under whatever calendar and clock, they go on from
    /// there. Bounded by the entitlements used within a year.
    forgotten: IdMap<Past>,
    /// What was used before this start.
    carried: Arc<Carried>,
    sweep_at: usize,
    /// Other nodes lease from the same ledger.
    shared: bool,
    wait_us_max: u64,
    /// The last stamp of any entry that was forgotten: one made anew must not say anything with an earlier one.
    stamp_us: u64,
}

/// No calendar has longer periods, so nothing that ended longer ago can be begun again.
const LONGEST_S: i64 = 2 * 366 * 86_400;
/// Below this many, forgotten periods are not looked through.
const SWEEP_MIN: usize = 1_024;

impl Owner {
    /// Goes on from what was used before.
    pub(super) fn carry(&mut self, carried: Arc<Carried>) {
        self.carried = carried;
    }

    /// With other nodes at the same ledger, or alone.
    pub(super) fn new(config: &Config) -> Self {
        Self { shared: config.shared, wait_us_max: config.wait_us_max, ..Self::default() }
    }

    /// A shard's question.
    pub(super) fn on_ask(
        &mut self,
        now: Now,
        from: ShardId,
        ask: Ask,
        mail: &mut Mail,
        timers: &mut Timers,
    ) {
        let (forgotten, carried, stamp_us) = (&mut self.forgotten, &self.carried, self.stamp_us);
        let setting = || Setting {
            shards: mail.shards,
            shared: self.shared,
            wait_us_max: self.wait_us_max,
            carried: Arc::clone(carried),
        };
        let fresh = || {
            let last = forgotten.remove(&ask.id).or_else(|| carried.get(ask.id));
            Box::new(
                Owned::new(now, ask.id, &ask.terms, last, setting()).after_stamp(now, stamp_us),
            )
        };
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
        } else if reply.recall {
            // Leased to an earlier start, or given back in a message that was lost: nothing of it is here.
            let request = LeaseRequest {
                id: reply.id,
                period: reply.period,
                terms: Terms::UNKNOWN,
                totals: Totals::default(),
                returned: 0,
                granted: 0,
                need: 0,
                demand: 0,
                closed: true,
                carried: self.carried.use_in(reply.id, reply.period.id),
                stamp_us: now.mono_us,
                share: None,
            };
            mail.send_to_ledger(Message::LeaseRequest(Box::new(request)));
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
            let last = owned.past();
            self.stamp_us = self.stamp_us.max(owned.last_stamp_us());
            self.owned.remove(&id);
            self.forget(now, id, last);
            return;
        }
        let at_us = owned.next_due_us(now);
        timers.set(&mut owned.due_us, at_us, id, Side::Owner);
    }

    fn forget(&mut self, now: Now, id: EntitlementId, last: Past) {
        self.forgotten.insert(id, last);
        if self.forgotten.len() > self.sweep_at.max(SWEEP_MIN) {
            self.forgotten
                .retain(|_, last| now.unix_s < last.period.end_s.saturating_add(LONGEST_S));
            self.sweep_at = 2 * self.forgotten.len();
        }
    }

    /// Gives up everything owned, for its last words.
    pub(super) fn last_words(&mut self) -> Vec<LastWord> {
        let owned = std::mem::take(&mut self.owned);
        owned.into_values().flat_map(|owned| owned.into_last_words()).collect()
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
