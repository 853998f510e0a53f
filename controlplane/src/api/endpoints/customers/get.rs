//! `GET /v1/customers/{customer_id}`.
//!
//! In: an id. Out: a customer, or 404.
//! Always holds: nobody else's is found.

use axum::extract::State;

use super::{CustomerView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Named;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Customer;

/// Read a customer
#[utoipa::path(get, path = "/customers/{customer_id}", tag = "customers",
    params(("customer_id" = String, Path, description = "The customer")),
    responses((status = 200, description = "A customer", body = CustomerView), Problems))]
pub async fn get_customer(
    State(app): State<App>,
    caller: Caller,
    Named(customer_id): Named<String>,
) -> Result<Shown<CustomerView>, Problem> {
    let tenant = app.gate.read(&caller, Area::Customers)?;
    let row = tenant
        .get::<Customer>(&customer_id)
        .await?
        .ok_or_else(|| Problem::not_found("customer"))?;
    Ok(Shown { view: view_of(&row)?, version: row.version })
}
