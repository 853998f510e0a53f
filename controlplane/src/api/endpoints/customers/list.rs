//! `GET /v1/customers`.
//!
//! In: a window. Out: customers, newest first.
//! Always holds: archived ones are shown only when asked for.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{CustomerView, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Customer, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct CustomerQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Archived ones, too.
    archived: bool,
}

impl Default for CustomerQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, starting_after: None, archived: false }
    }
}

/// List customers
#[utoipa::path(get, path = "/customers", tag = "customers", params(CustomerQuery),
    responses((status = 200, description = "Customers", body = List<CustomerView>), Problems))]
pub async fn list_customers(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<CustomerQuery>,
) -> Result<Json<List<CustomerView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Customers)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<Customer>(window, |mut query| {
        if !asked.archived {
            query = query.filter(column::Customer::ArchivedAtMs.is_null());
        }
        query
    });
    List::of(page.await?, view_of).map(Json)
}
