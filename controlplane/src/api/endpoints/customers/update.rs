//! `PATCH /v1/customers/{customer_id}`.
//!
//! In: a merge patch of a [`CustomerDraft`]. Out: the customer as it is then.
//! Always holds: the reference stays, since the log and origins know it.

use axum::extract::State;

use super::{CustomerDraft, CustomerView, check_draft, customer_draft, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{IfMatch, Named, Patched};
use crate::api::gate::Caller;
use crate::api::openapi::{PatchOf, Problems};
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::Customer;

type CustomerPatch = PatchOf<CustomerDraft>;

/// Change a customer
#[utoipa::path(patch, path = "/customers/{customer_id}", tag = "customers",
    params(("customer_id" = String, Path, description = "The customer")),
    request_body(content = CustomerPatch, content_type = "application/json"),
    responses((status = 200, description = "The customer", body = CustomerView), Problems))]
pub async fn update_customer(
    State(app): State<App>,
    caller: Caller,
    Named(customer_id): Named<String>,
    if_match: IfMatch,
    patch: Patched,
) -> Result<Shown<CustomerView>, Problem> {
    let mut change = app.gate.write(&caller, Area::Customers).await?;
    let before = change.lock::<Customer>(&customer_id).await?;
    let before = before.ok_or_else(|| Problem::not_found("customer"))?;
    if_match.check(before.version)?;
    if before.archived_at_ms.is_some() {
        return Err(Problem::conflict("the customer is archived"));
    }
    let draft = patch.onto(&customer_draft(&before)?)?;
    if draft.reference.as_ref() != Some(&before.reference) {
        return Err(Problem::field("reference", "a customer keeps its reference"));
    }
    let after = Customer { settings: check_draft(&draft)?, ..before.clone() };
    let row = change.update(&before, after).await?;
    let shown = Shown { view: view_of(&row)?, version: row.version };
    change.commit().await?;
    Ok(shown)
}
