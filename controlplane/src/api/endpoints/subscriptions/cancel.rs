//! `POST /v1/subscriptions/{subscription_id}/cancel`.
//!
//! In: when. Out: the subscription as it is then.
//! Always holds: what was paid for is served to its end, unless it is canceled at once.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::bought::work_on;
use super::view::SubscriptionView;
use crate::api::App;
use crate::api::extract::{Named, Posted};
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::change::When;

/// When it ends.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CancelDraft {
    /// `period_end` where it is left out.
    pub when: Option<When>,
}

/// Cancel a subscription that was bought
#[utoipa::path(post, path = "/subscriptions/{subscription_id}/cancel", tag = "billing", request_body = CancelDraft,
    params(("subscription_id" = String, Path, description = "The subscription")),
    responses((status = 200, description = "The subscription", body = SubscriptionView), Problems))]
pub async fn cancel_subscription(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    posted: Posted<CancelDraft>,
) -> Result<Response, Problem> {
    let when = posted.body.when.unwrap_or(When::PeriodEnd);
    let once = (posted.key.as_ref(), Kept::Answer);
    work_on(&app, &caller, &subscription_id, once, async |taken| {
        taken.bought.cancel(&taken.billing, when).await?;
        taken.shown(&app, &caller, json!({ "cancel": when })).await
    })
    .await
}
