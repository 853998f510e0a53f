//! `DELETE /v1/subscriptions/{subscription_id}`.
//!
//! In: an id. Out: the subscription, archived.
//! Always holds: one that was bought stays while Stripe charges for it; its tokens name nothing from then on; its reference is
//! never given again within the site, so that nobody finds another's use.

use axum::extract::State;

use super::bought::refuse_while_charged;
use super::view::{SubscriptionView, shown_of};
use super::{lock_live, tell};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Subscription;

/// Archive a subscription
#[utoipa::path(delete, path = "/subscriptions/{subscription_id}", tag = "subscriptions",
    params(("subscription_id" = String, Path, description = "The subscription")),
    responses((status = 200, description = "The subscription, archived", body = SubscriptionView), Problems))]
pub async fn archive_subscription(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    if_match: IfMatch,
) -> Result<Shown<SubscriptionView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Subscriptions).await?;
    let before = lock_live(&change, &subscription_id).await?;
    if_match.check(before.version)?;
    refuse_while_charged(&change.tenant(), &before.id).await?;
    let after = Subscription { archived_at_ms: Some(change.now_ms()), ..before.clone() };
    let row = change.update(&before, after).await?;
    tell(&mut change, Some(&before), &row).await?;
    let shown = shown_of(&change.tenant(), &caller, &row).await?;
    change.commit().await?;
    Ok(shown)
}
