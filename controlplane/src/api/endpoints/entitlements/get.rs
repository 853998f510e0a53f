//! `GET /v1/entitlements/{subscription_id}`.
//!
//! In: a subscription's id. Out: what it allows now, or 404.
//! Always holds: nothing is written by looking.

use axum::Json;
use axum::extract::State;

use super::{EntitlementView, plan_and_period, view_of};
use crate::api::App;
use crate::api::endpoints::adjustments::in_force;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Site, Subscription};

/// Read an entitlement
#[utoipa::path(get, path = "/entitlements/{subscription_id}", tag = "entitlements",
    params(("subscription_id" = String, Path, description = "The subscription")),
    responses((status = 200, description = "What it allows now", body = EntitlementView), Problems))]
pub async fn get_entitlement(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
) -> Result<Json<EntitlementView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let row = tenant.get::<Subscription>(&subscription_id).await?;
    let row = row.ok_or_else(|| Problem::not_found("subscription"))?;
    let now_ms = app.world.now_ms();
    let known = plan_and_period(&tenant, &row, now_ms).await?;
    let adjustments = in_force(&tenant, &row.id, now_ms).await?;
    let site = tenant.get::<Site>(&row.site_id).await?;
    let site = site.ok_or_else(|| Problem::not_found("site"))?;
    let account = app.gate.ledger_account(&site, &row).await?;
    Ok(Json(view_of(&row, &known, &adjustments, account.as_ref())))
}
