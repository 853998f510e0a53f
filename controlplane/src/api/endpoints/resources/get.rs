//! `GET /v1/sites/{site_id}/resources/{resource_id}`.
//!
//! In: an id. Out: a resource, or 404.
//! Always holds: nobody else's is found.

use axum::extract::State;

use super::{ResourceView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Resource;

/// Read a resource
#[utoipa::path(get, path = "/sites/{site_id}/resources/{resource_id}", tag = "resources",
    params(("site_id" = String, Path, description = "The site"),
        ("resource_id" = String, Path, description = "The resource")),
    responses((status = 200, description = "A resource", body = ResourceView), Problems))]
pub async fn get_resource(
    State(app): State<App>,
    caller: Caller,
    Named((site_id, resource_id)): Named<(String, String)>,
) -> Result<Shown<ResourceView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Sites)?;
    let row = tenant
        .get::<Resource>(&resource_id)
        .await?
        .filter(|row| row.site_id == site_id)
        .ok_or_else(|| Problem::not_found("resource"))?;
    Ok(Shown { view: view_of(&row)?, version: row.version })
}
