//! The account itself: what its endpoints share.
//!
//! In: rows and drafts. Out: views.
//! Always holds: whoever calls sees the account of the key, and no other.

pub mod get;
pub mod update;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fields::check_text;
use crate::api::problem::Problem;
use crate::api::time::{shown, shown_opt};
use crate::storage::Account;

/// What can be said of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountDraft {
    /// For people.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$",
        example = "Weather Inc."
    )]
    pub name: String,
}

/// An account as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AccountView {
    /// Its id.
    id: String,
    #[serde(flatten)]
    draft: AccountDraft,
    /// Since when it is archived.
    archived_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
    /// The owner's first key, in the answer to the request that made the account, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    secret: Option<String>,
}

/// An account as it is shown.
#[must_use]
pub fn view_of(row: &Account) -> AccountView {
    AccountView {
        id: row.id.clone(),
        draft: AccountDraft { name: row.name.clone() },
        archived_at: shown_opt(row.archived_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
        secret: None,
    }
}

/// Checks a name.
pub fn check(draft: &AccountDraft) -> Result<(), Problem> {
    let mut faults = Vec::new();
    check_text("name", &draft.name, &mut faults);
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}
