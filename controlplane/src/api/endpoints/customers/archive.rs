//! `DELETE /v1/customers/{customer_id}`.
//!
//! In: an id. Out: the customer, archived.
//! Always holds: a customer with subscriptions that are not archived stays.

use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::{CustomerView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Customer, Subscription, column};

/// Archive a customer
#[utoipa::path(delete, path = "/customers/{customer_id}", tag = "customers",
    params(("customer_id" = String, Path, description = "The customer")),
    responses((status = 200, description = "The customer, archived", body = CustomerView), Problems))]
pub async fn archive_customer(
    State(app): State<App>,
    caller: Caller,
    Named(customer_id): Named<String>,
    if_match: IfMatch,
) -> Result<Shown<CustomerView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Customers).await?;
    let before = change.lock::<Customer>(&customer_id).await?;
    let before = before.ok_or_else(|| Problem::not_found("customer"))?;
    if_match.check(before.version)?;
    let in_use = change
        .tenant()
        .count::<Subscription>(|query| {
            query
                .filter(column::Subscription::CustomerId.eq(customer_id.as_str()))
                .filter(column::Subscription::ArchivedAtMs.is_null())
        })
        .await?;
    if in_use > 0 {
        return Err(Problem::conflict(format!(
            "the customer has {in_use} subscriptions; archive them first"
        )));
    }
    let after = Customer { archived_at_ms: Some(change.now_ms()), ..before.clone() };
    let row = change.update(&before, after).await?;
    let shown = Shown { view: view_of(&row)?, version: row.version };
    change.commit().await?;
    Ok(shown)
}
