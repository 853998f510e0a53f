//! `POST /v1/subscriptions/{subscription_id}/preview`.
//!
//! In: a plan. Out: what moving to it would cost, and when it would count.
//! Always holds: nothing is changed by looking.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::bought::work_on;
use super::move_plan::MoveDraft;
use crate::api::App;
use crate::api::extract::{Named, Posted};
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::change::{Preview, When};
use crate::billing::money;

/// A line of what would be paid.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PreviewLine {
    /// In the currency's smallest unit; negative for what is credited.
    amount: i64,
    /// What it is for.
    description: Option<String>,
}

/// What moving would do.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PreviewView {
    /// When the plan would count.
    when: When,
    /// What would be paid now, in the currency's smallest unit.
    amount_due: i64,
    /// Three letters.
    currency: Option<String>,
    /// The same for people.
    amount_due_shown: Option<String>,
    /// What it is made of.
    lines: Vec<PreviewLine>,
    /// The moment that it holds for, Unix seconds.
    at: i64,
}

/// Preview another plan
#[utoipa::path(post, path = "/subscriptions/{subscription_id}/preview", tag = "billing", request_body = MoveDraft,
    params(("subscription_id" = String, Path, description = "The subscription")),
    responses((status = 200, description = "What moving to the plan would cost now", body = PreviewView), Problems))]
pub async fn preview_plan(
    State(app): State<App>,
    caller: Caller,
    Named(subscription_id): Named<String>,
    posted: Posted<MoveDraft>,
) -> Result<Response, Problem> {
    let (plan_id, once) = (posted.body.plan_id, (posted.key.as_ref(), Kept::Answer));
    work_on(&app, &caller, &subscription_id, once, async |taken| {
        Ok(Json(preview_of(taken.bought.preview(&taken.billing, &plan_id).await?)))
    })
    .await
}

fn preview_of(preview: Preview) -> PreviewView {
    let invoice = preview.invoice.unwrap_or_default();
    let currency = Some(invoice.currency).filter(|currency| !currency.is_empty());
    let lines = invoice.lines.data.into_iter();
    let lines =
        lines.map(|line| PreviewLine { amount: line.amount, description: line.description });
    PreviewView {
        when: preview.when,
        amount_due: invoice.amount_due,
        amount_due_shown: currency.as_deref().map(|code| money::shown(invoice.amount_due, code)),
        currency,
        lines: lines.collect(),
        at: preview.at_s,
    }
}
