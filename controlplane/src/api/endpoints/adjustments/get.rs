//! `GET /v1/subscriptions/{subscription_id}/adjustments/{adjustment_id}`.
//!
//! In: ids. Out: an adjustment, or 404.
//! Always holds: nobody else's is found.

use axum::extract::State;

use super::{AdjustmentView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Adjustment;

/// Read an adjustment
#[utoipa::path(get, path = "/subscriptions/{subscription_id}/adjustments/{adjustment_id}", tag = "entitlements",
    params(("subscription_id" = String, Path, description = "The subscription"),
        ("adjustment_id" = String, Path, description = "The adjustment")),
    responses((status = 200, description = "An adjustment", body = AdjustmentView), Problems))]
pub async fn get_adjustment(
    State(app): State<App>,
    caller: Caller,
    Named((subscription_id, adjustment_id)): Named<(String, String)>,
) -> Result<Shown<AdjustmentView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let row = tenant.get::<Adjustment>(&adjustment_id).await?;
    let row = row.filter(|row| row.subscription_id == subscription_id);
    let row = row.ok_or_else(|| Problem::not_found("adjustment of this subscription"))?;
    Ok(Shown { view: view_of(&row), version: row.version })
}
