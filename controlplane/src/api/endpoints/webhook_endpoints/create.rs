//! `POST /v1/webhook-endpoints`.
//!
//! In: a [`WebhookEndpointDraft`]. Out: 201 with the secret, once.
//! Always holds: an account has at most [`ENDPOINTS_MAX`], counted while the account's row is held.

use axum::extract::State;
use axum::response::Response;
use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::{WebhookEndpointDraft, WebhookEndpointView, fill, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::notify::{ENDPOINTS_MAX, secret};
use crate::storage::{Account, WebhookEndpoint, column};

/// Make a webhook endpoint
#[utoipa::path(post, path = "/webhook-endpoints", tag = "webhooks", request_body = WebhookEndpointDraft,
    responses((status = 201, description = "The webhook endpoint; what its deliveries are signed with is in `secret`, once", body = WebhookEndpointView), Problems))]
pub async fn create_webhook_endpoint(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<WebhookEndpointDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Webhooks, posted.key.as_ref()).await?;
    let account_id = change.tenant().account_id().to_owned();
    change.lock::<Account>(&account_id).await?;
    let tenant = change.tenant();
    let count = tenant.count::<WebhookEndpoint>(|query| {
        query.filter(column::WebhookEndpoint::ArchivedAtMs.is_null())
    });
    if count.await? >= ENDPOINTS_MAX {
        let text = format!("an account has at most {ENDPOINTS_MAX} webhook endpoints");
        return Err(Problem::conflict(text));
    }
    drop(tenant);
    let id = change.new_id::<WebhookEndpoint>();
    let text = secret::generate(&*app.world);
    let sealed_secrets = secret::seal(std::slice::from_ref(&text), &id, &app.keyring, &*app.world);
    let mut row = WebhookEndpoint { id, sealed_secrets, ..WebhookEndpoint::default() };
    let now_ms = change.now_ms();
    fill(&mut row, &posted.body, &app, now_ms)?;
    let row = change.insert(row).await?;
    let location = format!("/v1/webhook-endpoints/{}", row.id);
    let view = view_of(&row, now_ms);
    let made = Made { view, version: row.version, location, secret: Some(text) };
    made.commit(change).await
}
