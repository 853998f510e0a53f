//! The decision on one request, as far as policy alone can make it: rows 2 to 10 of the decision table.
//!
//! In: a snapshot, the site that the address names, the request's facts, the time. Out: a [`Decision`].
//! The first row that applies is the verdict. Rows 11 to 15 (rate, concurrency, quota) are the budget's, which is asked
//! where the outcome is [`Outcome::Meter`].
//! Always holds: pure and free of allocation; nothing is forwarded unpaid that any spelling of the path makes paid, and
//! no token is looked up where the resource needs none.

use crate::budget::{Calendar, Unit};
use crate::decision::{Decision, Outcome, Reason};
use crate::facts::{Facts, Presented};
use crate::matcher::{Access, Match, RuleRef, Scratch};
use crate::model::Status;
use crate::snapshot::{PlanView, SiteView, Snapshot, SubscriptionView, TokenView};
use crate::token::{self, TokenHash};

const DAY_S: i64 = 86_400;

/// Decides on a request to `site`. `now_s` is Unix seconds.
#[must_use]
pub fn decide(
    snapshot: &Snapshot,
    site: &SiteView<'_>,
    facts: &Facts<'_>,
    now_s: i64,
    scratch: &mut Scratch,
) -> Decision {
    let mut decision = undecided(site);
    let Ok(matched) = site.matcher().resolve(facts.method, facts.path, scratch) else {
        decision.reason = Reason::RequestMalformed;
        return decision;
    };
    decision.resource = matched.logged.map(|rule| site.resource_of(rule));
    match matched.access {
        Access::Blocked => {
            decision.reason = Reason::ResourceBlocked;
            return decision;
        }
        Access::Free => return forward(decision, Reason::Unprotected),
        Access::Paid if facts.is_preflight() => return forward(decision, Reason::Preflight),
        Access::Paid => {}
    }
    match authorize(snapshot, site, facts, &matched, now_s, &mut decision) {
        Ok(reason) => Decision { outcome: Outcome::Meter, reason, cost: matched.cost, ..decision },
        Err(reason) => Decision { reason, ..decision },
    }
}

/// Decides on `GET /.payfence/usage`: rows 5 to 8 alone. Reason `ok` and outcome [`Outcome::Forward`] mean that the usage
/// may be told; it is never forwarded.
#[must_use]
pub fn decide_usage(
    snapshot: &Snapshot,
    site: &SiteView<'_>,
    facts: &Facts<'_>,
    now_s: i64,
) -> Decision {
    let mut decision = undecided(site);
    match authenticate(snapshot, site, facts, now_s, &mut decision) {
        Ok(_) => forward(decision, Reason::Ok),
        Err(reason) => Decision { reason, ..decision },
    }
}

/// A refusal that knows nothing yet.
fn undecided(site: &SiteView<'_>) -> Decision {
    Decision {
        site: site.index(),
        outcome: Outcome::Refuse,
        reason: Reason::TokenUnknown,
        resource: None,
        token: None,
        subscription: None,
        plan: None,
        cost: 0,
        foreign_looked_up: false,
    }
}

fn forward(decision: Decision, reason: Reason) -> Decision {
    Decision { outcome: Outcome::Forward, reason, ..decision }
}

/// Whoever holds a token.
struct Holder<'a> {
    token: TokenView<'a>,
    subscription: SubscriptionView<'a>,
    plan: PlanView<'a>,
}

/// Rows 5 to 8. Notes in `decision` what becomes known.
fn authenticate<'a>(
    snapshot: &'a Snapshot,
    site: &SiteView<'_>,
    facts: &Facts<'_>,
    now_s: i64,
    decision: &mut Decision,
) -> Result<Holder<'a>, Reason> {
    let presented = match &facts.token {
        Presented::Nothing => return Err(Reason::TokenMissing),
        Presented::Unusable => return Err(Reason::TokenUnknown),
        Presented::Token(value) => value.as_bytes(),
    };
    if token::check(presented).is_err() {
        if !site.foreign_tokens() || !token::is_foreign_form(presented) {
            return Err(Reason::TokenUnknown);
        }
        decision.foreign_looked_up = true;
    }
    let hash = TokenHash::of(presented);
    let holder = find_holder(snapshot, &hash, now_s).ok_or(Reason::TokenUnknown)?;
    if holder.subscription.site() != site.index() {
        return Err(Reason::TokenUnknown);
    }
    decision.token = Some(holder.token.index());
    decision.subscription = Some(holder.subscription.index());
    decision.plan = Some(holder.plan.index());
    if holder.token.is_revoked() {
        return Err(Reason::TokenRevoked);
    }
    if now_s >= holder.token.expires_at_s() {
        return Err(Reason::TokenExpired);
    }
    if !holder.token.allows(facts.client) {
        return Err(Reason::AddressForbidden);
    }
    Ok(holder)
}

fn find_holder<'a>(snapshot: &'a Snapshot, hash: &TokenHash, now_s: i64) -> Option<Holder<'a>> {
    let (token, subscription) = snapshot.find_token(hash)?;
    let subscription = snapshot.subscription(subscription)?;
    Some(Holder {
        token: snapshot.token(token)?,
        plan: snapshot.plan_of(&subscription, now_s)?,
        subscription,
    })
}

/// Rows 5 to 10: `ok` or `grace`, or the reason to refuse.
fn authorize(
    snapshot: &Snapshot,
    site: &SiteView<'_>,
    facts: &Facts<'_>,
    matched: &Match<'_>,
    now_s: i64,
    decision: &mut Decision,
) -> Result<Reason, Reason> {
    let holder = authenticate(snapshot, site, facts, now_s, decision)?;
    let reason =
        standing(&holder.subscription, &holder.plan, now_s).ok_or(Reason::SubscriptionInactive)?;
    let includes_all = matched.paid.iter().all(|rule| {
        let resource = site.resource_of(*rule);
        holder.plan.includes(resource)
            && holder.token.includes(resource, matches!(rule, RuleRef::Default))
    });
    if includes_all { Ok(reason) } else { Err(Reason::PlanExcludesResource) }
}

/// Row 9: `ok` or `grace` of a subscription that is served; `None` of one that is not.
fn standing(
    subscription: &SubscriptionView<'_>,
    plan: &PlanView<'_>,
    now_s: i64,
) -> Option<Reason> {
    match subscription.status() {
        Status::Active | Status::Trialing => Some(Reason::Ok),
        Status::PastDue => {
            let since_s = subscription
                .past_due_since_s()
                .unwrap_or_else(|| calendar_of(subscription, plan).span(now_s).0);
            let grace_s = i64::from(plan.grace_days()) * DAY_S;
            (now_s < since_s.saturating_add(grace_s)).then_some(Reason::Grace)
        }
        Status::Incomplete
        | Status::IncompleteExpired
        | Status::Canceled
        | Status::Unpaid
        | Status::Paused => None,
    }
}

/// When a subscription's periods begin and end: as its plan's quota says, for an unlimited one by the calendar month.
pub(crate) fn calendar_of(subscription: &SubscriptionView<'_>, plan: &PlanView<'_>) -> Calendar {
    match plan.quota() {
        Some(quota) => Calendar { unit: quota.per, anchor_s: subscription.period_anchor_s() },
        None => Calendar { unit: Unit::Month, anchor_s: None },
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
