//! `PATCH /v1/sites/{site_id}/resources/{resource_id}`.
//!
//! In: a merge patch of a [`ResourceDraft`]. Out: the resource as it is then.
//! Always holds: it contradicts none of the site's other resources, and a pattern that a plan names stays.

use axum::extract::State;

use super::{ResourceView, check_rules, resource_draft, settings, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::endpoints::sites::{lock_live, resource_keys, resources_of};
use crate::api::extract::{IfMatch, Named, Patched};
use crate::api::gate::Caller;
use crate::api::openapi::{PatchOf, Problems};
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::domain::site::ResourceDraft;
use crate::storage::Resource;

type ResourcePatch = PatchOf<ResourceDraft>;

/// Change a resource
#[utoipa::path(patch, path = "/sites/{site_id}/resources/{resource_id}", tag = "resources",
    params(("site_id" = String, Path, description = "The site"),
        ("resource_id" = String, Path, description = "The resource")),
    request_body(content = ResourcePatch, content_type = "application/json"),
    responses((status = 200, description = "The resource", body = ResourceView), Problems))]
pub async fn update_resource(
    State(app): State<App>,
    caller: Caller,
    Named((site_id, resource_id)): Named<(String, String)>,
    if_match: IfMatch,
    patch: Patched,
) -> Result<Shown<ResourceView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Sites).await?;
    let site = lock_live(&change, &site_id).await?;
    let mut rows = resources_of(&change.tenant(), &site_id).await?;
    let row = rows.iter_mut().find(|row| row.id == resource_id);
    let row = row.ok_or_else(|| Problem::not_found("resource"))?;
    if_match.check(row.version)?;
    let draft = patch.onto(&resource_draft(row)?)?;
    let before = row.clone();
    row.settings = settings(&draft);
    let after = row.clone();
    check_rules(&site, &resource_keys(&rows)?, &change.tenant(), &app).await?;
    let row: Resource = change.update(&before, after).await?;
    let shown = Shown { view: view_of(&row)?, version: row.version };
    change.commit().await?;
    Ok(shown)
}
