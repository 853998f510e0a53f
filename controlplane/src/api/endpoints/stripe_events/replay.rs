//! `POST /v1/stripe/events/{stripe_event_id}/replay`.
//!
//! In: an id. Out: the event, waiting again.
//! Always holds: it can be done at any time and as often as one likes, since settling fetches what is and changes only what
//! differs; one that nothing follows from stays as it is.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{StripeEventView, view_of};
use crate::api::App;
use crate::api::answer::{Shown, commit_shown};
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{EventState, StripeEvent};

/// Nothing is needed.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayDraft {}

/// Settle an event of Stripe's again
#[utoipa::path(post, path = "/stripe/events/{stripe_event_id}/replay", tag = "billing",
    request_body = ReplayDraft,
    params(("stripe_event_id" = String, Path, description = "The event, by its id here")),
    responses((status = 200, description = "The event, waiting", body = StripeEventView), Problems))]
pub async fn replay_stripe_event(
    State(app): State<App>,
    caller: Caller,
    Named(stripe_event_id): Named<String>,
    posted: Posted<ReplayDraft>,
) -> Result<Response, Problem> {
    let key = posted.key.as_ref();
    let mut change = app.gate.write_once(&caller, Area::Subscriptions, key).await?;
    let before = change.lock::<StripeEvent>(&stripe_event_id).await?;
    let before = before.ok_or_else(|| Problem::not_found("event"))?;
    if before.subject.is_none() {
        return Err(Problem::conflict("nothing follows from events of this type"));
    }
    let after = StripeEvent {
        state: EventState::Waiting.as_str().to_owned(),
        attempts: 0,
        due_at_ms: change.now_ms(),
        error: None,
        settled_at_ms: None,
        ..before.clone()
    };
    let row = change.update(&before, after).await?;
    let shown = Shown { view: view_of(&row), version: row.version };
    commit_shown(change, shown).await
}
