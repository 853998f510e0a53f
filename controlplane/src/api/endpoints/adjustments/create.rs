//! `POST /v1/subscriptions/{subscription_id}/adjustments`.
//!
//! In: an [`AdjustmentDraft`]. Out: 201 with the adjustment.
//! Always holds: the subscription is locked, so that all that count at once stay within their bounds; what they come to never
//! leaves what a quota may be.

use axum::extract::State;
use axum::response::Response;
use policy::model::UNITS_MAX;

use super::{ADJUSTMENTS_MAX, AdjustmentDraft, AdjustmentView, in_force, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::entitlements::{plan_and_period, total};
use crate::api::endpoints::fields::check_text;
use crate::api::endpoints::subscriptions::lock_live;
use crate::api::endpoints::tokens::touch;
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::domain::policy_text::Fault;
use crate::storage::Adjustment;

/// Adjust an entitlement
#[utoipa::path(post, path = "/subscriptions/{subscription_id}/adjustments", tag = "entitlements",
    description = "Gives or takes units: the limit moves by them at once, on all nodes.",
    params(("subscription_id" = String, Path, description = "The subscription")),
    request_body = AdjustmentDraft,
    responses((status = 201, description = "The adjustment", body = AdjustmentView), Problems))]
pub async fn create_adjustment(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    posted: Posted<AdjustmentDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Subscriptions, posted.key.as_ref()).await?;
    let draft = posted.body;
    check(&draft)?;
    let subscription = lock_live(&change, &subscription_id).await?;
    let now_ms = change.now_ms();
    let known = plan_and_period(&change.tenant(), &subscription, now_ms).await?;
    if known.draft.quota.is_none() {
        return Err(Problem::conflict("the plan has no quota, so there is nothing to adjust"));
    }
    let others = in_force(&change.tenant(), &subscription_id, now_ms).await?;
    if others.len() as u64 >= ADJUSTMENTS_MAX {
        return Err(Problem::conflict(format!(
            "at most {ADJUSTMENTS_MAX} adjustments of a subscription count at the same time"
        )));
    }
    if total(&others).saturating_add(draft.units).unsigned_abs() > UNITS_MAX {
        let message = format!("with those that count already it comes to more than {UNITS_MAX}");
        return Err(Problem::field("units", message));
    }
    let period = draft.expires_at_period_end.then_some(known.period);
    let row = Adjustment {
        subscription_id,
        units: draft.units,
        reason: draft.reason,
        period_id: period.map(|period| i64::try_from(period.id.0).unwrap_or(i64::MAX)),
        expires_at_ms: period.map(|period| period.end_s.saturating_mul(1_000)),
        ..Adjustment::default()
    };
    let row = change.insert(row).await?;
    touch(&mut change, subscription).await?;
    let location = format!("/v1/subscriptions/{}/adjustments/{}", row.subscription_id, row.id);
    Made { view: view_of(&row), version: row.version, location, secret: None }.commit(change).await
}

fn check(draft: &AdjustmentDraft) -> Result<(), Problem> {
    let mut faults = Vec::new();
    if draft.units == 0 || draft.units.unsigned_abs() > UNITS_MAX {
        let message = format!("expected an integer from -{UNITS_MAX} to {UNITS_MAX}, and not 0");
        faults.push(Fault::new("units", message));
    }
    check_text("reason", &draft.reason, &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}
