//! `POST /v1/members`.
//!
//! In: a [`MemberDraft`]. Out: 201 with the member.
//! Always holds: only an owner makes members.

use axum::extract::State;
use axum::response::Response;

use super::{MemberDraft, MemberView, explain_taken, fill, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Member;

/// Make a member
#[utoipa::path(post, path = "/members", tag = "members", request_body = MemberDraft,
    responses((status = 201, description = "The member", body = MemberView), Problems))]
pub async fn create_member(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<MemberDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Members, posted.key.as_ref()).await?;
    let mut row = Member::default();
    fill(&mut row, posted.body)?;
    let row = change.insert(row).await.map_err(explain_taken)?;
    let location = format!("/v1/members/{}", row.id);
    Made { view: view_of(&row), version: row.version, location, secret: None }.commit(change).await
}
