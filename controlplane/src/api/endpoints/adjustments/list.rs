//! `GET /v1/subscriptions/{subscription_id}/adjustments`.
//!
//! In: a window. Out: a subscription's adjustments, newest first, those that count no more too.
//! Always holds: a subscription of somebody else's is not found.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{AdjustmentView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, Named, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Adjustment, Subscription, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct AdjustmentQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
}

impl Default for AdjustmentQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None }
    }
}

/// List adjustments
#[utoipa::path(get, path = "/subscriptions/{subscription_id}/adjustments", tag = "entitlements",
    params(("subscription_id" = String, Path, description = "The subscription"), AdjustmentQuery),
    responses((status = 200, description = "Adjustments", body = List<AdjustmentView>), Problems))]
pub async fn list_adjustments(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    Asked(asked): Asked<AdjustmentQuery>,
) -> Result<Json<List<AdjustmentView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    if tenant.get::<Subscription>(&subscription_id).await?.is_none() {
        return Err(Problem::not_found("subscription"));
    }
    let page = tenant.page::<Adjustment>(window, |query| {
        query.filter(column::Adjustment::SubscriptionId.eq(subscription_id.as_str()))
    });
    List::of(page.await?, |row| Ok(view_of(row))).map(Json)
}
