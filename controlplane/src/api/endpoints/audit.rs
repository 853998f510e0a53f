//! The audit log: what its endpoints share.
//!
//! In: rows. Out: views.
//! Always holds: an entry shows a row as it was stored, without what is secret or a hash: those never reach the log.

pub mod list;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use utoipa::ToSchema;

use super::sites::damaged;
use crate::api::problem::Problem;
use crate::api::time::shown;
use crate::storage::AuditEntry;

/// One change of one row.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Its id.
    id: String,
    /// When.
    created_at: String,
    /// Who: `admin_key`, `command` or `system`.
    actor_kind: String,
    /// The key's id, or the name of the command or part.
    actor_id: String,
    /// The request it came with, as in `PayFence-Request-Id`.
    request_id: Option<String>,
    /// What was done: the kind of thing, `.`, and `insert` or `update`.
    #[schema(example = "site.update")]
    action: String,
    /// The kind of thing that was changed.
    #[schema(example = "site")]
    resource_kind: String,
    /// Its id.
    resource_id: String,
    /// How it was; null where it is new.
    #[schema(value_type = Option<Object>)]
    before: Option<Map<String, Json>>,
    /// How it is since.
    #[schema(value_type = Option<Object>)]
    after: Option<Map<String, Json>>,
}

/// An entry as it is shown.
pub fn view_of(row: &AuditEntry) -> Result<AuditView, Problem> {
    let facts = |text: &Option<String>| {
        text.as_deref().map(serde_json::from_str).transpose().map_err(damaged)
    };
    Ok(AuditView {
        id: row.id.clone(),
        created_at: shown(row.created_at_ms),
        actor_kind: row.actor_kind.clone(),
        actor_id: row.actor_id.clone(),
        request_id: row.request_id.clone(),
        action: row.action.clone(),
        resource_kind: row.kind.clone(),
        resource_id: row.row_id.clone(),
        before: facts(&row.before)?,
        after: facts(&row.after)?,
    })
}
