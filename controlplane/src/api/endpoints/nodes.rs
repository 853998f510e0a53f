//! Nodes and their tokens: what their endpoints share.
//!
//! In: rows and drafts. Out: views.
//! Always holds: only the operator's account has nodes, since a node has the policy of every account; of a token only its hash is
//! kept; its text is in the first answer alone.

pub mod archive;
pub mod create;
pub mod create_token;
pub mod declare_dead;
pub mod get;
pub mod get_token;
pub mod list;
pub mod list_tokens;
pub mod revoke_token;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use crate::api::problem::{Problem, is_taken};
use crate::api::time::{shown, shown_opt};
use crate::domain::policy_text::Fault;
use crate::storage::{Change, Node, NodeToken, StorageError};

/// What can be said of a node.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeDraft {
    /// Unique among the nodes that are not archived.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$",
        example = "gateway-1"
    )]
    pub name: String,
}

/// A node as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NodeView {
    /// Its id.
    id: String,
    /// For people.
    name: String,
    /// The last change in force there; 0 before its first report.
    applied_sequence: i64,
    /// Changes that are published and that it has not acknowledged.
    lag: i64,
    /// The base below what is in force there; 0 for none.
    base_sequence: i64,
    /// When it last reported.
    last_seen_at: Option<String>,
    /// The program's version.
    program: Option<String>,
    /// Bases and changes it refused since it started.
    rejected: i64,
    /// Why the last one was refused, unless a good one came after it.
    error: Option<String>,
    /// Since when it counts as gone for good.
    declared_dead_at: Option<String>,
    /// Why it was declared dead.
    declared_dead_reason: Option<String>,
    /// Since when what it had leased counts as used.
    settled_at: Option<String>,
    /// Since when it is archived.
    archived_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// What can be said of a node token.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeTokenDraft {
    /// For people.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub label: Option<String>,
    /// From when on it is refused.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

/// A node token as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NodeTokenView {
    /// Its id.
    id: String,
    /// Its node.
    node_id: String,
    /// For people.
    label: Option<String>,
    /// What its text begins with.
    prefix: String,
    /// What its text ends with.
    last_four: String,
    /// From when on it is refused.
    expires_at: Option<String>,
    /// Since when it is revoked.
    revoked_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
    /// The token itself; in the answer to the request that made it, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    secret: Option<String>,
}

/// A node as it is shown, with this last published change.
#[must_use]
pub fn view_of(row: &Node, head: i64) -> NodeView {
    NodeView {
        id: row.id.clone(),
        name: row.name.clone(),
        applied_sequence: row.applied_sequence,
        lag: head.saturating_sub(row.applied_sequence).max(0),
        base_sequence: row.base_sequence,
        last_seen_at: shown_opt(row.last_seen_at_ms),
        program: row.program.clone(),
        rejected: row.rejected,
        error: row.error.clone(),
        declared_dead_at: shown_opt(row.declared_dead_at_ms),
        declared_dead_reason: death_reason(row),
        settled_at: shown_opt(row.buried_at_ms),
        archived_at: shown_opt(row.archived_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    }
}

fn death_reason(row: &Node) -> Option<String> {
    let settings: Json = serde_json::from_str(&row.settings).ok()?;
    settings.get("declared_dead")?.as_str().map(ToOwned::to_owned)
}

/// A node token as it is shown.
#[must_use]
pub fn token_view_of(row: &NodeToken) -> NodeTokenView {
    NodeTokenView {
        id: row.id.clone(),
        node_id: row.node_id.clone(),
        label: row.label.clone(),
        prefix: row.prefix.clone(),
        last_four: row.last_four.clone(),
        expires_at: shown_opt(row.expires_at_ms),
        revoked_at: shown_opt(row.revoked_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
        secret: None,
    }
}

/// A node that can be changed, locked.
pub async fn lock_live(change: &Change, id: &str) -> Result<Node, Problem> {
    let row = change.lock::<Node>(id).await?.ok_or_else(|| Problem::not_found("node"))?;
    if row.archived_at_ms.is_some() {
        return Err(Problem::conflict("the node is archived"));
    }
    Ok(row)
}

/// Says which field is taken.
pub fn explain_taken(error: StorageError) -> Problem {
    if is_taken(&error, "nodes_name", "nodes.name") {
        return Problem::taken(Fault::new("name", "another node has it"));
    }
    error.into()
}
