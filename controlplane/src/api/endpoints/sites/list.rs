//! `GET /v1/sites`.
//!
//! In: a window. Out: the account's sites, newest first.
//! Always holds: archived ones are shown only when asked for.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{SiteView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Site, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct SiteQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Archived ones, too.
    archived: bool,
}

impl Default for SiteQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, archived: false }
    }
}

/// List sites
#[utoipa::path(get, path = "/sites", tag = "sites", params(SiteQuery),
    responses((status = 200, description = "Sites", body = List<SiteView>), Problems))]
pub async fn list_sites(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<SiteQuery>,
) -> Result<Json<List<SiteView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Sites)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<Site>(window, |query| {
        if asked.archived { query } else { query.filter(column::Site::ArchivedAtMs.is_null()) }
    });
    List::of(page.await?, |site| view_of(site, &app)).map(Json)
}
