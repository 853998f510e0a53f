//! `PATCH /v1/members/{member_id}`.
//!
//! In: a merge patch of a [`MemberDraft`]. Out: the member as it is then.
//! Always holds: a role counts from the next request on, for every key of the member; the last owner stays one.

use axum::extract::State;

use super::{
    MemberDraft, MemberView, check_owner_stays, draft_of, explain_taken, fill, lock_live, view_of,
};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named, Patched};
use crate::api::gate::Caller;
use crate::api::openapi::{PatchOf, Problems};
use crate::api::problem::Problem;
use crate::domain::permission::{Area, Role};

type MemberPatch = PatchOf<MemberDraft>;

/// Change a member
#[utoipa::path(patch, path = "/members/{member_id}", tag = "members",
    params(("member_id" = String, Path, description = "The member")),
    request_body(content = MemberPatch, content_type = "application/json"),
    responses((status = 200, description = "The member", body = MemberView), Problems))]
pub async fn update_member(
    State(app): State<App>,
    caller: Caller,
    Named(member_id): Named<String>,
    if_match: IfMatch,
    patch: Patched,
) -> Result<Shown<MemberView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Members).await?;
    let before = lock_live(&change, &member_id).await?;
    if_match.check(before.version)?;
    let draft = patch.onto(&draft_of(&before))?;
    if draft.role != Role::Owner {
        check_owner_stays(&before, &change).await?;
    }
    let mut after = before.clone();
    fill(&mut after, draft)?;
    let row = change.update(&before, after).await.map_err(explain_taken)?;
    change.commit().await?;
    Ok(Shown { view: view_of(&row), version: row.version })
}
