//! `DELETE /v1/tokens/{token_id}`.
//!
//! In: an id. Out: the token, revoked.
//! Always holds: it stays revoked; doing it again changes nothing.

use axum::extract::State;

use super::{TokenView, touch, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::notify::{Event, enqueue};
use crate::storage::{Subscription, Token};

/// Revoke a token
#[utoipa::path(delete, path = "/tokens/{token_id}", tag = "tokens",
    params(("token_id" = String, Path, description = "The token")),
    responses((status = 200, description = "The token, revoked", body = TokenView), Problems))]
pub async fn revoke_token(
    State(app): State<App>,
    caller: Caller,
    Named(token_id): Named<String>,
    if_match: IfMatch,
) -> Result<Shown<TokenView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Tokens).await?;
    let found = change.tenant().get::<Token>(&token_id).await?;
    let found = found.ok_or_else(|| Problem::not_found("token"))?;
    let subscription = change.lock::<Subscription>(&found.subscription_id).await?;
    let subscription = subscription.ok_or_else(|| Problem::not_found("subscription"))?;
    let before = change.lock::<Token>(&token_id).await?;
    let before = before.ok_or_else(|| Problem::not_found("token"))?;
    if_match.check(before.version)?;
    if before.revoked_at_ms.is_some() {
        return Ok(Shown { view: view_of(&before, &caller), version: before.version });
    }
    let after = Token { revoked_at_ms: Some(change.now_ms()), ..before.clone() };
    let row = change.update(&before, after).await?;
    enqueue(&mut change, Event::token_revoked(&row)).await?;
    touch(&mut change, subscription).await?;
    change.commit().await?;
    Ok(Shown { view: view_of(&row, &caller), version: row.version })
}
