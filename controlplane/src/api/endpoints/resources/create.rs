//! `POST /v1/sites/{site_id}/resources`.
//!
//! In: a [`ResourceDraft`]. Out: 201 with the resource.
//! Always holds: it contradicts none of the site's other resources.

use axum::extract::State;
use axum::response::Response;

use super::{ResourceView, check_rules, settings, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::sites::{RESOURCES_MAX, lock_live, resource_keys, resources_of};
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::domain::site::{ResourceDraft, keys_of};
use crate::storage::Resource;

/// Make a resource
#[utoipa::path(post, path = "/sites/{site_id}/resources", tag = "resources", request_body = ResourceDraft,
    params(("site_id" = String, Path, description = "The site")),
    responses((status = 201, description = "The resource", body = ResourceView), Problems))]
pub async fn create_resource(
    State(app): State<App>,
    caller: Caller,
    Named(site_id): Named<String>,
    posted: Posted<ResourceDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Sites, posted.key.as_ref()).await?;
    let site = lock_live(&change, &site_id).await?;
    let rows = resources_of(&change.tenant(), &site_id).await?;
    if rows.len() as u64 >= RESOURCES_MAX {
        return Err(Problem::conflict(format!("a site has at most {RESOURCES_MAX} resources")));
    }
    let mut keys = resource_keys(&rows)?;
    let id = change.new_id::<Resource>();
    keys.push((id.clone(), keys_of(&posted.body)));
    check_rules(&site, &keys, &change.tenant(), &app).await?;
    let row = Resource { id, site_id, settings: settings(&posted.body), ..Resource::default() };
    let row = change.insert(row).await?;
    let location = format!("/v1/sites/{}/resources/{}", row.site_id, row.id);
    let made = Made { view: view_of(&row)?, version: row.version, location, secret: None };
    made.commit(change).await
}
