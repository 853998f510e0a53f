//! `DELETE /v1/members/{member_id}`.
//!
//! In: an id. Out: the member, removed.
//! Always holds: the member's keys are refused from the next request on, and never come back: who is made a member
//! again is another one; the last owner stays.

use axum::extract::State;

use super::{MemberView, check_owner_stays, lock_live, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Member;

/// Remove a member
#[utoipa::path(delete, path = "/members/{member_id}", tag = "members",
    params(("member_id" = String, Path, description = "The member")),
    responses((status = 200, description = "The member, removed", body = MemberView), Problems))]
pub async fn remove_member(
    State(app): State<App>,
    caller: Caller,
    Named(member_id): Named<String>,
    if_match: IfMatch,
) -> Result<Shown<MemberView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Members).await?;
    let before = lock_live(&change, &member_id).await?;
    if_match.check(before.version)?;
    check_owner_stays(&before, &change).await?;
    let after = Member { archived_at_ms: Some(change.now_ms()), ..before.clone() };
    let row = change.update(&before, after).await?;
    change.commit().await?;
    Ok(Shown { view: view_of(&row), version: row.version })
}
