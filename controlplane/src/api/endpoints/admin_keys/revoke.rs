//! `DELETE /v1/admin_keys/{admin_key_id}`.
//!
//! In: an id. Out: the key, revoked.
//! Always holds: it is refused from the next request on; nobody revokes a key of a role above their own; one that is
//! revoked stays so.

use axum::extract::State;

use super::{AdminKeyView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::{Area, Role};
use crate::storage::AdminKey;

/// Revoke an admin key
#[utoipa::path(delete, path = "/admin_keys/{admin_key_id}", tag = "admin_keys",
    params(("admin_key_id" = String, Path, description = "The key")),
    responses((status = 200, description = "The key, revoked", body = AdminKeyView), Problems))]
pub async fn revoke_admin_key(
    State(app): State<App>,
    caller: Caller,
    Named(admin_key_id): Named<String>,
    if_match: IfMatch,
) -> Result<Shown<AdminKeyView>, Problem> {
    let mut change = app.gate.write(&caller, Area::AdminKeys).await?;
    let before = change.lock::<AdminKey>(&admin_key_id).await?;
    let before = before.ok_or_else(|| Problem::not_found("admin key"))?;
    if_match.check(before.version)?;
    if !caller.role().may_give(Role::of(&before.role)) {
        return Err(Problem::forbidden("the key has a role above the caller's own"));
    }
    if before.revoked_at_ms.is_some() {
        return Ok(Shown { view: view_of(&before), version: before.version });
    }
    let after = AdminKey { revoked_at_ms: Some(change.now_ms()), ..before.clone() };
    let key = change.update(&before, after).await?;
    change.commit().await?;
    Ok(Shown { view: view_of(&key), version: key.version })
}
