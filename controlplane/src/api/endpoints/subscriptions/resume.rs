//! `POST /v1/subscriptions/{subscription_id}/resume`.
//!
//! In: nothing. Out: the subscription, which goes on after its period.
//! Always holds: one that is over stays over.

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

/// Nothing to say.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeDraft {}

/// Take back a cancellation
#[utoipa::path(post, path = "/subscriptions/{subscription_id}/resume", tag = "billing", request_body = ResumeDraft,
    params(("subscription_id" = String, Path, description = "The subscription")),
    responses((status = 200, description = "The subscription", body = SubscriptionView), Problems))]
pub async fn resume_subscription(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    posted: Posted<ResumeDraft>,
) -> Result<Response, Problem> {
    let once = (posted.key.as_ref(), Kept::Answer);
    work_on(&app, &caller, &subscription_id, once, async |taken| {
        taken.bought.resume(&taken.billing).await?;
        taken.shown(&app, &caller, json!("resume")).await
    })
    .await
}
