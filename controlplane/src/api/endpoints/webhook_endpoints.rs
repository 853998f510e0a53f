//! Webhook endpoints and their deliveries: what their endpoints share.
//!
//! In: rows and drafts. Out: views, checks.
//! Always holds: an endpoint's secret is in the answer that made it and nowhere else readable; an endpoint has at most
//! two secrets, the older one for a while only.

pub mod archive;
pub mod create;
pub mod deliveries;
pub mod get;
pub mod list;
pub mod replay;
pub mod replay_all;
pub mod rotate;
pub mod update;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::fields::check_text_opt;
use crate::api::App;
use crate::api::problem::Problem;
use crate::api::time::{shown, shown_opt};
use crate::domain::policy_text::Fault;
use crate::domain::shapes::EventName;
use crate::notify::EventKind;
use crate::notify::address::check_url;
use crate::storage::{Change, WebhookDelivery, WebhookEndpoint};

/// What can be said of a webhook endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookEndpointDraft {
    /// Where events are sent by POST: `https://`, on the public internet.
    #[schema(
        max_length = 2000,
        pattern = "^https://",
        example = "https://hooks.example.com/payfence"
    )]
    pub url: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub description: Option<String>,
    /// The kinds of events it is told of; left out: all, those to come too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 64, value_type = Option<Vec<EventName>>)]
    pub events: Option<Vec<String>>,
    /// Whether it is told anything. Turned off by itself when nothing could be delivered for three days.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

/// A webhook endpoint as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WebhookEndpointView {
    /// Its id.
    id: String,
    #[serde(flatten)]
    draft: WebhookEndpointDraft,
    /// Since when it is not enabled.
    disabled_at: Option<String>,
    /// Why.
    disabled_reason: Option<String>,
    /// Since when no delivery went well; null where the last one did.
    failing_since: Option<String>,
    /// Until when deliveries are signed with the secret before this one as well.
    old_secret_until: Option<String>,
    /// Since when it is archived.
    archived_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
    /// What deliveries are signed with (Standard Webhooks); in the answer that made it, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    secret: Option<String>,
}

/// What a row says of what can be changed.
#[must_use]
pub fn draft_of(row: &WebhookEndpoint) -> WebhookEndpointDraft {
    WebhookEndpointDraft {
        url: row.url.clone(),
        description: row.description.clone(),
        events: row.events.as_ref().and_then(|text| serde_json::from_str(text).ok()),
        enabled: row.disabled_at_ms.is_none(),
    }
}

/// A webhook endpoint as it is shown.
#[must_use]
pub fn view_of(row: &WebhookEndpoint, now_ms: i64) -> WebhookEndpointView {
    WebhookEndpointView {
        id: row.id.clone(),
        draft: draft_of(row),
        disabled_at: shown_opt(row.disabled_at_ms),
        disabled_reason: row.disabled_reason.clone(),
        failing_since: shown_opt(row.failing_since_ms),
        old_secret_until: shown_opt(row.old_secret_until_ms.filter(|until_ms| *until_ms > now_ms)),
        archived_at: shown_opt(row.archived_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
        secret: None,
    }
}

/// Puts what may change into a row, checked.
///
/// # Errors
/// 422 with what is wrong.
pub fn fill(
    row: &mut WebhookEndpoint,
    draft: &WebhookEndpointDraft,
    app: &App,
    now_ms: i64,
) -> Result<(), Problem> {
    let mut faults = Vec::new();
    check_text_opt("description", draft.description.as_deref(), &mut faults);
    if let Err(message) = check_url(&draft.url, app.settings.allow_private_webhooks) {
        faults.push(Fault::new("url", message));
    }
    for (place, word) in draft.events.iter().flatten().enumerate() {
        if !EventKind::of(word).is_some_and(EventKind::is_sent) {
            let message = format!("expected one of {}", words());
            faults.push(Fault::new(format!("events[{place}]"), message));
        }
    }
    if draft.events.as_ref().is_some_and(|list| list.is_empty() || list.len() > 64) {
        faults.push(Fault::new("events", "expected 1 to 64 kinds; leave it out for all"));
    }
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    row.url.clone_from(&draft.url);
    row.description.clone_from(&draft.description);
    row.events = draft.events.clone().map(|list| Json::from(list).to_string());
    if draft.enabled {
        if row.disabled_at_ms.is_some() {
            // Days of failure before it was enabled again count no more.
            row.failing_since_ms = None;
        }
        row.disabled_at_ms = None;
        row.disabled_reason = None;
    } else if row.disabled_at_ms.is_none() {
        row.disabled_at_ms = Some(now_ms);
        row.disabled_reason = Some("turned off by hand".to_owned());
    }
    Ok(())
}

fn words() -> String {
    let sent = EventKind::ALL.iter().filter(|kind| kind.is_sent());
    sent.map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

/// A webhook endpoint that can be changed, locked.
///
/// # Errors
/// 404 where the account has none, 409 where it is archived.
pub async fn lock_live(change: &Change, id: &str) -> Result<WebhookEndpoint, Problem> {
    let row = change.lock::<WebhookEndpoint>(id).await?;
    let row = row.ok_or_else(|| Problem::not_found("webhook endpoint"))?;
    if row.archived_at_ms.is_some() {
        return Err(Problem::conflict("the webhook endpoint is archived"));
    }
    Ok(row)
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// It waits for its next attempt.
    Pending,
    /// The endpoint has taken it.
    Delivered,
    /// It was given up.
    Failed,
}

/// A delivery as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WebhookDeliveryView {
    /// Its id.
    id: String,
    /// The endpoint.
    webhook_endpoint_id: String,
    /// The event, which is `webhook-id` in the request: the same in all attempts, and at all endpoints.
    event_id: String,
    /// The kind of event.
    event: String,
    /// Where it stands.
    status: DeliveryStatus,
    /// Attempts so far, since it was made or replayed.
    attempts: i64,
    /// When it is tried next.
    next_attempt_at: Option<String>,
    /// The status of the last answer.
    answer_status: Option<i64>,
    /// Why the last attempt did not go well.
    error: Option<String>,
    /// When it was delivered or given up.
    ended_at: Option<String>,
    /// When it was made.
    created_at: String,
}

/// A delivery as it is shown.
#[must_use]
pub fn delivery_view(row: &WebhookDelivery) -> WebhookDeliveryView {
    WebhookDeliveryView {
        id: row.id.clone(),
        webhook_endpoint_id: row.endpoint_id.clone(),
        event_id: row.event_id.clone(),
        event: row.kind.clone(),
        status: serde_json::from_value(row.status.as_str().into())
            .unwrap_or(DeliveryStatus::Failed),
        attempts: row.attempts,
        next_attempt_at: shown_opt(row.next_at_ms),
        answer_status: row.answer_status,
        error: row.error.clone(),
        ended_at: shown_opt(row.ended_at_ms),
        created_at: shown(row.created_at_ms),
    }
}
