//! Plans: what their endpoints share.
//!
//! In: rows and drafts. Out: views, checks.
//! Always holds: what is stored would be taken by the policy file's reader together with the site's resources.

pub mod archive;
pub mod create;
pub mod get;
pub mod list;
pub mod prices;
pub mod sync;
pub mod update;

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Serialize;
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::fields::{check_reference, check_text_opt};
use super::sites::{damaged, draft_of, resource_keys, resources_of};
use crate::api::App;
use crate::api::problem::{Problem, is_taken};
use crate::api::time::{shown, shown_opt};
use crate::domain::policy_text::{Fault, Part, SiteText, check};
use crate::domain::site::{PlanDraft, keys_of};
use crate::storage::{Plan, Site, StorageError, Tenant, column};

/// Plans of a site at most, as in the policy file.
pub const PLANS_MAX: u64 = 10_000;

/// A plan as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PlanView {
    /// Its id.
    id: String,
    /// Its site.
    site_id: String,
    #[serde(flatten)]
    draft: PlanDraft,
    /// Since when it is archived.
    archived_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// What a row says.
pub fn plan_draft(row: &Plan) -> Result<PlanDraft, Problem> {
    let draft: PlanDraft = serde_json::from_str(&row.settings).map_err(damaged)?;
    Ok(PlanDraft { reference: Some(row.reference.clone()), ..draft })
}

/// A plan as it is shown.
pub fn view_of(row: &Plan) -> Result<PlanView, Problem> {
    Ok(PlanView {
        id: row.id.clone(),
        site_id: row.site_id.clone(),
        draft: plan_draft(row)?,
        archived_at: shown_opt(row.archived_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    })
}

/// The row's settings: all but its reference, which has a column.
#[must_use]
pub fn settings(draft: &PlanDraft) -> String {
    let mut keys = keys_of(draft);
    keys.remove("reference");
    Json::Object(keys).to_string()
}

/// The plans of a site that are not archived.
pub async fn live_plans(tenant: &Tenant<'_>, site_id: &str) -> Result<Vec<Plan>, Problem> {
    let rows = tenant.all::<Plan>(PLANS_MAX, |query| {
        query.filter(column::Plan::SiteId.eq(site_id)).filter(column::Plan::ArchivedAtMs.is_null())
    });
    Ok(rows.await?)
}

/// The plans as the policy file has them.
pub fn plan_keys(rows: &[Plan]) -> Result<Vec<Part>, Problem> {
    rows.iter()
        .map(|row| Ok((row.id.clone(), plan_draft(row)?.policy_keys(&row.reference))))
        .collect()
}

/// Checks a draft together with the site's resources.
pub async fn check_draft(
    draft: &PlanDraft,
    reference: &str,
    site: &Site,
    tenant: &Tenant<'_>,
    app: &App,
) -> Result<(), Problem> {
    let mut faults = Vec::new();
    check_text_opt("name", draft.name.as_deref(), &mut faults);
    check_reference(Some(reference), &mut faults);
    if let Some(price) = &draft.price {
        price.check(draft.overage, &mut faults);
    }
    let keys = draft_of(site, app)?.policy_keys();
    let resources = resource_keys(&resources_of(tenant, &site.id).await?)?;
    let plans = [(reference.to_owned(), draft.policy_keys(reference))];
    let text = SiteText { site: &keys, resources: &resources, plans: &plans, subscriptions: &[] };
    if let Err(found) = check(&text, "sites.plans") {
        faults.extend(found.into_iter().filter(|fault| fault.field != "id"));
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}

/// Says which field is taken.
pub fn explain_taken(error: StorageError) -> Problem {
    if is_taken(&error, "plans_reference", "plans.reference") {
        return Problem::taken(Fault::new("reference", "another plan of this site has it"));
    }
    error.into()
}
