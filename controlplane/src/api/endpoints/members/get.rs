//! `GET /v1/members/{member_id}`.
//!
//! In: an id. Out: a member, or 404.
//! Always holds: nobody else's is found.

use axum::extract::State;

use super::{MemberView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Member;

/// Read a member
#[utoipa::path(get, path = "/members/{member_id}", tag = "members",
    params(("member_id" = String, Path, description = "The member")),
    responses((status = 200, description = "A member", body = MemberView), Problems))]
pub async fn get_member(
    State(app): State<App>,
    caller: Caller,
    Named(member_id): Named<String>,
) -> Result<Shown<MemberView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Members)?;
    let row = tenant.get::<Member>(&member_id).await?;
    let row = row.ok_or_else(|| Problem::not_found("member"))?;
    Ok(Shown { view: view_of(&row), version: row.version })
}
