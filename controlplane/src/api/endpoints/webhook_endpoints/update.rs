//! `PATCH /v1/webhook-endpoints/{webhook_endpoint_id}`.
//!
//! In: a merge patch of a [`WebhookEndpointDraft`]. Out: the webhook endpoint as it is then.
//! Always holds: its secret stays; what waits for it is sent to where it is now.

use axum::extract::State;

use super::{WebhookEndpointDraft, WebhookEndpointView, draft_of, fill, lock_live, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named, Patched};
use crate::api::gate::Caller;
use crate::api::openapi::{PatchOf, Problems};
use crate::api::problem::Problem;
use crate::domain::permission::Area;

type WebhookEndpointPatch = PatchOf<WebhookEndpointDraft>;

/// Change a webhook endpoint
#[utoipa::path(patch, path = "/webhook-endpoints/{webhook_endpoint_id}", tag = "webhooks",
    params(("webhook_endpoint_id" = String, Path, description = "The webhook endpoint")),
    request_body(content = WebhookEndpointPatch, content_type = "application/json"),
    responses((status = 200, description = "The webhook endpoint", body = WebhookEndpointView), Problems))]
pub async fn update_webhook_endpoint(
    State(app): State<App>,
    caller: Caller,
    Named(webhook_endpoint_id): Named<String>,
    if_match: IfMatch,
    patch: Patched,
) -> Result<Shown<WebhookEndpointView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Webhooks).await?;
    let before = lock_live(&change, &webhook_endpoint_id).await?;
    if_match.check(before.version)?;
    let draft = patch.onto(&draft_of(&before))?;
    let mut after = before.clone();
    let now_ms = change.now_ms();
    fill(&mut after, &draft, &app, now_ms)?;
    let row = change.update(&before, after).await?;
    change.commit().await?;
    Ok(Shown { view: view_of(&row, now_ms), version: row.version })
}
