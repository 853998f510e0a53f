//! `POST /v1/sites/{site_id}/plans`.
//!
//! In: a [`PlanDraft`]. Out: 201 with the plan.
//! Always holds: its reference is that of no other plan of the site.

use axum::extract::State;
use axum::response::Response;

use super::{PLANS_MAX, PlanView, check_draft, explain_taken, live_plans, settings, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::sites::lock_live;
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::domain::site::PlanDraft;
use crate::storage::Plan;

/// Make a plan
#[utoipa::path(post, path = "/sites/{site_id}/plans", tag = "plans", request_body = PlanDraft,
    params(("site_id" = String, Path, description = "The site")),
    responses((status = 201, description = "The plan", body = PlanView), Problems))]
pub async fn create_plan(
    State(app): State<App>,
    caller: Caller,
    Named(site_id): Named<String>,
    posted: Posted<PlanDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Plans, posted.key.as_ref()).await?;
    let site = lock_live(&change, &site_id).await?;
    let draft = posted.body;
    let id = change.new_id::<Plan>();
    let reference = draft.reference.clone().unwrap_or_else(|| id.clone());
    check_draft(&draft, &reference, &site, &change.tenant(), &app).await?;
    if live_plans(&change.tenant(), &site_id).await?.len() as u64 >= PLANS_MAX {
        return Err(Problem::conflict(format!("a site has at most {PLANS_MAX} plans")));
    }
    let row = Plan { id, site_id, reference, settings: settings(&draft), ..Plan::default() };
    let row = change.insert(row).await.map_err(explain_taken)?;
    let location = format!("/v1/sites/{}/plans/{}", row.site_id, row.id);
    let made = Made { view: view_of(&row)?, version: row.version, location, secret: None };
    made.commit(change).await
}
