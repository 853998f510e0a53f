//! `GET /v1/accounts`.
//!
//! In: a window. Out: every account, newest first.
//! Always holds: only the operator sees them.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::App;
use crate::api::answer::List;
use crate::api::endpoints::account::{AccountView, view_of};
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct AccountQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
}

impl Default for AccountQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None }
    }
}

/// List accounts
#[utoipa::path(get, path = "/accounts", tag = "accounts", params(AccountQuery),
    description = "For a key of the operator's alone.",
    responses((status = 200, description = "Accounts", body = List<AccountView>), Problems))]
pub async fn list_accounts(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<AccountQuery>,
) -> Result<Json<List<AccountView>>, Problem> {
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = app.gate.accounts(&caller, window).await?;
    List::of(page, |row| Ok(view_of(row))).map(Json)
}
