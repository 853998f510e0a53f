//! `GET /v1/sites/{site_id}/plans/{plan_id}/prices`.
//!
//! In: a window. Out: what the plan is and was at Stripe, newest first.
//! Always holds: what was changed there by hand is shown, and left so.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, Named, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::api::time::{shown, shown_opt};
use crate::billing::stripe::Mode;
use crate::domain::permission::Area;
use crate::storage::{Plan, PlanPrice, column};

/// What a plan is at Stripe.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PlanPriceView {
    /// Its id.
    id: String,
    /// Test or live.
    mode: Mode,
    /// The product.
    product_id: String,
    /// What is paid in advance.
    price_id: Option<String>,
    /// What overage is paid through.
    metered_price_id: Option<String>,
    /// What counts overage.
    meter_id: Option<String>,
    /// What is otherwise at Stripe than here: what, and how.
    drift: BTreeMap<String, String>,
    /// Since when another price is in force.
    retired_at: Option<String>,
    /// When it was made.
    created_at: String,
}

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PlanPriceQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
}

impl Default for PlanPriceQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None }
    }
}

/// List what a plan is at Stripe
#[utoipa::path(get, path = "/sites/{site_id}/plans/{plan_id}/prices", tag = "billing",
    params(("site_id" = String, Path, description = "The site"),
        ("plan_id" = String, Path, description = "The plan"), PlanPriceQuery),
    responses((status = 200, description = "Prices", body = List<PlanPriceView>), Problems))]
pub async fn list_plan_prices(
    State(app): State<App>,
    caller: Caller,
    Named((site_id, plan_id)): Named<(String, String)>,
    Asked(asked): Asked<PlanPriceQuery>,
) -> Result<Json<List<PlanPriceView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Plans)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let plan = tenant.get::<Plan>(&plan_id).await?.filter(|plan| plan.site_id == site_id);
    plan.ok_or_else(|| Problem::not_found("plan"))?;
    let page = tenant.page::<PlanPrice>(window, |query| {
        query.filter(column::PlanPrice::PlanId.eq(plan_id.as_str()))
    });
    List::of(page.await?, |row| Ok(view_of(row))).map(Json)
}

fn view_of(row: &PlanPrice) -> PlanPriceView {
    PlanPriceView {
        id: row.id.clone(),
        mode: Mode::of(&row.mode).unwrap_or_default(),
        product_id: row.product_id.clone(),
        price_id: row.price_id.clone(),
        metered_price_id: row.metered_price_id.clone(),
        meter_id: row.meter_id.clone(),
        drift: row
            .drift
            .as_ref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
        retired_at: shown_opt(row.retired_at_ms),
        created_at: shown(row.created_at_ms),
    }
}
