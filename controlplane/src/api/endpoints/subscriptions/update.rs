//! `PATCH /v1/subscriptions/{subscription_id}`.
//!
//! In: a merge patch of a [`SubscriptionDraft`]. Out: the subscription as it is then.
//! Always holds: what was used in the running period stays used, whatever plan it is on; of one that was bought Stripe alone says
//! status, plan and periods.

use axum::extract::State;

use super::bought::refuse_by_hand;
use super::view::{SubscriptionView, shown_of};
use super::{SubscriptionDraft, draft_of, fill, lock_live, share_plan, tell};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named, Patched};
use crate::api::gate::Caller;
use crate::api::openapi::{PatchOf, Problems};
use crate::api::problem::Problem;
use crate::domain::permission::Area;

type SubscriptionPatch = PatchOf<SubscriptionDraft>;

/// Change a subscription
#[utoipa::path(patch, path = "/subscriptions/{subscription_id}", tag = "subscriptions",
    params(("subscription_id" = String, Path, description = "The subscription")),
    request_body(content = SubscriptionPatch, content_type = "application/json"),
    responses((status = 200, description = "The subscription", body = SubscriptionView), Problems))]
pub async fn update_subscription(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    if_match: IfMatch,
    patch: Patched,
) -> Result<Shown<SubscriptionView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Subscriptions).await?;
    let before = lock_live(&change, &subscription_id).await?;
    if_match.check(before.version)?;
    let is = draft_of(&before);
    let draft = patch.onto(&is)?;
    for (field, differs) in [
        ("site_id", draft.site_id != is.site_id),
        ("customer_id", draft.customer_id != is.customer_id),
        ("reference", draft.reference != is.reference),
    ] {
        if differs {
            return Err(Problem::field(field, "stays as it is, since use is counted under it"));
        }
    }
    refuse_by_hand(&change.tenant(), &before.id, &is, &draft).await?;
    if draft.plan_id != is.plan_id {
        share_plan(&change, &before.site_id, &draft.plan_id).await?;
    }
    let mut after = before.clone();
    fill(&mut after, &draft)?;
    let row = change.update(&before, after).await?;
    tell(&mut change, Some(&before), &row).await?;
    let shown = shown_of(&change.tenant(), &caller, &row).await?;
    change.commit().await?;
    Ok(shown)
}
