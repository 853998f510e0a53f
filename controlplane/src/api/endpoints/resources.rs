//! Resources: what their endpoints share.
//!
//! In: rows and drafts. Out: views, checks of a whole site's rules.
//! Always holds: the rules of a site never contradict each other, and no plan names a pattern that is not there.

pub mod archive;
pub mod create;
pub mod get;
pub mod list;
pub mod update;

use serde::Serialize;
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::plans::{live_plans, plan_keys};
use super::sites::{damaged, draft_of};
use crate::api::App;
use crate::api::problem::Problem;
use crate::api::time::{shown, shown_opt};
use crate::domain::policy_text::{Fault, Part, SiteText, check};
use crate::domain::site::{ResourceDraft, keys_of};
use crate::storage::{Resource, Site, Tenant};

/// A resource as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResourceView {
    /// Its id.
    id: String,
    /// Its site.
    site_id: String,
    #[serde(flatten)]
    draft: ResourceDraft,
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
pub fn resource_draft(row: &Resource) -> Result<ResourceDraft, Problem> {
    serde_json::from_str(&row.settings).map_err(damaged)
}

/// A resource as it is shown.
pub fn view_of(row: &Resource) -> Result<ResourceView, Problem> {
    Ok(ResourceView {
        id: row.id.clone(),
        site_id: row.site_id.clone(),
        draft: resource_draft(row)?,
        archived_at: shown_opt(row.archived_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    })
}

/// Checks a site with these resources and the plans it has.
pub async fn check_rules(
    site: &Site,
    resources: &[Part],
    tenant: &Tenant<'_>,
    app: &App,
) -> Result<(), Problem> {
    let keys = draft_of(site, app)?.policy_keys();
    let plans = plan_keys(&live_plans(tenant, &site.id).await?)?;
    let text = SiteText { site: &keys, resources, plans: &plans, subscriptions: &[] };
    let Err(faults) = check(&text, "sites.resources") else { return Ok(()) };
    let of_plans: Vec<&Fault> =
        faults.iter().filter(|fault| fault.field.starts_with("plans.")).collect();
    if of_plans.is_empty() || of_plans.len() < faults.len() {
        return Err(Problem::fields(faults));
    }
    Err(Problem::conflict("a plan names this pattern in its `resources`; take it out there first"))
}

/// The row's settings.
#[must_use]
pub fn settings(draft: &ResourceDraft) -> String {
    Json::Object(keys_of(draft)).to_string()
}
