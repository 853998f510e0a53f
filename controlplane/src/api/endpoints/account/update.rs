//! `PATCH /v1/account`.
//!
//! In: a merge patch of an [`AccountDraft`]. Out: the account as it is then.
//! Always holds: only an owner changes it.

use axum::extract::State;

use super::{AccountDraft, AccountView, check, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Patched};
use crate::api::gate::Caller;
use crate::api::openapi::{PatchOf, Problems};
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Account;

type AccountPatch = PatchOf<AccountDraft>;

/// Change the account
#[utoipa::path(patch, path = "/account", tag = "account",
    request_body(content = AccountPatch, content_type = "application/json"),
    responses((status = 200, description = "The account", body = AccountView), Problems))]
pub async fn update_account(
    State(app): State<App>,
    caller: Caller,
    if_match: IfMatch,
    patch: Patched,
) -> Result<Shown<AccountView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Account).await?;
    let before = change.lock::<Account>(caller.account_id()).await?;
    let before = before.ok_or_else(|| Problem::not_found("account"))?;
    if_match.check(before.version)?;
    let draft = patch.onto(&AccountDraft { name: before.name.clone() })?;
    check(&draft)?;
    let row = change.update(&before, Account { name: draft.name, ..before.clone() }).await?;
    change.commit().await?;
    Ok(Shown { view: view_of(&row), version: row.version })
}
