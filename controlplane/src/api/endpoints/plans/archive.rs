//! `DELETE /v1/sites/{site_id}/plans/{plan_id}`.
//!
//! In: an id. Out: the plan, archived.
//! Always holds: a plan with subscriptions that are not archived stays, and so does one that subscriptions wait to be moved to. What was paid
//! for it before and is written down later is served (`sync/model.rs`).

use axum::extract::State;
use sea_orm::{ColumnTrait as _, Condition, QueryFilter as _};

use super::{PlanView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::endpoints::sites::lock_live;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::payers::OVER;
use crate::domain::permission::Area;
use crate::storage::{Plan, StripeSubscription, Subscription, column};

/// Archive a plan
///
/// Nobody can buy it any more. Who has a checkout of it open can pay still, and who pays, or moves to it in that moment, is served on its terms.
#[utoipa::path(delete, path = "/sites/{site_id}/plans/{plan_id}", tag = "plans",
    params(("site_id" = String, Path, description = "The site"),
        ("plan_id" = String, Path, description = "The plan")),
    responses((status = 200, description = "The plan, archived", body = PlanView), Problems))]
pub async fn archive_plan(
    State(app): State<App>,
    caller: Caller,
    Named((site_id, plan_id)): Named<(String, String)>,
    if_match: IfMatch,
) -> Result<Shown<PlanView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Plans).await?;
    lock_live(&change, &site_id).await?;
    let before = change
        .lock::<Plan>(&plan_id)
        .await?
        .filter(|row| row.site_id == site_id && row.archived_at_ms.is_none());
    let before = before.ok_or_else(|| Problem::not_found("plan"))?;
    if_match.check(before.version)?;
    let in_use = change
        .tenant()
        .count::<Subscription>(|query| {
            query
                .filter(column::Subscription::PlanId.eq(plan_id.as_str()))
                .filter(column::Subscription::ArchivedAtMs.is_null())
        })
        .await?;
    if in_use > 0 {
        return Err(Problem::conflict(format!(
            "{in_use} subscriptions are on this plan; move or archive them first"
        )));
    }
    let tenant = change.tenant();
    let waiting = tenant.count::<StripeSubscription>(|query| {
        let waits = Condition::any()
            .add(column::StripeSubscription::PendingPlanId.eq(plan_id.as_str()))
            .add(column::StripeSubscription::UpgradePlanId.eq(plan_id.as_str()));
        query
            .filter(waits)
            .filter(column::StripeSubscription::StripeStatus.is_not_in(OVER.iter().copied()))
    });
    let waiting = waiting.await?;
    if waiting > 0 {
        return Err(Problem::conflict(format!(
            "{waiting} subscriptions wait to be moved to this plan, at the end of their period or when it is paid \
             (`stripe.pending_downgrade` and `stripe.pending_upgrade` say which); move them elsewhere with POST \
             /v1/subscriptions/{{id}}/change, or wait"
        )));
    }
    let after = Plan { archived_at_ms: Some(change.now_ms()), ..before.clone() };
    let row = change.update(&before, after).await?;
    let shown = Shown { view: view_of(&row)?, version: row.version };
    change.commit().await?;
    Ok(shown)
}
