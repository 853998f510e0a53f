//! `POST /v1/tokens/{token_id}/rotate`.
//!
//! In: how long the old one goes on. Out: 201 with a second token's text, once.
//! Always holds: the new one has the old one's restrictions; both work until the old one's expiry, which never moves
//! later by this.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::create::new_token;
use super::{TokenMode, TokenView, explain_taken, touch, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::fields::{expiry_ms, instant_ms};
use crate::api::endpoints::subscriptions::lock_live;
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::notify::{Event, enqueue};
use crate::storage::Token;

/// How long the old token goes on where nobody says: a day.
const OVERLAP_S_DEFAULT: i64 = 86_400;
/// A year.
const OVERLAP_S_MAX: i64 = 366 * 86_400;

/// How to rotate.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How long the old token goes on; a day where it is left out.
    #[schema(minimum = 0, maximum = 31_622_400)]
    pub overlap_seconds: Option<i64>,
    /// From when on the new token is refused; left out: never.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

/// Rotate a token
#[utoipa::path(post, path = "/tokens/{token_id}/rotate", tag = "tokens", request_body = Rotation,
    params(("token_id" = String, Path, description = "The old token")),
    responses((status = 201, description = "The new token; its text is in `secret`, once", body = TokenView), Problems))]
pub async fn rotate_token(
    State(app): State<App>,
    caller: Caller,
    Named(token_id): Named<String>,
    posted: Posted<Rotation>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Tokens, posted.key.as_ref()).await?;
    let found = change.tenant().get::<Token>(&token_id).await?;
    let found = found.ok_or_else(|| Problem::not_found("token"))?;
    let subscription = lock_live(&change, &found.subscription_id).await?;
    let old = change.lock::<Token>(&token_id).await?;
    let old = old.ok_or_else(|| Problem::not_found("token"))?;
    let now_ms = change.now_ms();
    let is_over = old.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
    if old.revoked_at_ms.is_some() || old.rotated_to.is_some() || is_over {
        return Err(Problem::conflict(
            "the token is revoked, expired or rotated already; issue a new one",
        ));
    }
    let ends_ms = check(&posted.body, now_ms)?;
    let mut faults = Vec::new();
    let expires_at_ms = instant_ms("expires_at", posted.body.expires_at.as_deref(), &mut faults);
    let mode = if old.prefix.ends_with("test_") { TokenMode::Test } else { TokenMode::Live };
    let (text, row) = new_token(&subscription, mode, &*app.world);
    let id = change.new_id::<Token>();
    let row = Token {
        reference: id.clone(),
        id,
        label: old.label.clone(),
        allow_from: old.allow_from.clone(),
        resources: old.resources.clone(),
        expires_at_ms,
        ..row
    };
    let row = change.insert(row).await.map_err(explain_taken)?;
    let after = Token {
        expires_at_ms: Some(old.expires_at_ms.map_or(ends_ms, |at_ms| at_ms.min(ends_ms))),
        rotated_to: Some(row.id.clone()),
        ..old.clone()
    };
    change.update(&old, after).await?;
    enqueue(&mut change, Event::token_issued(&row, Some(&old.id))).await?;
    touch(&mut change, subscription).await?;
    let location = format!("/v1/tokens/{}", row.id);
    let made =
        Made { view: view_of(&row, &caller), version: row.version, location, secret: Some(text) };
    made.commit(change).await
}

/// When the old token ends, Unix milliseconds.
fn check(rotation: &Rotation, now_ms: i64) -> Result<i64, Problem> {
    let mut faults = Vec::new();
    expiry_ms("expires_at", rotation.expires_at.as_deref(), now_ms, &mut faults);
    let overlap_s = rotation.overlap_seconds.unwrap_or(OVERLAP_S_DEFAULT);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    if !(0..=OVERLAP_S_MAX).contains(&overlap_s) {
        let message = format!("expected an integer from 0 to {OVERLAP_S_MAX}");
        return Err(Problem::field("overlap_seconds", message));
    }
    Ok(now_ms.saturating_add(overlap_s.saturating_mul(1_000)))
}
