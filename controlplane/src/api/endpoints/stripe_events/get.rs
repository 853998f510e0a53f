//! `GET /v1/stripe/events/{stripe_event_id}`.
//!
//! In: an id. Out: what is kept of the event.
//! Always holds: another account's event is none.

use axum::extract::State;

use super::{StripeEventView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::StripeEvent;

/// Show an event of Stripe's
#[utoipa::path(get, path = "/stripe/events/{stripe_event_id}", tag = "billing",
    params(("stripe_event_id" = String, Path, description = "The event, by its id here")),
    responses((status = 200, description = "The event", body = StripeEventView), Problems))]
pub async fn get_stripe_event(
    State(app): State<App>,
    caller: Caller,
    Named(stripe_event_id): Named<String>,
) -> Result<Shown<StripeEventView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let row = tenant.get::<StripeEvent>(&stripe_event_id).await?;
    let row = row.ok_or_else(|| Problem::not_found("event"))?;
    Ok(Shown { view: view_of(&row), version: row.version })
}
