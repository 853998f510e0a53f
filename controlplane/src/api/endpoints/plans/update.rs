//! `PATCH /v1/sites/{site_id}/plans/{plan_id}`.
//!
//! In: a merge patch of a [`PlanDraft`], and `applies`. Out: the plan as it is then.
//! Always holds: with `applies = "next_period"` a subscription's running period keeps the terms it began with
//! ([`crate::domain::plan_terms`]); the reference stays.

use axum::extract::State;
use serde::Deserialize;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::{PlanView, check_draft, plan_draft, settings, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::endpoints::sites::lock_live;
use crate::api::extract::{IfMatch, Named, Patched};
use crate::api::gate::Caller;
use crate::api::openapi::{PatchOf, Problems};
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::domain::site::PlanDraft;
use crate::storage::{Plan, PlanRevision};

/// When a change of a plan reaches the subscriptions that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Applies {
    /// At once.
    #[default]
    Now,
    /// Each with its next period.
    NextPeriod,
}

/// A merge patch of a plan, with `applies`.
#[derive(Debug)]
pub struct PlanPatch;

impl PartialSchema for PlanPatch {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut object)) = PatchOf::<PlanDraft>::schema() else {
            return RefOr::T(Schema::Object(ObjectBuilder::new().build()));
        };
        object.properties.insert("applies".to_owned(), Applies::schema());
        RefOr::T(Schema::Object(object))
    }
}

impl ToSchema for PlanPatch {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        PlanDraft::schemas(schemas);
    }
}

/// Change a plan
#[utoipa::path(patch, path = "/sites/{site_id}/plans/{plan_id}", tag = "plans",
    params(("site_id" = String, Path, description = "The site"),
        ("plan_id" = String, Path, description = "The plan")),
    request_body(content = PlanPatch, content_type = "application/json"),
    responses((status = 200, description = "The plan", body = PlanView), Problems))]
pub async fn update_plan(
    State(app): State<App>,
    caller: Caller,
    Named((site_id, plan_id)): Named<(String, String)>,
    if_match: IfMatch,
    mut patch: Patched,
) -> Result<Shown<PlanView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Plans).await?;
    let site = lock_live(&change, &site_id).await?;
    let before = change
        .lock::<Plan>(&plan_id)
        .await?
        .filter(|row| row.site_id == site_id && row.archived_at_ms.is_none());
    let before = before.ok_or_else(|| Problem::not_found("plan"))?;
    if_match.check(before.version)?;
    let applies = patch.take::<Applies>("applies")?.unwrap_or_default();
    let is = plan_draft(&before)?;
    let draft = patch.onto(&is)?;
    if draft.reference.as_ref() != Some(&before.reference) {
        return Err(Problem::field("reference", "a plan keeps its reference"));
    }
    check_draft(&draft, &before.reference, &site, &change.tenant(), &app).await?;
    let now_ms = change.now_ms();
    let mut after = Plan { settings: settings(&draft), ..before.clone() };
    // What a plan costs and is called is nothing that running periods know, but for what its spend cap pays for.
    let terms = |draft: &PlanDraft| PlanDraft {
        price: None,
        name: None,
        overage_cap: draft.cap_units(),
        ..draft.clone()
    };
    let is_of_terms = terms(&draft) != terms(&is);
    match applies {
        _ if !is_of_terms => {}
        Applies::Now => after.immediate_from_ms = now_ms,
        Applies::NextPeriod => {
            let kept = PlanRevision {
                plan_id: before.id.clone(),
                settings: before.settings.clone(),
                applies_until_ms: now_ms,
                ..PlanRevision::default()
            };
            change.insert(kept).await?;
        }
    }
    let row = change.update(&before, after).await?;
    let shown = Shown { view: view_of(&row)?, version: row.version };
    change.commit().await?;
    Ok(shown)
}
