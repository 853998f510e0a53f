//! `GET /v1/sites/{site_id}`.
//!
//! In: an id. Out: the site, or 404.
//! Always holds: secrets are not in it.

use axum::extract::State;

use super::{SiteView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Site;

/// Read a site
#[utoipa::path(get, path = "/sites/{site_id}", tag = "sites",
    params(("site_id" = String, Path, description = "The site")),
    responses((status = 200, description = "The site", body = SiteView), Problems))]
pub async fn get_site(
    State(app): State<App>,
    caller: Caller,
    Named(site_id): Named<String>,
) -> Result<Shown<SiteView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Sites)?;
    let site = tenant.get::<Site>(&site_id).await?.ok_or_else(|| Problem::not_found("site"))?;
    Ok(Shown { view: view_of(&site, &app)?, version: site.version })
}
