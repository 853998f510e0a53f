//! `GET /v1/checkouts/{checkout_id}`.
//!
//! In: an id. Out: a checkout, or 404.
//! Always holds: nobody else's is found.

use axum::extract::State;

use super::{CheckoutView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Checkout;

/// Read a checkout
#[utoipa::path(get, path = "/checkouts/{checkout_id}", tag = "billing",
    params(("checkout_id" = String, Path, description = "The checkout")),
    responses((status = 200, description = "A checkout", body = CheckoutView), Problems))]
pub async fn get_checkout(
    State(app): State<App>,
    caller: Caller,
    Named(checkout_id): Named<String>,
) -> Result<Shown<CheckoutView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let row = tenant.get::<Checkout>(&checkout_id).await?;
    let row = row.ok_or_else(|| Problem::not_found("checkout"))?;
    Ok(Shown { view: view_of(&row, &caller)?, version: row.version })
}
