//! `POST /v1/subscriptions/{subscription_id}/change`.
//!
//! In: a plan. Out: the subscription, moved.
//! Always holds: a plan that allows as much or more counts at once and is paid for its share of the period; one that allows less
//! counts from the period's end.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::bought::writable;
use super::{SubscriptionView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{Named, Posted};
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::change::find;

/// Where to move.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveDraft {
    /// A plan of the same site, with a price.
    pub plan_id: String,
    /// The `at` of a preview, so that what it said is what is paid.
    pub at: Option<i64>,
}

/// Move to another plan
#[utoipa::path(post, path = "/subscriptions/{subscription_id}/change", tag = "billing", request_body = MoveDraft,
    params(("subscription_id" = String, Path, description = "The subscription")),
    responses((status = 200, description = "The subscription", body = SubscriptionView), Problems))]
pub async fn change_plan(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    posted: Posted<MoveDraft>,
) -> Result<Response, Problem> {
    let (billing, grant) = writable(&app, &caller, &subscription_id).await?;
    let work = async {
        let bought = find(billing, &grant.account_id, &subscription_id).await?;
        let when = bought.move_to(billing, &posted.body.plan_id, posted.body.at).await?;
        let row = bought.row(billing).await?;
        let asked = json!({ "move_to": posted.body.plan_id, "when": when });
        app.gate.note(&grant, &row, asked).await?;
        Ok(Shown { view: view_of(&row), version: row.version })
    };
    app.gate.work_once(&grant, posted.key.as_ref(), Kept::Answer, work).await
}
