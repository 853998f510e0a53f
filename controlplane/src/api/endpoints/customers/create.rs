//! `POST /v1/customers`.
//!
//! In: a [`CustomerDraft`]. Out: 201 with the customer.
//! Always holds: its reference is that of no other customer of the account.

use axum::extract::State;
use axum::response::Response;

use super::{CustomerDraft, CustomerView, check_draft, explain_taken, view_of};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Customer;

/// Make a customer
#[utoipa::path(post, path = "/customers", tag = "customers", request_body = CustomerDraft,
    responses((status = 201, description = "The customer", body = CustomerView), Problems))]
pub async fn create_customer(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<CustomerDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Customers, posted.key.as_ref()).await?;
    let settings = check_draft(&posted.body)?;
    let id = change.new_id::<Customer>();
    let reference = posted.body.reference.unwrap_or_else(|| id.clone());
    let row = Customer { id, reference, settings, ..Customer::default() };
    let row = change.insert(row).await.map_err(explain_taken)?;
    let location = format!("/v1/customers/{}", row.id);
    let made = Made { view: view_of(&row)?, version: row.version, location, secret: None };
    made.commit(change).await
}
