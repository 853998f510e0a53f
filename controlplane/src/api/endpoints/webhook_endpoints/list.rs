//! `GET /v1/webhook-endpoints`.
//!
//! In: a window. Out: webhook endpoints, newest first.
//! Always holds: archived ones are shown only when asked for.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{WebhookEndpointView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{WebhookEndpoint, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct WebhookEndpointQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Archived ones, too.
    archived: bool,
}

impl Default for WebhookEndpointQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, archived: false }
    }
}

/// List webhook endpoints
#[utoipa::path(get, path = "/webhook-endpoints", tag = "webhooks", params(WebhookEndpointQuery),
    responses((status = 200, description = "Webhook endpoints", body = List<WebhookEndpointView>), Problems))]
pub async fn list_webhook_endpoints(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<WebhookEndpointQuery>,
) -> Result<Json<List<WebhookEndpointView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Webhooks)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<WebhookEndpoint>(window, |mut query| {
        if !asked.archived {
            query = query.filter(column::WebhookEndpoint::ArchivedAtMs.is_null());
        }
        query
    });
    let now_ms = app.world.now_ms();
    List::of(page.await?, |row| Ok(view_of(row, now_ms))).map(Json)
}
