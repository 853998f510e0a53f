//! `POST /v1/subscriptions/{subscription_id}/change`.
//!
//! In: a plan. Out: the subscription, moved; or, with 202, as it was, with the move that waits for its payment.
//! Always holds: a plan that allows as much or more counts once it is paid for its share of the period, and the one before until then;
//! one that allows less counts from the period's end.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::bought::work_on;
use super::view::SubscriptionView;
use crate::api::App;
use crate::api::extract::{Named, Posted};
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::{Problem, ProblemBody};
use crate::billing::change::Moved;

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
///
/// What was used past the plan's limit is told to Stripe first: while that cannot be done, the move is refused, with 503 or, where the plan's meter
/// was turned off, 409. While another change is under way, or one broke off, the answer is 503, with `Retry-After` until it is over at the latest.
#[utoipa::path(post, path = "/subscriptions/{subscription_id}/change", tag = "billing", request_body = MoveDraft,
    params(("subscription_id" = String, Path, description = "The subscription")),
    responses((status = 200, description = "The subscription", body = SubscriptionView),
        (status = 202, description = "The payment was refused, or wants a word with the card's holder: the plan is as it was, and \
            `stripe.pending_upgrade` waits for the payment until its `expires_at`. Send the customer to \
            `stripe.unpaid_invoice.hosted_invoice_url`. Another change gives it up, one to the plan in force too",
            body = SubscriptionView),
        (status = 402, description = "The same while a smaller plan waits for the period's end, which goes on waiting, or while overage \
            of the running period is on no invoice yet, which would be lost with a move that is given up; nothing is to be paid. The \
            customer changes their card (POST …/portal), or the smaller plan is taken back first", body = ProblemBody,
            content_type = "application/problem+json"), Problems))]
pub async fn change_plan(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    posted: Posted<MoveDraft>,
) -> Result<Response, Problem> {
    let MoveDraft { plan_id, at } = posted.body;
    let once = (posted.key.as_ref(), Kept::Answer);
    work_on(&app, &caller, &subscription_id, once, async |taken| {
        let moved = taken.bought.move_to(&taken.billing, &plan_id, at).await?;
        let (status, when) = match moved {
            Moved::Done(when) => (StatusCode::OK, json!(when)),
            Moved::Unpaid => (StatusCode::ACCEPTED, json!("paid")),
        };
        let asked = json!({ "move_to": plan_id, "when": when });
        Ok((status, taken.shown(&app, &caller, asked).await?))
    })
    .await
}
