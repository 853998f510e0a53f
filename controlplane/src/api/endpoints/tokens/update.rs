//! `PATCH /v1/tokens/{token_id}`.
//!
//! In: a merge patch of [`TokenTerms`]. Out: the token as it is then.
//! Always holds: a token that was revoked stays as it is.

use axum::extract::State;

use super::{TokenTerms, TokenView, fill, terms_of, touch, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::endpoints::subscriptions::lock_live;
use crate::api::extract::{IfMatch, Named, Patched};
use crate::api::gate::Caller;
use crate::api::openapi::{PatchOf, Problems};
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Token;

type TokenPatch = PatchOf<TokenTerms>;

/// Change a token: relabel it, let it expire, restrict it
#[utoipa::path(patch, path = "/tokens/{token_id}", tag = "tokens",
    params(("token_id" = String, Path, description = "The token")),
    request_body(content = TokenPatch, content_type = "application/json"),
    responses((status = 200, description = "The token", body = TokenView), Problems))]
pub async fn update_token(
    State(app): State<App>,
    caller: Caller,
    Named(token_id): Named<String>,
    if_match: IfMatch,
    patch: Patched,
) -> Result<Shown<TokenView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Tokens).await?;
    let found = change.tenant().get::<Token>(&token_id).await?;
    let found = found.ok_or_else(|| Problem::not_found("token"))?;
    // The subscription first, as everywhere: two changes then never wait for each other.
    let subscription = lock_live(&change, &found.subscription_id).await?;
    let before = change.lock::<Token>(&token_id).await?;
    let before = before.ok_or_else(|| Problem::not_found("token"))?;
    if_match.check(before.version)?;
    if before.revoked_at_ms.is_some() {
        return Err(Problem::conflict("the token is revoked"));
    }
    let terms = patch.onto(&terms_of(&before))?;
    let mut after = before.clone();
    fill(&mut after, &terms, &change, &app).await?;
    let row = change.update(&before, after).await?;
    touch(&mut change, subscription).await?;
    change.commit().await?;
    Ok(Shown { view: view_of(&row, &caller), version: row.version })
}
