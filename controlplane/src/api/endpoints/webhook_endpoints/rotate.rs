//! `POST /v1/webhook-endpoints/{webhook_endpoint_id}/rotate`.
//!
//! In: how long the old secret goes on. Out: 200 with a new secret, once.
//! Always holds: until the overlap is over, deliveries carry a signature of each; a third secret there never is.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{WebhookEndpointView, lock_live, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::notify::secret;
use crate::storage::WebhookEndpoint;

/// How long the old secret goes on where nobody says: a day.
const OVERLAP_S_DEFAULT: i64 = 86_400;
/// A month.
const OVERLAP_S_MAX: i64 = 30 * 86_400;

/// How to replace a secret.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRotation {
    /// How long deliveries are signed with the old secret as well; a day where it is left out.
    #[schema(minimum = 0, maximum = 2_592_000)]
    pub overlap_seconds: Option<i64>,
}

/// Replace a webhook endpoint's secret
#[utoipa::path(post, path = "/webhook-endpoints/{webhook_endpoint_id}/rotate", tag = "webhooks", request_body = SecretRotation,
    params(("webhook_endpoint_id" = String, Path, description = "The webhook endpoint")),
    responses((status = 201, description = "The webhook endpoint; its new secret is in `secret`, once", body = WebhookEndpointView), Problems))]
pub async fn rotate_webhook_secret(
    State(app): State<App>,
    caller: Caller,
    Named(webhook_endpoint_id): Named<String>,
    posted: Posted<SecretRotation>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Webhooks, posted.key.as_ref()).await?;
    let before = lock_live(&change, &webhook_endpoint_id).await?;
    let overlap_s = posted.body.overlap_seconds.unwrap_or(OVERLAP_S_DEFAULT);
    if !(0..=OVERLAP_S_MAX).contains(&overlap_s) {
        let message = format!("expected an integer from 0 to {OVERLAP_S_MAX}");
        return Err(Problem::field("overlap_seconds", message));
    }
    let known = secret::open(&before.sealed_secrets, &before.id, &app.keyring);
    let known = known.map_err(|error| {
        tracing::error!(%error, "a webhook endpoint's secret cannot be opened");
        Problem::conflict("the old secret cannot be opened; make a new webhook endpoint")
    })?;
    let text = secret::generate(&*app.world);
    let mut secrets = vec![text.clone()];
    secrets.extend(known.into_iter().take(1).filter(|_| overlap_s > 0));
    let now_ms = change.now_ms();
    let after = WebhookEndpoint {
        sealed_secrets: secret::seal(&secrets, &before.id, &app.keyring, &*app.world),
        old_secret_until_ms: Some(now_ms.saturating_add(overlap_s.saturating_mul(1_000))),
        ..before.clone()
    };
    let row = change.update(&before, after).await?;
    let location = format!("/v1/webhook-endpoints/{}", row.id);
    let view = view_of(&row, now_ms);
    let made = Made { view, version: row.version, location, secret: Some(text) };
    made.commit(change).await
}
