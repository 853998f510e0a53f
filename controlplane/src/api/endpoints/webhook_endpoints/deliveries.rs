//! `GET /v1/webhook-endpoints/{webhook_endpoint_id}/deliveries`.
//!
//! In: a window, what to look for. Out: deliveries to one endpoint, newest first.
//! Always holds: they are kept for thirty days.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{DeliveryStatus, WebhookDeliveryView, delivery_view};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, Named, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{WebhookDelivery, WebhookEndpoint, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// That stand so alone.
    status: Option<DeliveryStatus>,
}

impl Default for DeliveryQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, status: None }
    }
}

/// List deliveries to a webhook endpoint
#[utoipa::path(get, path = "/webhook-endpoints/{webhook_endpoint_id}/deliveries", tag = "webhooks",
    params(("webhook_endpoint_id" = String, Path, description = "The webhook endpoint"), DeliveryQuery),
    responses((status = 200, description = "Deliveries", body = List<WebhookDeliveryView>), Problems))]
pub async fn list_webhook_deliveries(
    State(app): State<App>,
    caller: Caller,
    Named(webhook_endpoint_id): Named<String>,
    Asked(asked): Asked<DeliveryQuery>,
) -> Result<Json<List<WebhookDeliveryView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Webhooks)?;
    let endpoint = tenant.get::<WebhookEndpoint>(&webhook_endpoint_id).await?;
    let endpoint = endpoint.ok_or_else(|| Problem::not_found("webhook endpoint"))?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let status = asked.status.and_then(|status| serde_json::to_value(status).ok());
    let page = tenant.page::<WebhookDelivery>(window, |mut query| {
        query = query.filter(column::WebhookDelivery::EndpointId.eq(endpoint.id.as_str()));
        if let Some(status) = status.as_ref().and_then(serde_json::Value::as_str) {
            query = query.filter(column::WebhookDelivery::Status.eq(status));
        }
        query
    });
    List::of(page.await?, |row| Ok(delivery_view(row))).map(Json)
}
