//! What lies under `/.payfence/` on every site: a token's usage.
//!
//! In: a request for a path of the gateway's own. Out: the figures as the shard's budget has them, a wait for them, or a refusal.
//! Always holds: nothing is charged, and nothing is forwarded.

use policy::budget::{Outcome as Resolved, Usage};
use policy::decide::decide_usage;
use policy::decision::{Decision, Outcome, Reason};
use policy::facts::{Facts, GatewayPath};
use policy::snapshot::SiteView;

use crate::message::{self, UsageReport};
use crate::shard::planned::{Answer, Plan};

use super::{Asked, undecided};

impl Asked<'_> {
    /// What lies under `/.payfence/`: the usage, and nothing else.
    pub(super) fn own_path(
        &self,
        site: &SiteView<'_>,
        facts: &Facts<'_>,
        own: GatewayPath,
        outcome: Option<Resolved>,
    ) -> Plan {
        let cells = self.policy.cells(site.index());
        if own != GatewayPath::Usage || self.request.method() != b"GET" {
            return self.refuse(facts, undecided(site, Reason::NotFound), None, None);
        }
        let snapshot = self.policy.snapshot();
        let decision = decide_usage(snapshot, site, facts, self.started.unix_s());
        if outcome.is_none() {
            cells.usage_answers.inc();
        }
        if decision.outcome == Outcome::Refuse {
            return self.answer(facts, decision, None, None).0;
        }
        let known = decision.subscription.and_then(|index| {
            Some((snapshot.subscription(index)?, self.shard.terms(snapshot, index)?))
        });
        let Some((subscription, terms)) = known else {
            return self.answer(facts, undecided(site, Reason::LedgerUnreachable), None, Some(1)).0;
        };
        let figures = match outcome {
            Some(Resolved::Usage(figures)) => figures,
            Some(Resolved::Decided(_)) => {
                let decision = Decision { reason: Reason::LedgerUnreachable, ..decision };
                return self.answer(facts, decision, None, Some(1)).0;
            }
            None => {
                let now = self.shard.budget_now();
                let usage =
                    self.shard.budgets.borrow_mut().usage(now, subscription.entitlement(), &terms);
                match usage {
                    Usage::Ready(figures) => figures,
                    Usage::Pending(id) => return self.wait(id),
                    Usage::Unknown => {
                        let decision = Decision { reason: Reason::LedgerUnreachable, ..decision };
                        return self.answer(facts, decision, None, Some(1)).0;
                    }
                }
            }
        };
        let (close, skip) = self.after_answer();
        let mut bytes = self.shard.take_spare();
        let asker = self.asker(Some(*site), facts.origin, close, true);
        let now_s = self.started.unix_s();
        let Some(plan) = snapshot.plan_of(&subscription, now_s) else {
            return self.answer(facts, undecided(site, Reason::LedgerUnreachable), None, Some(1)).0;
        };
        let report =
            UsageReport { site: site.slug(), subscription, plan, figures: &figures, now_s };
        message::usage(&mut bytes, &asker, &report);
        Plan::Answer(Answer { bytes, head_len: self.head_len, skip, close })
    }
}
