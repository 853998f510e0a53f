//! `POST /v1/accounts/{account_id}/stripe_fee`, for the operator.
//!
//! In: a fee. Out: the connected account with it.
//! Always holds: an account cannot set what the platform takes of it; running subscriptions keep the fee they were bought with.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{StripeAccountView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{Named, Posted};
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::Percent;
use crate::billing::connect::set_fee;
use crate::billing::stripe::Mode;

/// What the platform takes.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeeDraft {
    /// `live` where it is left out.
    #[schema(required = false)]
    pub mode: Mode,
    /// One site's alone; all of the account's where it is left out.
    pub site_id: Option<String>,
    /// Hundredths of a percent; what the control plane was started with where it is left out.
    #[schema(maximum = 10_000)]
    pub hundredths: Option<u32>,
}

/// Set the platform's fee
#[utoipa::path(post, path = "/accounts/{account_id}/stripe_fee", tag = "billing", request_body = FeeDraft,
    params(("account_id" = String, Path, description = "The account")),
    responses((status = 200, description = "The account's Stripe account", body = StripeAccountView), Problems))]
pub async fn set_stripe_fee(
    State(app): State<App>,
    caller: Caller,
    Named(account_id): Named<String>,
    posted: Posted<FeeDraft>,
) -> Result<Response, Problem> {
    let grant = app.gate.grant_operator(&caller)?;
    let draft = posted.body;
    if draft.hundredths.is_some_and(|fee| Percent::of_hundredths(fee).is_none()) {
        return Err(Problem::field("hundredths", "expected 0 to 10000"));
    }
    let work = async {
        let (billing, site) = (app.billing()?, draft.site_id.as_deref());
        let actor = grant.actor.clone();
        let row = set_fee(billing, &account_id, actor, draft.mode, site, draft.hundredths).await?;
        Ok(Shown { view: view_of(&row, billing, None), version: row.version })
    };
    app.gate.work_once(&grant, posted.key.as_ref(), Kept::Answer, work).await
}
