//! `POST /v1/webhook-endpoints/{webhook_endpoint_id}/deliveries/{delivery_id}/replay`.
//!
//! In: ids. Out: the delivery, which is sent at once and tried for three days again.
//! Always holds: the body and `webhook-id` are what they were, so a receiver that knows it already can tell.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{WebhookDeliveryView, delivery_view, lock_live};
use crate::api::App;
use crate::api::answer::{Shown, commit_shown};
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::notify::PENDING;
use crate::storage::WebhookDelivery;

/// Nothing needs to be said.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {}

/// Send a delivery again
#[utoipa::path(post, path = "/webhook-endpoints/{webhook_endpoint_id}/deliveries/{delivery_id}/replay", tag = "webhooks", request_body = Replay,
    params(("webhook_endpoint_id" = String, Path, description = "The webhook endpoint"), ("delivery_id" = String, Path, description = "The delivery")),
    responses((status = 200, description = "The delivery", body = WebhookDeliveryView), Problems))]
pub async fn replay_webhook_delivery(
    State(app): State<App>,
    caller: Caller,
    Named((webhook_endpoint_id, delivery_id)): Named<(String, String)>,
    posted: Posted<Replay>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Webhooks, posted.key.as_ref()).await?;
    let endpoint = lock_live(&change, &webhook_endpoint_id).await?;
    let before = change.lock::<WebhookDelivery>(&delivery_id).await?;
    let before = before.filter(|delivery| delivery.endpoint_id == endpoint.id);
    let before = before.ok_or_else(|| Problem::not_found("delivery"))?;
    if endpoint.disabled_at_ms.is_some() {
        return Err(Problem::conflict("the webhook endpoint is turned off; enable it first"));
    }
    let now_ms = change.now_ms();
    let after = WebhookDelivery {
        status: PENDING.to_owned(),
        attempts: 0,
        begun_at_ms: now_ms,
        next_at_ms: Some(now_ms),
        ended_at_ms: None,
        ..before.clone()
    };
    let row = change.update(&before, after).await?;
    commit_shown(change, Shown { view: delivery_view(&row), version: row.version }).await
}
