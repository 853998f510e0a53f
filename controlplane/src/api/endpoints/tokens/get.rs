//! `GET /v1/tokens/{token_id}`.
//!
//! In: an id. Out: a token, or 404.
//! Always holds: nobody else's is found.

use axum::extract::State;

use super::{TokenView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Token;

/// Read a token
#[utoipa::path(get, path = "/tokens/{token_id}", tag = "tokens",
    params(("token_id" = String, Path, description = "The token")),
    responses((status = 200, description = "A token", body = TokenView), Problems))]
pub async fn get_token(
    State(app): State<App>,
    caller: Caller,
    Named(token_id): Named<String>,
) -> Result<Shown<TokenView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Tokens)?;
    let row = tenant.get::<Token>(&token_id).await?.ok_or_else(|| Problem::not_found("token"))?;
    Ok(Shown { view: view_of(&row, &caller), version: row.version })
}
