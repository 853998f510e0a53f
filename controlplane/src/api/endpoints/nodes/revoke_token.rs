//! `DELETE /v1/nodes/{node_id}/tokens/{node_token_id}`.
//!
//! In: ids. Out: the token, revoked.
//! Always holds: whoever is connected with it is cut off within a second.

use axum::extract::State;

use super::{NodeTokenView, token_view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::NodeToken;

/// Revoke a node token
#[utoipa::path(delete, path = "/nodes/{node_id}/tokens/{node_token_id}", tag = "nodes",
    params(("node_id" = String, Path, description = "The node"),
        ("node_token_id" = String, Path, description = "The token")),
    responses((status = 200, description = "The token, revoked", body = NodeTokenView), Problems))]
pub async fn revoke_node_token(
    State(app): State<App>,
    caller: Caller,
    Named((node_id, token_id)): Named<(String, String)>,
    if_match: IfMatch,
) -> Result<Shown<NodeTokenView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Nodes).await?;
    let before = change.lock::<NodeToken>(&token_id).await?;
    let before = before
        .filter(|row| row.node_id == node_id)
        .ok_or_else(|| Problem::not_found("token of this node"))?;
    if_match.check(before.version)?;
    let at_ms = before.revoked_at_ms.or(Some(change.now_ms()));
    let after = NodeToken { revoked_at_ms: at_ms, ..before.clone() };
    let row = change.update(&before, after).await?;
    change.commit().await?;
    Ok(Shown { view: token_view_of(&row), version: row.version })
}
