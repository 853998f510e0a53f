//! `POST /v1/nodes`.
//!
//! In: a [`NodeDraft`]. Out: 201 with the node, which needs a token before it can come.
//! Always holds: nodes are the operator's.

use axum::extract::State;
use axum::response::Response;

use super::{NodeDraft, NodeView, explain_taken, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::endpoints::fields::check_text;
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Node;

/// Make a node
#[utoipa::path(post, path = "/nodes", tag = "nodes", request_body = NodeDraft,
    responses((status = 201, description = "The node", body = NodeView), Problems))]
pub async fn create_node(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<NodeDraft>,
) -> Result<Response, Problem> {
    app.gate.check_operators(&caller).await?;
    let mut change = app.gate.write_once(&caller, Area::Nodes, posted.key.as_ref()).await?;
    let mut faults = Vec::new();
    check_text("name", &posted.body.name, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let row = Node { name: posted.body.name, settings: "{}".to_owned(), ..Node::default() };
    let node = change.insert(row).await.map_err(explain_taken)?;
    let location = format!("/v1/nodes/{}", node.id);
    let view = view_of(&node, app.gate.published());
    let made = Made { view, version: node.version, location, secret: None };
    made.commit(change).await
}
