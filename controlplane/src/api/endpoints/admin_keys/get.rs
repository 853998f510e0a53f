//! `GET /v1/admin_keys/{admin_key_id}`.
//!
//! In: an id. Out: an admin key, or 404.
//! Always holds: nobody else's is found.

use axum::extract::State;

use super::{AdminKeyView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::AdminKey;

/// Read an admin key
#[utoipa::path(get, path = "/admin_keys/{admin_key_id}", tag = "admin_keys",
    params(("admin_key_id" = String, Path, description = "The key")),
    responses((status = 200, description = "An admin key", body = AdminKeyView), Problems))]
pub async fn get_admin_key(
    State(app): State<App>,
    caller: Caller,
    Named(admin_key_id): Named<String>,
) -> Result<Shown<AdminKeyView>, Problem> {
    let tenant = app.gate.read(&caller, Area::AdminKeys)?;
    let row = tenant
        .get::<AdminKey>(&admin_key_id)
        .await?
        .ok_or_else(|| Problem::not_found("admin key"))?;
    Ok(Shown { view: view_of(&row), version: row.version })
}
