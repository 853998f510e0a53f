//! `POST /v1/nodes/{node_id}/declare_dead`.
//!
//! In: an id, why. Out: the node, declared dead.
//! Always holds: it never comes back under this name; what it had leased counts as used, so that nothing is given twice, and nobody
//! waits for it any more.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{NodeView, view_of};
use crate::api::App;
use crate::api::answer::{Shown, commit_shown};
use crate::api::endpoints::fields::check_text_opt;
use crate::api::extract::{Named, Posted};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Node;

/// Why a node is declared dead.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeDeath {
    /// For the audit log.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub reason: Option<String>,
}

/// Declare a node dead
#[utoipa::path(post, path = "/nodes/{node_id}/declare_dead", tag = "nodes", request_body = NodeDeath,
    params(("node_id" = String, Path, description = "The node")),
    responses((status = 200, description = "The node, declared dead", body = NodeView), Problems))]
pub async fn declare_node_dead(
    State(app): State<App>,
    caller: Caller,
    Named(node_id): Named<String>,
    posted: Posted<NodeDeath>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Nodes, posted.key.as_ref()).await?;
    // An archived one, too: what it had leased waits for this.
    let before = change.lock::<Node>(&node_id).await?;
    let before = before.ok_or_else(|| Problem::not_found("node"))?;
    let mut faults = Vec::new();
    check_text_opt("reason", posted.body.reason.as_deref(), &mut faults);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let at_ms = before.declared_dead_at_ms.or(Some(change.now_ms()));
    let settings = json!({ "declared_dead": posted.body.reason }).to_string();
    let after = Node { declared_dead_at_ms: at_ms, settings, ..before.clone() };
    let row = change.update(&before, after).await?;
    let view = view_of(&row, app.gate.published());
    commit_shown(change, Shown { view, version: row.version }).await
}
