//! `POST /v1/webhook-endpoints/{webhook_endpoint_id}/replay`.
//!
//! In: since when. Out: how many deliveries that were given up are sent at once, and tried for three days again.
//! Always holds: what was delivered or still waits is left alone, so asking twice sends nothing twice; at most [`BATCH`] are taken up by
//! one request, oldest first, and none where [`WAITING_MAX`] wait; one entry of the audit log says how many.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::lock_live;
use crate::api::App;
use crate::api::answer::{Shown, commit_shown};
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::api::time::{read, shown};
use crate::domain::permission::Area;
use crate::storage::TenantRow as _;

/// Deliveries that one request takes up.
const BATCH: u64 = 5_000;
/// Deliveries of an endpoint that may wait: half of what it is turned off for.
const WAITING_MAX: u64 = 50_000;

/// Which deliveries to send again.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayAll {
    /// Those of events from then on.
    #[schema(format = DateTime, example = "2026-11-01T00:00:00Z")]
    pub since: String,
}

/// What is sent again.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReplayAllView {
    /// How many deliveries.
    replayed: u64,
    /// Whether more were given up since then: ask again for them.
    has_more: bool,
}

/// Send all deliveries again that were given up
#[utoipa::path(post, path = "/webhook-endpoints/{webhook_endpoint_id}/replay", tag = "webhooks", request_body = ReplayAll,
    params(("webhook_endpoint_id" = String, Path, description = "The webhook endpoint")),
    responses((status = 200, description = "How many are sent again", body = ReplayAllView), Problems))]
pub async fn replay_webhook_deliveries(
    State(app): State<App>,
    caller: Caller,
    Named(webhook_endpoint_id): Named<String>,
    posted: Posted<ReplayAll>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Webhooks, posted.key.as_ref()).await?;
    let endpoint = lock_live(&change, &webhook_endpoint_id).await?;
    let since_ms = read(&posted.body.since).map_err(|message| Problem::field("since", &message))?;
    if endpoint.disabled_at_ms.is_some() {
        return Err(Problem::conflict("the webhook endpoint is turned off; enable it first"));
    }
    let waiting = change.waiting_deliveries(&endpoint.id).await?;
    let room = WAITING_MAX.saturating_sub(waiting);
    if room == 0 {
        let text =
            "too many deliveries wait for the webhook endpoint already; ask again when fewer do";
        return Err(Problem::conflict(text));
    }
    let count = room.min(BATCH);
    let (replayed, has_more) = change.replay_deliveries(&endpoint.id, since_ms, count).await?;
    if replayed > 0 {
        let mut what = endpoint.facts();
        what["replayed"] = json!({ "deliveries": replayed, "since": shown(since_ms) });
        change.note_done(&endpoint, what);
    }
    let view = ReplayAllView { replayed, has_more };
    commit_shown(change, Shown { view, version: endpoint.version }).await
}
