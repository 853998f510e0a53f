//! `GET /v1/stripe/reversals`.
//!
//! In: a window, what to look for. Out: refunds and disputes, newest first.
//! Always holds: filters only take away.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{ReversalKind, ReversalView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{StripeReversal, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ReversalQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Of this kind alone.
    #[param(inline)]
    kind: Option<ReversalKind>,
    /// Of this subscription alone.
    subscription_id: Option<String>,
}

impl Default for ReversalQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, kind: None, subscription_id: None }
    }
}

/// List refunds and disputes
#[utoipa::path(get, path = "/stripe/reversals", tag = "billing", params(ReversalQuery),
    responses((status = 200, description = "Money that went back", body = List<ReversalView>), Problems))]
pub async fn list_reversals(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<ReversalQuery>,
) -> Result<Json<List<ReversalView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<StripeReversal>(window, |mut query| {
        if let Some(kind) = asked.kind {
            query = query.filter(column::StripeReversal::Kind.eq(kind.as_str()));
        }
        if let Some(id) = &asked.subscription_id {
            query = query.filter(column::StripeReversal::SubscriptionId.eq(id.as_str()));
        }
        query
    });
    List::of(page.await?, |row| Ok(view_of(row))).map(Json)
}
