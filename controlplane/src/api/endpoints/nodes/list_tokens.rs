//! `GET /v1/nodes/{node_id}/tokens`.
//!
//! In: a window. Out: a node's tokens, newest first, revoked ones too.
//! Always holds: nothing of a token's text but its last four characters.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{NodeTokenView, token_view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, Named, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Node, NodeToken, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct NodeTokenQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
}

impl Default for NodeTokenQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None }
    }
}

/// List a node's tokens
#[utoipa::path(get, path = "/nodes/{node_id}/tokens", tag = "nodes",
    params(("node_id" = String, Path, description = "The node"), NodeTokenQuery),
    responses((status = 200, description = "Tokens", body = List<NodeTokenView>), Problems))]
pub async fn list_node_tokens(
    State(app): State<App>,
    caller: Caller,
    Named(node_id): Named<String>,
    Asked(asked): Asked<NodeTokenQuery>,
) -> Result<Json<List<NodeTokenView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Nodes)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    if tenant.get::<Node>(&node_id).await?.is_none() {
        return Err(Problem::not_found("node"));
    }
    let page = tenant.page::<NodeToken>(window, |query| {
        query.filter(column::NodeToken::NodeId.eq(node_id.as_str()))
    });
    List::of(page.await?, |row| Ok(token_view_of(row))).map(Json)
}
