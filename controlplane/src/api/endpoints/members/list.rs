//! `GET /v1/members`.
//!
//! In: a window. Out: members, newest first.
//! Always holds: who was removed is shown only when asked for.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{MemberView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::{Area, Role};
use crate::storage::{Member, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct MemberQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Of this role alone.
    #[param(inline)]
    role: Option<Role>,
    /// Removed ones, too.
    removed: bool,
}

impl Default for MemberQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, role: None, removed: false }
    }
}

/// List members
#[utoipa::path(get, path = "/members", tag = "members", params(MemberQuery),
    responses((status = 200, description = "Members", body = List<MemberView>), Problems))]
pub async fn list_members(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<MemberQuery>,
) -> Result<Json<List<MemberView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Members)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<Member>(window, |mut query| {
        if let Some(role) = asked.role {
            query = query.filter(column::Member::Role.eq(role.as_str()));
        }
        if !asked.removed {
            query = query.filter(column::Member::ArchivedAtMs.is_null());
        }
        query
    });
    List::of(page.await?, |row| Ok(view_of(row))).map(Json)
}
