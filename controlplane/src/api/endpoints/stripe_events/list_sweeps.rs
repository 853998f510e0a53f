//! `GET /v1/stripe/sweeps`.
//!
//! In: a window. Out: how far the account's Stripe accounts were compared with what is known here.
//! Always holds: there is one of a kind, a mode and a Stripe account.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{StripeSweepView, sweep_view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::StripeSweep;

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct StripeSweepQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
}

impl Default for StripeSweepQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None }
    }
}

/// List comparisons with Stripe
#[utoipa::path(get, path = "/stripe/sweeps", tag = "billing", params(StripeSweepQuery),
    responses((status = 200, description = "Sweeps", body = List<StripeSweepView>), Problems))]
pub async fn list_stripe_sweeps(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<StripeSweepQuery>,
) -> Result<Json<List<StripeSweepView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<StripeSweep>(window, |query| query);
    List::of(page.await?, |row| Ok(sweep_view_of(row))).map(Json)
}
