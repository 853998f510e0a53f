//! `DELETE /v1/sites/{site_id}/resources/{resource_id}`.
//!
//! In: an id. Out: the resource, archived.
//! Always holds: a pattern that a plan names stays; what the resource protected is then as the site's `default` says.

use axum::extract::State;

use super::{ResourceView, check_rules, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::endpoints::sites::{lock_live, resource_keys, resources_of};
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Resource;

/// Archive a resource
#[utoipa::path(delete, path = "/sites/{site_id}/resources/{resource_id}", tag = "resources",
    params(("site_id" = String, Path, description = "The site"),
        ("resource_id" = String, Path, description = "The resource")),
    responses((status = 200, description = "The resource, archived", body = ResourceView), Problems))]
pub async fn archive_resource(
    State(app): State<App>,
    caller: Caller,
    Named((site_id, resource_id)): Named<(String, String)>,
    if_match: IfMatch,
) -> Result<Shown<ResourceView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Sites).await?;
    let site = lock_live(&change, &site_id).await?;
    let mut rows = resources_of(&change.tenant(), &site_id).await?;
    let at = rows.iter().position(|row| row.id == resource_id);
    let before = rows.remove(at.ok_or_else(|| Problem::not_found("resource"))?);
    if_match.check(before.version)?;
    check_rules(&site, &resource_keys(&rows)?, &change.tenant(), &app).await?;
    let after = Resource { archived_at_ms: Some(change.now_ms()), ..before.clone() };
    let row = change.update(&before, after).await?;
    let shown = Shown { view: view_of(&row)?, version: row.version };
    change.commit().await?;
    Ok(shown)
}
