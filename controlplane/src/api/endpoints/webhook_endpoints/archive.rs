//! `DELETE /v1/webhook-endpoints/{webhook_endpoint_id}`.
//!
//! In: an id. Out: the webhook endpoint, archived.
//! Always holds: nothing is sent to it from then on, what waits for it neither.

use axum::extract::State;

use super::{WebhookEndpointView, lock_live, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::WebhookEndpoint;

/// Archive a webhook endpoint
#[utoipa::path(delete, path = "/webhook-endpoints/{webhook_endpoint_id}", tag = "webhooks",
    params(("webhook_endpoint_id" = String, Path, description = "The webhook endpoint")),
    responses((status = 200, description = "The webhook endpoint, archived", body = WebhookEndpointView), Problems))]
pub async fn archive_webhook_endpoint(
    State(app): State<App>,
    caller: Caller,
    Named(webhook_endpoint_id): Named<String>,
    if_match: IfMatch,
) -> Result<Shown<WebhookEndpointView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Webhooks).await?;
    let before = lock_live(&change, &webhook_endpoint_id).await?;
    if_match.check(before.version)?;
    let now_ms = change.now_ms();
    let after = WebhookEndpoint { archived_at_ms: Some(now_ms), ..before.clone() };
    let row = change.update(&before, after).await?;
    change.commit().await?;
    Ok(Shown { view: view_of(&row, now_ms), version: row.version })
}
