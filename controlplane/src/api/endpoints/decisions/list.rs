//! `GET /v1/decisions`.
//!
//! In: a window, what to look for. Out: recent decisions about the account's sites, newest first.
//! Always holds: filters only take away; an entry's id says where a list goes on, also when the entry itself is gone.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Asked as Whose, DecisionView, VerdictWord, reasons, subject, view_of};
use crate::analytics::{DecisionId, DecisionQuery};
use crate::api::App;
use crate::api::answer::List;
use crate::api::endpoints::fields::instant_ms;
use crate::api::extract::{Asked, LIMIT_DEFAULT, window};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::domain::permission::Area;

/// What to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct DecisionListQuery {
    /// Entries at most.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: u64,
    /// The id of the entry to go on after.
    starting_after: Option<String>,
    /// About this site alone.
    site_id: Option<String>,
    /// About requests of this customer alone.
    customer_id: Option<String>,
    /// Of this subscription alone.
    subscription_id: Option<String>,
    /// With this token alone.
    token_id: Option<String>,
    /// About this resource alone: its pattern, as entries have it.
    #[param(example = "/api/*")]
    resource: Option<String>,
    /// Allowed or denied ones alone.
    #[param(inline)]
    verdict: Option<VerdictWord>,
    /// For this reason alone.
    #[param(example = "quota_exhausted")]
    reason: Option<String>,
    /// From this time on.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before this time.
    #[param(format = DateTime)]
    until: Option<String>,
}

impl Default for DecisionListQuery {
    fn default() -> Self {
        Self {
            limit: LIMIT_DEFAULT,
            starting_after: None,
            site_id: None,
            customer_id: None,
            subscription_id: None,
            token_id: None,
            resource: None,
            verdict: None,
            reason: None,
            since: None,
            until: None,
        }
    }
}

/// List decisions
#[utoipa::path(get, path = "/decisions", tag = "usage", params(DecisionListQuery),
    responses((status = 200, description = "Decisions", body = List<DecisionView>), Problems))]
pub async fn list_decisions(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<DecisionListQuery>,
) -> Result<Json<List<DecisionView>>, Problem> {
    let tenant = app.gate.read(&caller, Area::Usage)?;
    window(asked.limit, None)?;
    let mut faults = Vec::new();
    let since_ms = instant_ms("since", asked.since.as_deref(), &mut faults);
    let until_ms = instant_ms("until", asked.until.as_deref(), &mut faults);
    let reasons = reasons(asked.reason.as_deref(), asked.verdict, &mut faults);
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let read = |text: &str| {
        DecisionId::parse(text).ok_or_else(|| {
            Problem::field("starting_after", "expected the id of an entry of this list")
        })
    };
    let after = asked.starting_after.as_deref().map(read).transpose()?;
    let whose = Whose {
        site_id: asked.site_id.as_deref(),
        customer_id: asked.customer_id.as_deref(),
        subscription_id: asked.subscription_id.as_deref(),
        token_id: asked.token_id.as_deref(),
        resource: asked.resource.as_deref(),
    };
    let Some((sites, subject)) = subject(&tenant, whose, reasons).await? else {
        return Ok(Json(List { data: Vec::new(), has_more: false }));
    };
    let us = |at_ms: Option<i64>| at_ms.map(|at_ms| at_ms.saturating_mul(1_000));
    let query = DecisionQuery {
        subject,
        from_us: us(since_ms),
        until_us: us(until_ms),
        after,
        limit: asked.limit + 1,
    };
    let mut rows = app.gate.decisions(&caller, &sites, &query).await?;
    let has_more = rows.len() as u64 > asked.limit;
    if has_more {
        rows.pop();
    }
    Ok(Json(List { data: rows.into_iter().map(view_of).collect(), has_more }))
}
