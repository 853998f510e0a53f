//! `GET /v1/subscriptions`.
//!
//! In: a window. Out: subscriptions, newest first.
//! Always holds: archived ones are shown only when asked for.

use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, QueryFilter as _, QuerySelect as _, QueryTrait as _};
use serde::Deserialize;
use utoipa::IntoParams;

use super::view::{SubscriptionView, known_of, view_of};
use crate::api::App;
use crate::api::answer::List;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{StripeSubscription, Subscription, column};

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct SubscriptionQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// Of this site alone.
    site_id: Option<String>,
    /// Of this plan alone.
    plan_id: Option<String>,
    /// Of this customer alone.
    customer_id: Option<String>,
    /// Those alone that were bought through Stripe; with `false` those that were not.
    bought: Option<bool>,
    /// Archived ones, too.
    archived: bool,
}

impl Default for SubscriptionQuery {
    fn default() -> Self {
        Self {
            limit: LIMIT_DEFAULT,
            starting_after: None,
            site_id: None,
            plan_id: None,
            customer_id: None,
            bought: None,
            archived: false,
        }
    }
}

/// List subscriptions
#[utoipa::path(get, path = "/subscriptions", tag = "subscriptions", params(SubscriptionQuery),
    responses((status = 200, description = "Subscriptions", body = List<SubscriptionView>), Problems))]
pub async fn list_subscriptions(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<SubscriptionQuery>,
) -> Result<Json<List<SubscriptionView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Subscriptions)?;
    let window = window(asked.limit, asked.starting_after.as_deref())?;
    let page = tenant.page::<Subscription>(window, |mut query| {
        if let Some(id) = &asked.site_id {
            query = query.filter(column::Subscription::SiteId.eq(id.as_str()));
        }
        if let Some(id) = &asked.plan_id {
            query = query.filter(column::Subscription::PlanId.eq(id.as_str()));
        }
        if let Some(id) = &asked.customer_id {
            query = query.filter(column::Subscription::CustomerId.eq(id.as_str()));
        }
        if let Some(is_bought) = asked.bought {
            let bought = tenant.select::<StripeSubscription>().select_only();
            let bought = bought.column(column::StripeSubscription::SubscriptionId).into_query();
            query = query.filter(match is_bought {
                true => column::Subscription::Id.in_subquery(bought),
                false => column::Subscription::Id.not_in_subquery(bought),
            });
        }
        if !asked.archived {
            query = query.filter(column::Subscription::ArchivedAtMs.is_null());
        }
        query
    });
    let page = page.await?;
    let known = known_of(&tenant, page.as_ref().map_or(&[][..], |page| &page.rows)).await?;
    let of = |row: &Subscription| known.iter().find(|known| known.subscription_id == row.id);
    List::of(page, |row| Ok(view_of(row, of(row), &caller))).map(Json)
}
