//! Subscriptions: what their endpoints share.
//!
//! In: rows and drafts. Out: drafts, checks.
//! Always holds: site, customer and reference stay, since use is counted under them; plan and site belong together.

pub mod archive;
pub mod bought;
pub mod cancel;
pub mod create;
pub mod get;
pub mod list;
pub mod move_plan;
pub mod portal;
pub mod preview;
pub mod resume;
pub mod update;
pub mod view;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fields::{check_reference, instant_ms};
use crate::api::problem::{Problem, is_taken};
use crate::api::time::shown_opt;
use crate::domain::policy_text::Fault;
use crate::notify::{Event, enqueue};
use crate::storage::{Change, Plan, StorageError, Subscription};

/// Where a subscription stands, in Stripe's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Stripe's words")]
pub enum SubscriptionStatus {
    Incomplete,
    IncompleteExpired,
    Trialing,
    #[default]
    Active,
    PastDue,
    Canceled,
    Unpaid,
    Paused,
}

impl SubscriptionStatus {
    /// Its word.
    #[must_use]
    pub fn word(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|word| word.as_str().map(ToOwned::to_owned))
            .unwrap_or_default()
    }

    /// From its word; one that is none is not served.
    #[must_use]
    pub fn of(word: &str) -> Self {
        serde_json::from_value(word.into()).unwrap_or(Self::Incomplete)
    }
}

/// What can be said of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionDraft {
    /// The site; stays.
    pub site_id: String,
    /// A plan of that site.
    pub plan_id: String,
    /// The customer; stays.
    pub customer_id: String,
    /// The name that nodes, the origin and the log know it by; its id where it is left out; unique within the site,
    /// archived ones included, since use is counted under it; stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200, pattern = "^[!-~]([ -~]*[!-~])?$", example = "sub_acme")]
    pub reference: Option<String>,
    /// `active` and `trialing` are served, `past_due` within the plan's grace.
    #[serde(default)]
    pub status: SubscriptionStatus,
    /// Since when it is past due; left out: the period's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub past_due_since: Option<String>,
    /// A time at which a period begins; left out: the calendar's, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub period_anchor: Option<String>,
}

/// What a row says.
#[must_use]
pub fn draft_of(row: &Subscription) -> SubscriptionDraft {
    SubscriptionDraft {
        site_id: row.site_id.clone(),
        plan_id: row.plan_id.clone(),
        customer_id: row.customer_id.clone(),
        reference: Some(row.reference.clone()),
        status: SubscriptionStatus::of(&row.status),
        past_due_since: shown_opt(row.past_due_since_ms),
        period_anchor: shown_opt(row.period_anchor_ms),
    }
}

/// Puts what may change into a row, checked.
pub fn fill(row: &mut Subscription, draft: &SubscriptionDraft) -> Result<(), Problem> {
    let mut faults = Vec::new();
    check_reference(draft.reference.as_deref(), &mut faults);
    row.past_due_since_ms =
        instant_ms("past_due_since", draft.past_due_since.as_deref(), &mut faults);
    row.period_anchor_ms = instant_ms("period_anchor", draft.period_anchor.as_deref(), &mut faults);
    row.status = draft.status.word();
    row.plan_id.clone_from(&draft.plan_id);
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}

/// A plan of this site that can be subscribed to, held so that it is not archived meanwhile.
pub async fn share_plan(change: &Change, site_id: &str, plan_id: &str) -> Result<Plan, Problem> {
    let plan = change.share::<Plan>(plan_id).await?.filter(|plan| plan.site_id == site_id);
    let plan = plan.ok_or_else(|| Problem::not_found("plan of this site"))?;
    if plan.archived_at_ms.is_some() {
        return Err(Problem::conflict("the plan is archived"));
    }
    Ok(plan)
}

/// A subscription that can be changed, locked.
pub async fn lock_live(change: &Change, id: &str) -> Result<Subscription, Problem> {
    let row = change.lock::<Subscription>(id).await?;
    let row = row.ok_or_else(|| Problem::not_found("subscription"))?;
    if row.archived_at_ms.is_some() {
        return Err(Problem::conflict("the subscription is archived"));
    }
    Ok(row)
}

/// Tells owners of a change of a subscription's row, where it concerns them.
pub async fn tell(
    change: &mut Change,
    before: Option<&Subscription>,
    after: &Subscription,
) -> Result<(), Problem> {
    if let Some(event) = Event::of_subscription(before, after) {
        enqueue(change, event).await?;
    }
    Ok(())
}

/// Says which field is taken.
pub fn explain_taken(error: StorageError) -> Problem {
    if is_taken(&error, "subscriptions_reference", "subscriptions.reference") {
        let message = "another subscription of this site has or had it";
        return Problem::taken(Fault::new("reference", message));
    }
    error.into()
}
