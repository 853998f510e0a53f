//! `POST /v1/subscriptions/{subscription_id}/portal`.
//!
//! In: where to come back to. Out: a way into Stripe's portal for the customer.
//! Always holds: it leads to the customer of this subscription alone, for a short time.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bought::work_on;
use crate::api::App;
use crate::api::extract::{Named, Posted};
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::Problem;

/// Where the customer comes back to.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortalDraft {
    /// An address of yours.
    #[schema(max_length = 2000, pattern = "^https?://")]
    pub return_url: Option<String>,
}

/// A way into the portal.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PortalView {
    /// A page of Stripe's.
    url: String,
}

/// Open the customer portal
#[utoipa::path(post, path = "/subscriptions/{subscription_id}/portal", tag = "billing", request_body = PortalDraft,
    params(("subscription_id" = String, Path, description = "The subscription")),
    responses((status = 200, description = "A way into the portal", body = PortalView), Problems))]
pub async fn open_portal(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    posted: Posted<PortalDraft>,
) -> Result<Response, Problem> {
    let return_url = posted.body.return_url;
    let is_web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
    if return_url.as_ref().is_some_and(|url| !is_web(url) || url.len() > 2_000) {
        return Err(Problem::field("return_url", "expected an http or https address"));
    }
    let once = (posted.key.as_ref(), Kept::Nothing);
    work_on(&app, &caller, &subscription_id, once, async |taken| {
        Ok(Json(PortalView { url: taken.bought.portal(&taken.billing, return_url).await? }))
    })
    .await
}
