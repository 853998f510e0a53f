//! `POST /v1/subscriptions`.
//!
//! In: a [`SubscriptionDraft`]. Out: 201 with the subscription.
//! Always holds: site, plan and customer are the account's own and not archived.

use axum::extract::State;
use axum::response::Response;

use super::view::{SubscriptionView, view_of};
use super::{SubscriptionDraft, explain_taken, fill, share_plan, tell};
use crate::api::App;
use crate::api::answer::Made;
use crate::api::extract::Posted;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;
use crate::storage::{Customer, Site, Subscription};

/// Make a subscription
#[utoipa::path(post, path = "/subscriptions", tag = "subscriptions", request_body = SubscriptionDraft,
    responses((status = 201, description = "The subscription", body = SubscriptionView), Problems))]
pub async fn create_subscription(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<SubscriptionDraft>,
) -> Result<Response, Problem> {
    let mut change = app.gate.write_once(&caller, Area::Subscriptions, posted.key.as_ref()).await?;
    let draft = posted.body;
    let site = change.share::<Site>(&draft.site_id).await?;
    let site = site.ok_or_else(|| Problem::not_found("site"))?;
    let customer = change.share::<Customer>(&draft.customer_id).await?;
    let customer = customer.ok_or_else(|| Problem::not_found("customer"))?;
    share_plan(&change, &site.id, &draft.plan_id).await?;
    if site.archived_at_ms.or(customer.archived_at_ms).is_some() {
        return Err(Problem::conflict("the site or the customer is archived"));
    }
    let id = change.new_id::<Subscription>();
    let mut row = Subscription {
        reference: draft.reference.clone().unwrap_or_else(|| id.clone()),
        id,
        site_id: site.id.clone(),
        customer_id: customer.id,
        ..Subscription::default()
    };
    fill(&mut row, &draft)?;
    let row = change.insert(row).await.map_err(explain_taken)?;
    if draft.reference.is_some() {
        // An archived site of the slug may have had one of the name, which this one goes on from.
        change.forget_name(&site.slug, &row.reference).await?;
    }
    tell(&mut change, None, &row).await?;
    let location = format!("/v1/subscriptions/{}", row.id);
    let view = view_of(&row, None, &caller);
    let made = Made { view, version: row.version, location, secret: None };
    made.commit(change).await
}
