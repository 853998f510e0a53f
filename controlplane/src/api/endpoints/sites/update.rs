//! `PATCH /v1/sites/{site_id}`.
//!
//! In: a merge patch of a [`SiteDraft`]. Out: the site as it is then.
//! Always holds: the slug stays, since what customers have used is counted under it.

use axum::extract::State;

use super::{
    SiteView, check_draft, draft_of, explain_taken, fill, lock_live, resource_keys, resources_of,
    view_of,
};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named, Patched};
use crate::api::gate::Caller;
use crate::api::openapi::{PatchOf, Problems};
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::domain::site::SiteDraft;

type SitePatch = PatchOf<SiteDraft>;

/// Change a site
#[utoipa::path(patch, path = "/sites/{site_id}", tag = "sites",
    params(("site_id" = String, Path, description = "The site")),
    request_body(content = SitePatch, content_type = "application/json"),
    responses((status = 200, description = "The site", body = SiteView), Problems))]
pub async fn update_site(
    State(app): State<App>,
    caller: Caller,
    Named(site_id): Named<String>,
    if_match: IfMatch,
    patch: Patched,
) -> Result<Shown<SiteView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Sites).await?;
    let before = lock_live(&change, &site_id).await?;
    if_match.check(before.version)?;
    let draft = patch.onto(&draft_of(&before, &app)?)?;
    if draft.slug != before.slug {
        let message =
            "a site keeps its slug, since use is counted under it; make a new site for another";
        return Err(Problem::field("slug", message));
    }
    let resources = resources_of(&change.tenant(), &site_id).await?;
    let checked = check_draft(&draft, &resource_keys(&resources)?, &app)?;
    let mut after = before.clone();
    fill(&mut after, draft, &app);
    let site = change.update(&before, after).await?;
    let hosts: Vec<String> = checked.hosts.iter().map(ToString::to_string).collect();
    change.set_hosts(&site.id, &hosts).await.map_err(explain_taken)?;
    let shown = Shown { view: view_of(&site, &app)?, version: site.version };
    change.commit().await?;
    Ok(shown)
}
