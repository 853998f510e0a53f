//! `GET /v1/subscriptions/{subscription_id}`.
//!
//! In: an id. Out: a subscription, or 404.
//! Always holds: nobody else's is found.

use axum::extract::State;

use super::view::{SubscriptionView, shown_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Subscription;

/// Read a subscription
#[utoipa::path(get, path = "/subscriptions/{subscription_id}", tag = "subscriptions",
    params(("subscription_id" = String, Path, description = "The subscription")),
    responses((status = 200, description = "A subscription", body = SubscriptionView), Problems))]
pub async fn get_subscription(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
) -> Result<Shown<SubscriptionView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let row = tenant
        .get::<Subscription>(&subscription_id)
        .await?
        .ok_or_else(|| Problem::not_found("subscription"))?;
    shown_of(&tenant, &caller, &row).await
}
