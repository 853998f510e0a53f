//! Keys for this API: what their endpoints share.
//!
//! In: rows and drafts. Out: views.
//! Always holds: of a key only its hash is kept; its text is in the first answer alone.

pub mod create;
pub mod get;
pub mod list;
pub mod revoke;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::time::{shown, shown_opt};
use crate::domain::permission::Role;
use crate::domain::shapes::Scope;
use crate::storage::AdminKey;

/// What can be said of a key.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminKeyDraft {
    /// For people.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$",
        example = "deploy"
    )]
    pub label: String,
    /// At most the caller's own, and the member's.
    pub role: Role,
    /// The member whose key it is: it is refused once the member is removed, and never may more than the member. Left out: of
    /// whom the calling key is. Only an owner names another.
    pub member_id: Option<String>,
    /// `AREA:read` or `AREA:write`; left out: all that the role may.
    #[schema(max_items = 32, value_type = Option<Vec<Scope>>)]
    pub scopes: Option<Vec<String>>,
    /// From when on it is refused.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// Whether it is the operator's, which makes accounts. Only such a key gives it, to an owner's without scopes.
    #[serde(default)]
    #[schema(default = false)]
    pub is_operator: bool,
}

/// A key as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AdminKeyView {
    /// Its id.
    id: String,
    /// For people.
    label: String,
    /// What it may do, where its member may as much.
    role: Role,
    /// The member whose key it is; null for the account itself.
    member_id: Option<String>,
    /// What narrows the role; null for nothing.
    scopes: Option<Vec<String>>,
    /// What its text begins with.
    prefix: String,
    /// What its text ends with.
    last_four: String,
    /// Whether it is the operator's.
    is_operator: bool,
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
    /// The key itself; in the answer to the request that made it, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    secret: Option<String>,
}

/// A key as it is shown.
#[must_use]
pub fn view_of(key: &AdminKey) -> AdminKeyView {
    AdminKeyView {
        id: key.id.clone(),
        label: key.label.clone(),
        role: Role::of(&key.role),
        member_id: key.member_id.clone(),
        scopes: key.scopes.as_ref().map(|text| serde_json::from_str(text).unwrap_or_default()),
        prefix: key.prefix.clone(),
        last_four: key.last_four.clone(),
        is_operator: key.is_operator,
        expires_at: shown_opt(key.expires_at_ms),
        revoked_at: shown_opt(key.revoked_at_ms),
        version: key.version,
        created_at: shown(key.created_at_ms),
        updated_at: shown(key.updated_at_ms),
        secret: None,
    }
}
