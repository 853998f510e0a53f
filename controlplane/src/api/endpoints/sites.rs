//! Sites: what their endpoints share.
//!
//! In: rows and drafts. Out: views, checked rows.
//! Always holds: what is stored would be taken by the policy file's reader; values of origin headers are sealed, and
//! in no view.

pub mod archive;
pub mod create;
pub mod get;
pub mod list;
pub mod update;

use std::collections::BTreeMap;

use policy::model;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Serialize;
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::super::App;
use super::super::problem::{Problem, is_taken};
use super::super::time::{shown, shown_opt};
use crate::domain::policy_text::{Fault, Part, SiteText, check};
use crate::domain::private_address::check_host;
use crate::domain::site::{SiteDraft, keys_of};
use crate::storage::{Change, Resource, Site, StorageError, Tenant, column};

/// Resources of a site at most, as in the policy file.
pub const RESOURCES_MAX: u64 = 10_000;

/// A site as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SiteView {
    /// Its id.
    pub id: String,
    #[serde(flatten)]
    draft: SiteDraft,
    /// The names of the headers that are set on requests to the origin; the values are never shown.
    origin_header_names: Vec<String>,
    /// Since when it is archived.
    archived_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// A site's draft with its secrets.
pub fn draft_of(site: &Site, app: &App) -> Result<SiteDraft, Problem> {
    let mut draft: SiteDraft = serde_json::from_str(&site.settings).map_err(damaged)?;
    if let Some(sealed) = &site.sealed_headers {
        let plain = app.keyring.open(&site.id, sealed).map_err(damaged)?;
        draft.origin_headers = Some(serde_json::from_slice(&plain).map_err(damaged)?);
    }
    Ok(draft)
}

/// A row that cannot be read is our fault; what is wrong goes to the log.
pub fn damaged(error: impl std::fmt::Display) -> Problem {
    StorageError::Broken(error.to_string()).into()
}

/// A site as it is shown.
pub fn view_of(site: &Site, app: &App) -> Result<SiteView, Problem> {
    let mut draft = draft_of(site, app)?;
    let headers = draft.origin_headers.take().unwrap_or_default();
    Ok(SiteView {
        id: site.id.clone(),
        draft,
        origin_header_names: headers.into_keys().collect(),
        archived_at: shown_opt(site.archived_at_ms),
        version: site.version,
        created_at: shown(site.created_at_ms),
        updated_at: shown(site.updated_at_ms),
    })
}

/// Checks a draft, together with the resources that the site has.
pub fn check_draft(
    draft: &SiteDraft,
    resources: &[Part],
    app: &App,
) -> Result<model::Site, Problem> {
    let keys = draft.policy_keys();
    let text = SiteText { site: &keys, resources, plans: &[], subscriptions: &[] };
    let site = check(&text, "sites").map_err(Problem::fields)?;
    if !app.settings.allow_private_origins {
        check_host(&site.origin.host).map_err(|message| Problem::field("origin", message))?;
    }
    Ok(site)
}

/// Puts a checked draft into a row: settings without secrets, secrets sealed for the row's id.
pub fn fill(row: &mut Site, mut draft: SiteDraft, app: &App) {
    let headers: BTreeMap<String, String> = draft.origin_headers.take().unwrap_or_default();
    row.sealed_headers = (!headers.is_empty()).then(|| {
        let plain = Json::from_iter(headers.into_iter().map(|(k, v)| (k, Json::from(v))));
        app.keyring.seal(&row.id, plain.to_string().as_bytes(), &*app.world)
    });
    row.slug.clone_from(&draft.slug);
    row.settings = Json::Object(keys_of(&draft)).to_string();
}

/// A site that is not archived.
pub async fn live(tenant: &Tenant<'_>, id: &str) -> Result<Site, Problem> {
    let site = tenant.get::<Site>(id).await?.ok_or_else(|| Problem::not_found("site"))?;
    refuse_archived(&site)?;
    Ok(site)
}

/// A site that is not archived, locked: what changes its parts does so one after another.
pub async fn lock_live(change: &Change, id: &str) -> Result<Site, Problem> {
    let site = change.lock::<Site>(id).await?.ok_or_else(|| Problem::not_found("site"))?;
    refuse_archived(&site)?;
    Ok(site)
}

fn refuse_archived(site: &Site) -> Result<(), Problem> {
    if site.archived_at_ms.is_some() {
        return Err(Problem::conflict("the site is archived; nothing in it can be changed"));
    }
    Ok(())
}

/// The resources of a site that are not archived.
pub async fn resources_of(tenant: &Tenant<'_>, site_id: &str) -> Result<Vec<Resource>, Problem> {
    let rows = tenant.all::<Resource>(RESOURCES_MAX, |query| {
        query
            .filter(column::Resource::SiteId.eq(site_id))
            .filter(column::Resource::ArchivedAtMs.is_null())
    });
    Ok(rows.await?)
}

/// The resources as the policy file has them.
pub fn resource_keys(rows: &[Resource]) -> Result<Vec<Part>, Problem> {
    rows.iter()
        .map(|row| match serde_json::from_str(&row.settings) {
            Ok(keys) => Ok((row.id.clone(), keys)),
            Err(error) => Err(damaged(error)),
        })
        .collect()
}

/// Says which field is taken.
pub fn explain_taken(error: StorageError) -> Problem {
    let fault = if is_taken(&error, "sites_slug", "sites.slug") {
        Fault::new("slug", "another site has this slug; slugs are unique over all sites")
    } else if is_taken(&error, "slug_owners", "slug_owners.slug") {
        Fault::new(
            "slug",
            "another account has or had this slug; a slug stays with its account, since use is counted under it",
        )
    } else if is_taken(&error, "site_hosts", "site_hosts.host") {
        Fault::new("hosts", "another site has one of these hosts; a host belongs to one site")
    } else {
        return error.into();
    };
    Problem::taken(fault)
}
