//! `GET /v1/sites/{site_id}/plans/{plan_id}`.
//!
//! In: an id. Out: a plan, or 404.
//! Always holds: nobody else's is found.

use axum::extract::State;

use super::{PlanView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Plan;

/// Read a plan
#[utoipa::path(get, path = "/sites/{site_id}/plans/{plan_id}", tag = "plans",
    params(("site_id" = String, Path, description = "The site"),
        ("plan_id" = String, Path, description = "The plan")),
    responses((status = 200, description = "A plan", body = PlanView), Problems))]
pub async fn get_plan(
    State(app): State<App>,
    caller: Caller,
    Named((site_id, plan_id)): Named<(String, String)>,
) -> Result<Shown<PlanView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Plans)?;
    let row = tenant
        .get::<Plan>(&plan_id)
        .await?
        .filter(|row| row.site_id == site_id)
        .ok_or_else(|| Problem::not_found("plan"))?;
    Ok(Shown { view: view_of(&row)?, version: row.version })
}
