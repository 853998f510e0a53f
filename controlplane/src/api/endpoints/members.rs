//! Members: what their endpoints share.
//!
//! In: rows and drafts. Out: views, checked rows.
//! Always holds: an account has an owner at any time; who is no member any more has no key that works.

pub mod create;
pub mod get;
pub mod list;
pub mod remove;
pub mod update;

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fields::{check_email, check_text_opt};
use crate::api::problem::{Problem, is_taken};
use crate::api::time::{shown, shown_opt};
use crate::domain::permission::Role;
use crate::domain::policy_text::Fault;
use crate::storage::{Account, Change, Member, StorageError, column};

/// What can be said of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberDraft {
    /// An address; unique within the account; kept in lower case.
    #[schema(max_length = 254, pattern = "^[!-?A-~]+@[!-?A-~]+$", example = "kim@weather.example")]
    pub email: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u001f\\u007f-\\u009f]*$"
    )]
    pub name: Option<String>,
    /// What the member and the member's keys may do.
    pub role: Role,
}

/// A member as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MemberView {
    /// The member's id.
    id: String,
    #[serde(flatten)]
    draft: MemberDraft,
    /// Since when this is no member any more.
    removed_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// What a row says.
#[must_use]
pub fn draft_of(row: &Member) -> MemberDraft {
    MemberDraft { email: row.email.clone(), name: row.name.clone(), role: Role::of(&row.role) }
}

/// A member as it is shown.
#[must_use]
pub fn view_of(row: &Member) -> MemberView {
    MemberView {
        id: row.id.clone(),
        draft: draft_of(row),
        removed_at: shown_opt(row.archived_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    }
}

/// Puts a draft into a row, checked.
pub fn fill(row: &mut Member, draft: MemberDraft) -> Result<(), Problem> {
    let mut faults = Vec::new();
    check_text_opt("name", draft.name.as_deref(), &mut faults);
    row.email = check_email(&draft.email, &mut faults);
    row.name = draft.name;
    row.role = draft.role.as_str().to_owned();
    if faults.is_empty() { Ok(()) } else { Err(Problem::fields(faults)) }
}

/// A member, locked, after the account itself: so of two changes that would each leave the other's owner, one waits.
pub async fn lock_live(change: &Change, id: &str) -> Result<Member, Problem> {
    let account_id = change.tenant().account_id().to_owned();
    change.lock::<Account>(&account_id).await?.ok_or_else(|| Problem::not_found("account"))?;
    let row = change.lock::<Member>(id).await?.filter(|row| row.archived_at_ms.is_none());
    row.ok_or_else(|| Problem::not_found("member"))
}

/// Refuses to take the role of the only owner, whose row is locked with its account.
pub async fn check_owner_stays(before: &Member, change: &Change) -> Result<(), Problem> {
    let owner = Role::Owner.as_str();
    if before.role != owner {
        return Ok(());
    }
    let tenant = change.tenant();
    let others = tenant.count::<Member>(|query| {
        query
            .filter(column::Member::Role.eq(owner))
            .filter(column::Member::ArchivedAtMs.is_null())
            .filter(column::Member::Id.ne(before.id.as_str()))
    });
    if others.await? == 0 {
        let detail = "this is the account's only owner; make another member an owner first";
        return Err(Problem::conflict(detail));
    }
    Ok(())
}

/// Says which field is taken.
pub fn explain_taken(error: StorageError) -> Problem {
    if is_taken(&error, "members_email", "members.email") {
        return Problem::taken(Fault::new("email", "another member of this account has it"));
    }
    error.into()
}
