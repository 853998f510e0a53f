//! `GET /v1/webhook-endpoints/{webhook_endpoint_id}`.
//!
//! In: an id. Out: the webhook endpoint, or 404. Always holds: its secret is not shown.

use axum::extract::State;

use super::{WebhookEndpointView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::WebhookEndpoint;

/// Read a webhook endpoint
#[utoipa::path(get, path = "/webhook-endpoints/{webhook_endpoint_id}", tag = "webhooks",
    params(("webhook_endpoint_id" = String, Path, description = "The webhook endpoint")),
    responses((status = 200, description = "The webhook endpoint", body = WebhookEndpointView), Problems))]
pub async fn get_webhook_endpoint(
    State(app): State<App>,
    caller: Caller,
    Named(webhook_endpoint_id): Named<String>,
) -> Result<Shown<WebhookEndpointView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Webhooks)?;
    let row = tenant.get::<WebhookEndpoint>(&webhook_endpoint_id).await?;
    let row = row.ok_or_else(|| Problem::not_found("webhook endpoint"))?;
    Ok(Shown { view: view_of(&row, app.world.now_ms()), version: row.version })
}
