//! `DELETE /v1/nodes/{node_id}`.
//!
//! In: an id. Out: the node, archived.
//! Always holds: its tokens are refused from then on; what it leased stays counted as used until it is declared dead or reports.

use axum::extract::State;

use super::{NodeView, lock_live, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Node;

/// Archive a node
#[utoipa::path(delete, path = "/nodes/{node_id}", tag = "nodes",
    params(("node_id" = String, Path, description = "The node")),
    responses((status = 200, description = "The node, archived", body = NodeView), Problems))]
pub async fn archive_node(
    State(app): State<App>,
    caller: Caller,
    Named(node_id): Named<String>,
    if_match: IfMatch,
) -> Result<Shown<NodeView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Nodes).await?;
    let before = lock_live(&change, &node_id).await?;
    if_match.check(before.version)?;
    let after = Node { archived_at_ms: Some(change.now_ms()), ..before.clone() };
    let row = change.update(&before, after).await?;
    change.commit().await?;
    Ok(Shown { view: view_of(&row, app.gate.published()), version: row.version })
}
