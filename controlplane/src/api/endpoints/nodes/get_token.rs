//! `GET /v1/nodes/{node_id}/tokens/{node_token_id}`.
//!
//! In: ids. Out: a node's token, or 404.
//! Always holds: nothing of the token's text but its last four characters.

use axum::extract::State;

use super::{NodeTokenView, token_view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::NodeToken;

/// Show a node token
#[utoipa::path(get, path = "/nodes/{node_id}/tokens/{node_token_id}", tag = "nodes",
    params(("node_id" = String, Path, description = "The node"),
        ("node_token_id" = String, Path, description = "The token")),
    responses((status = 200, description = "The token", body = NodeTokenView), Problems))]
pub async fn get_node_token(
    State(app): State<App>,
    caller: Caller,
    Named((node_id, token_id)): Named<(String, String)>,
) -> Result<Shown<NodeTokenView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Nodes)?;
    let row = tenant.get::<NodeToken>(&token_id).await?.filter(|row| row.node_id == node_id);
    let row = row.ok_or_else(|| Problem::not_found("token of this node"))?;
    Ok(Shown { view: token_view_of(&row), version: row.version })
}
