//! `GET /v1/nodes/{node_id}`.
//!
//! In: an id. Out: the node with what it last reported.
//! Always holds: its lag is behind what this control plane has published.

use axum::extract::State;

use super::{NodeView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Node;

/// Show a node
#[utoipa::path(get, path = "/nodes/{node_id}", tag = "nodes",
    params(("node_id" = String, Path, description = "The node")),
    responses((status = 200, description = "The node", body = NodeView), Problems))]
pub async fn get_node(
    State(app): State<App>,
    caller: Caller,
    Named(node_id): Named<String>,
) -> Result<Shown<NodeView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Nodes)?;
    let row = tenant.get::<Node>(&node_id).await?.ok_or_else(|| Problem::not_found("node"))?;
    Ok(Shown { view: view_of(&row, app.gate.published()), version: row.version })
}
