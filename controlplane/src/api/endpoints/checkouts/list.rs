//! `GET /v1/checkouts`.
//!
//! In: a window, a site. Out: checkouts, newest first.
//! Always holds: the account's own alone.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{CheckoutView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Checkout, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct CheckoutQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Those of one plan.
    for_plan: Option<String>,
}

impl Default for CheckoutQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, for_plan: None }
    }
}

/// List checkouts
#[utoipa::path(get, path = "/checkouts", tag = "billing", params(CheckoutQuery),
    responses((status = 200, description = "Checkouts", body = List<CheckoutView>), Problems))]
pub async fn list_checkouts(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<CheckoutQuery>,
) -> Result<Json<List<CheckoutView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<Checkout>(window, |query| match &asked.for_plan {
        Some(plan) => query.filter(column::Checkout::PlanId.eq(plan.as_str())),
        None => query,
    });
    List::of(page.await?, |row| Ok(view_of(row, &caller)?)).map(Json)
}
