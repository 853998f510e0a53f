//! `GET /v1/sites/{site_id}/plans`.
//!
//! In: a window. Out: plans, newest first.
//! Always holds: archived ones are shown only when asked for.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{PlanView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, Named, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Plan, Site, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PlanQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Archived ones, too.
    archived: bool,
}

impl Default for PlanQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, archived: false }
    }
}

/// List plans
#[utoipa::path(get, path = "/sites/{site_id}/plans", tag = "plans", params(("site_id" = String, Path, description = "The site"), PlanQuery),
    responses((status = 200, description = "Plans", body = List<PlanView>), Problems))]
pub async fn list_plans(
    State(app): State<App>,
    caller: Caller,
    Named(site_id): Named<String>,
    Asked(asked): Asked<PlanQuery>,
) -> Result<Json<List<PlanView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Plans)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    if tenant.get::<Site>(&site_id).await?.is_none() {
        return Err(Problem::not_found("site"));
    }
    let page = tenant.page::<Plan>(window, |mut query| {
        query = query.filter(column::Plan::SiteId.eq(site_id.as_str()));
        if !asked.archived {
            query = query.filter(column::Plan::ArchivedAtMs.is_null());
        }
        query
    });
    List::of(page.await?, view_of).map(Json)
}
