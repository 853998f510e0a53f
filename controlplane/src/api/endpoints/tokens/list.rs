//! `GET /v1/tokens`.
//!
//! In: a window. Out: tokens, newest first.
//! Always holds: archived ones are shown only when asked for.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{TokenView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Token, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Of this site alone.
    site_id: Option<String>,
    /// Of this subscription alone.
    subscription_id: Option<String>,
    /// Revoked ones, too.
    revoked: bool,
}

impl Default for TokenQuery {
    fn default() -> Self {
        Self {
            limit: LIMIT_DEFAULT,
            starting_after: None,
            site_id: None,
            subscription_id: None,
            revoked: false,
        }
    }
}

/// List tokens
#[utoipa::path(get, path = "/tokens", tag = "tokens", params(TokenQuery),
    responses((status = 200, description = "Tokens", body = List<TokenView>), Problems))]
pub async fn list_tokens(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<TokenQuery>,
) -> Result<Json<List<TokenView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Tokens)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<Token>(window, |mut query| {
        if let Some(id) = &asked.site_id {
            query = query.filter(column::Token::SiteId.eq(id.as_str()));
        }
        if let Some(id) = &asked.subscription_id {
            query = query.filter(column::Token::SubscriptionId.eq(id.as_str()));
        }
        if !asked.revoked {
            query = query.filter(column::Token::RevokedAtMs.is_null());
        }
        query
    });
    List::of(page.await?, |row| Ok(view_of(row, &caller))).map(Json)
}
