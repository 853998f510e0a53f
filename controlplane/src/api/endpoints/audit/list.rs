//! `GET /v1/audit`.
//!
//! In: a window, what to look for. Out: the account's changes, newest first.
//! Always holds: filters only take away; a time is compared with when the change began.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{AuditView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::endpoints::fields::instant_ms;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{AuditEntry, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Of this kind of thing alone, as entries name it.
    #[param(example = "site")]
    resource_kind: Option<String>,
    /// Of this thing alone.
    resource_id: Option<String>,
    /// By this key or command alone.
    actor_id: Option<String>,
    /// From this time on.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before this time.
    #[param(format = DateTime)]
    until: Option<String>,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self {
            limit: LIMIT_DEFAULT,
            starting_after: None,
            resource_kind: None,
            resource_id: None,
            actor_id: None,
            since: None,
            until: None,
        }
    }
}

/// List changes
#[utoipa::path(get, path = "/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "Changes", body = List<AuditView>), Problems))]
pub async fn list_audit(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<AuditQuery>,
) -> Result<Json<List<AuditView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Audit)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let mut faults = Vec::new();
    let since_ms = instant_ms("since", asked.since.as_deref(), &mut faults);
    let until_ms = instant_ms("until", asked.until.as_deref(), &mut faults);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let page = tenant.page::<AuditEntry>(window, |mut query| {
        if let Some(kind) = &asked.resource_kind {
            query = query.filter(column::AuditEntry::Kind.eq(kind.as_str()));
        }
        if let Some(id) = &asked.resource_id {
            query = query.filter(column::AuditEntry::RowId.eq(id.as_str()));
        }
        if let Some(id) = &asked.actor_id {
            query = query.filter(column::AuditEntry::ActorId.eq(id.as_str()));
        }
        if let Some(at_ms) = since_ms {
            query = query.filter(column::AuditEntry::CreatedAtMs.gte(at_ms));
        }
        if let Some(at_ms) = until_ms {
            query = query.filter(column::AuditEntry::CreatedAtMs.lt(at_ms));
        }
        query
    });
    List::of(page.await?, view_of).map(Json)
}
