//! Entitlements: what a subscription allows now, by its plan, its period and what was adjusted by hand.
//!
//! In: rows of a subscription and its plan. Out: views.
//! Always holds: the plan's terms are those of the running period; the period is reckoned by the calendar as nodes do, while the
//! ledger may still be in one that a change of plan moved.

pub mod get;

use policy::budget::{Account as LedgerAccount, Calendar, Period, Unit};
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Serialize;
use utoipa::ToSchema;

use super::adjustments::{AdjustmentView, view_of as adjustment_view};
use super::sites::damaged;
use super::subscriptions::SubscriptionStatus;
use crate::api::problem::Problem;
use crate::api::time::shown;
use crate::domain::plan_terms;
use crate::domain::site::{OverageRule, Per, PlanDraft, QuotaDraft, RateLimitDraft};
use crate::storage::{Adjustment, Plan, PlanRevision, Subscription, Tenant, column};

/// Changes of a plan at most that still matter to somebody.
const REVISIONS_MAX: u64 = 10_000;
/// The longest period, milliseconds: changes before it matter to nobody.
const PERIOD_MS_MAX: i64 = 366 * 86_400_000;

/// One quota period.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PeriodView {
    /// Its number, which only ever grows.
    id: i64,
    /// Its first second.
    start: String,
    /// The first second after it.
    end: String,
}

/// What a subscription allows now.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EntitlementView {
    /// The subscription, by whose id it is found.
    subscription_id: String,
    /// The name that nodes, the origin and the log know it by.
    reference: String,
    /// The site.
    site_id: String,
    /// The customer.
    customer_id: String,
    /// The plan.
    plan_id: String,
    /// The name of the plan.
    plan: String,
    /// Where the subscription stands.
    status: SubscriptionStatus,
    /// The running period; the calendar month's where the plan has no quota.
    period: PeriodView,
    /// What the plan gives in each period; null for no end.
    quota: Option<QuotaDraft>,
    /// What the adjustments that count now come to.
    adjusted_units: i64,
    /// Quota and adjustments together, at least 0; null for no end.
    limit: Option<i64>,
    /// Units used in the period, as nodes have reported it: at most a second old while they are connected.
    used: i64,
    /// Units that nodes hold and have not used.
    leased: i64,
    /// Units left of the limit; null for no end.
    remaining: Option<i64>,
    /// Null for none.
    rate_limit: Option<RateLimitDraft>,
    /// Requests at the same time; null for any number.
    concurrency: Option<u32>,
    /// What happens when the quota is used up.
    overage: OverageRule,
    /// Units past the limit at most; null for any number where `overage` is `allow`.
    overage_cap: Option<u64>,
    /// Those that count now, oldest first.
    adjustments: Vec<AdjustmentView>,
}

/// A subscription's plan in its running period.
#[derive(Clone, Debug)]
pub struct Known {
    /// The plan.
    pub plan: Plan,
    /// Its terms in this period.
    pub draft: PlanDraft,
    /// The period.
    pub period: Period,
}

/// What a subscription is on now.
pub async fn plan_and_period(
    tenant: &Tenant<'_>,
    subscription: &Subscription,
    now_ms: i64,
) -> Result<Known, Problem> {
    let plan = tenant.get::<Plan>(&subscription.plan_id).await?;
    let plan = plan.ok_or_else(|| damaged("a subscription without a plan"))?;
    let since_ms = plan.immediate_from_ms.max(now_ms.saturating_sub(PERIOD_MS_MAX));
    let revisions = tenant.all::<PlanRevision>(REVISIONS_MAX, |query| {
        query
            .filter(column::PlanRevision::PlanId.eq(plan.id.as_str()))
            .filter(column::PlanRevision::AppliesUntilMs.gt(since_ms))
    });
    let revisions = revisions.await?;
    let anchor_s = subscription.period_anchor_ms.map(|at_ms| at_ms.div_euclid(1_000));
    let now_s = now_ms.div_euclid(1_000);
    let read = |settings: &str| -> Result<(PlanDraft, Period), Problem> {
        let draft: PlanDraft = serde_json::from_str(settings).map_err(damaged)?;
        let unit = draft.quota.map_or(Unit::Month, |quota| unit(quota.per));
        Ok((draft, Period::first(&Calendar { unit, anchor_s }, now_s)))
    };
    // Terms that were superseded say by their own calendar whether their period still runs.
    for revision in plan_terms::earlier(&plan, &revisions) {
        let (draft, period) = read(&revision.settings)?;
        if revision.applies_until_ms > period.start_s.saturating_mul(1_000) {
            return Ok(Known { plan, draft, period });
        }
    }
    let (draft, period) = read(&plan.settings)?;
    Ok(Known { plan, draft, period })
}

fn unit(per: Per) -> Unit {
    match per {
        Per::Second => Unit::Second,
        Per::Minute => Unit::Minute,
        Per::Hour => Unit::Hour,
        Per::Day => Unit::Day,
        Per::Week => Unit::Week,
        Per::Month => Unit::Month,
        Per::Year => Unit::Year,
    }
}

/// What adjustments come to.
#[must_use]
pub fn total(adjustments: &[Adjustment]) -> i64 {
    adjustments.iter().fold(0, |sum, row| sum.saturating_add(row.units))
}

/// An entitlement as it is shown.
#[must_use]
pub fn view_of(
    subscription: &Subscription,
    known: &Known,
    adjustments: &[Adjustment],
    account: Option<&LedgerAccount>,
) -> EntitlementView {
    // Nodes number periods by when they began to count; the time says which one is meant.
    let books = account.and_then(|account| {
        account.books.iter().find(|books| books.period.start_s == known.period.start_s)
    });
    let signed = |units: u64| i64::try_from(units).unwrap_or(i64::MAX);
    let used = books.map_or(0, |books| signed(books.used()));
    let leased = books.map_or(0, |books| signed(books.committed().saturating_sub(books.used())));
    let adjusted_units = total(adjustments);
    let quota = known.draft.quota;
    let limit = quota.map(|quota| {
        let units = i64::try_from(quota.requests).unwrap_or(i64::MAX);
        units.saturating_add(adjusted_units).max(0)
    });
    EntitlementView {
        subscription_id: subscription.id.clone(),
        reference: subscription.reference.clone(),
        site_id: subscription.site_id.clone(),
        customer_id: subscription.customer_id.clone(),
        plan_id: known.plan.id.clone(),
        plan: known.plan.reference.clone(),
        status: SubscriptionStatus::of(&subscription.status),
        period: PeriodView {
            id: i64::try_from(known.period.id.0).unwrap_or(i64::MAX),
            start: shown(known.period.start_s.saturating_mul(1_000)),
            end: shown(known.period.end_s.saturating_mul(1_000)),
        },
        quota,
        adjusted_units,
        limit,
        used,
        leased,
        remaining: limit.map(|limit| limit.saturating_sub(used).max(0)),
        rate_limit: known.draft.rate_limit,
        concurrency: known.draft.concurrency,
        overage: known.draft.overage.unwrap_or(OverageRule::Deny),
        overage_cap: known.draft.cap_units(),
        adjustments: adjustments.iter().map(adjustment_view).collect(),
    }
}
