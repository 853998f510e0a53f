//! `GET /v1/stripe/events`.
//!
//! In: a window, what to look for. Out: what Stripe told, newest first.
//! Always holds: filters only take away.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{StripeEventState, StripeEventView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{StripeEvent, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct StripeEventQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// In this state alone; `dead` lists what was given up.
    #[param(inline)]
    state: Option<StripeEventState>,
    /// Of this type alone.
    kind: Option<String>,
    /// About this object of Stripe's alone.
    object_id: Option<String>,
}

impl Default for StripeEventQuery {
    fn default() -> Self {
        Self {
            limit: LIMIT_DEFAULT,
            starting_after: None,
            state: None,
            kind: None,
            object_id: None,
        }
    }
}

/// List what Stripe told
#[utoipa::path(get, path = "/stripe/events", tag = "billing", params(StripeEventQuery),
    responses((status = 200, description = "Events", body = List<StripeEventView>), Problems))]
pub async fn list_stripe_events(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<StripeEventQuery>,
) -> Result<Json<List<StripeEventView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<StripeEvent>(window, |mut query| {
        if let Some(state) = asked.state {
            query = query.filter(column::StripeEvent::State.eq(state.stored().as_str()));
        }
        if let Some(kind) = &asked.kind {
            query = query.filter(column::StripeEvent::Kind.eq(kind.as_str()));
        }
        if let Some(id) = &asked.object_id {
            query = query.filter(column::StripeEvent::ObjectId.eq(id.as_str()));
        }
        query
    });
    List::of(page.await?, |row| Ok(view_of(row))).map(Json)
}
