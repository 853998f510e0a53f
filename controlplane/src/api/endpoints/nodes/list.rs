//! `GET /v1/nodes`.
//!
//! In: a window. Out: nodes with what they last reported, newest first.
//! Always holds: archived ones are shown only when asked for.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{NodeView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Node, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct NodeQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Archived ones, too.
    archived: bool,
}

impl Default for NodeQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, archived: false }
    }
}

/// List nodes
#[utoipa::path(get, path = "/nodes", tag = "nodes", params(NodeQuery),
    responses((status = 200, description = "Nodes", body = List<NodeView>), Problems))]
pub async fn list_nodes(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<NodeQuery>,
) -> Result<Json<List<NodeView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Nodes)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<Node>(window, |query| match asked.archived {
        true => query,
        false => query.filter(column::Node::ArchivedAtMs.is_null()),
    });
    let (page, head) = (page.await?, app.gate.published());
    List::of(page, |row| Ok(view_of(row, head))).map(Json)
}
