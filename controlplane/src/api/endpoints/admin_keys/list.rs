//! `GET /v1/admin_keys`.
//!
//! In: a window. Out: admin keys, newest first.
//! Always holds: archived ones are shown only when asked for.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{AdminKeyView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{AdminKey, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct AdminKeyQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Of this member alone.
    member_id: Option<String>,
    /// Revoked ones, too.
    revoked: bool,
}

impl Default for AdminKeyQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, member_id: None, revoked: false }
    }
}

/// List admin keys
#[utoipa::path(get, path = "/admin_keys", tag = "admin_keys", params(AdminKeyQuery),
    responses((status = 200, description = "Admin keys", body = List<AdminKeyView>), Problems))]
pub async fn list_admin_keys(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<AdminKeyQuery>,
) -> Result<Json<List<AdminKeyView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::AdminKeys)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<AdminKey>(window, |mut query| {
        if let Some(id) = &asked.member_id {
            query = query.filter(column::AdminKey::MemberId.eq(id.as_str()));
        }
        if !asked.revoked {
            query = query.filter(column::AdminKey::RevokedAtMs.is_null());
        }
        query
    });
    List::of(page.await?, |row| Ok(view_of(row))).map(Json)
}
