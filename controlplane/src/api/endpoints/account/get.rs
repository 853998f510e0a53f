//! `GET /v1/account`.
//!
//! In: nothing but the key. Out: its account.
//! Always holds: a key that is good has an account.

use axum::extract::State;

use super::{AccountView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Account;

/// Read the account
#[utoipa::path(get, path = "/account", tag = "account",
    responses((status = 200, description = "The account of the calling key", body = AccountView), Problems))]
pub async fn get_account(
    State(app): State<App>,
    caller: Caller,
) -> Result<Shown<AccountView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Account)?;
    let row = tenant.get::<Account>(caller.account_id()).await?;
    let row = row.ok_or_else(|| Problem::not_found("account"))?;
    Ok(Shown { view: view_of(&row), version: row.version })
}
