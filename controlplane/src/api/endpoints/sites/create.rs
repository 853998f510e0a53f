//! `POST /v1/sites`.
//!
//! In: a [`SiteDraft`]. Out: 201 with the site.
//! Always holds: hosts belong to no other site, and the slug to no other account's, not even to one that is archived.

use axum::extract::State;
use axum::response::Response;

use super::{SiteView, check_draft, explain_taken, fill, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::domain::site::SiteDraft;
use crate::storage::Site;

/// Make a site
#[utoipa::path(post, path = "/sites", tag = "sites", request_body = SiteDraft,
    responses((status = 201, description = "The site", body = SiteView), Problems))]
pub async fn create_site(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<SiteDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Sites, posted.key.as_ref()).await?;
    let checked = check_draft(&posted.body, &[], &app)?;
    let mut row = Site { id: change.new_id::<Site>(), ..Site::default() };
    fill(&mut row, posted.body, &app);
    change.own_slug(&row.slug).await.map_err(explain_taken)?;
    let site = change.insert(row).await.map_err(explain_taken)?;
    let hosts: Vec<String> = checked.hosts.iter().map(ToString::to_string).collect();
    change.set_hosts(&site.id, &hosts).await.map_err(explain_taken)?;
    let made = Made {
        view: view_of(&site, &app)?,
        version: site.version,
        location: format!("/v1/sites/{}", site.id),
        secret: None,
    };
    made.commit(change).await
}
