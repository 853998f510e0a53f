//! `POST /v1/stripe/oauth/authorize`.
//!
//! In: a mode. Out: where the owner of an existing Stripe account allows us to sell through it.
//! Always holds: the address connects one account, within a quarter of an hour, in the first browser that goes on from it, and only
//! while the admin key that asked for it is good.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::App;
use crate::api::extract::Posted;
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::oauth::begin;
use crate::billing::stripe::Mode;
use crate::domain::permission::Area;

/// Which of the two.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorizeDraft {
    /// `live` where it is left out.
    #[schema(required = false)]
    pub mode: Mode,
}

/// Where to go.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuthorizeView {
    /// A page of ours that leads to Stripe's: good for a quarter of an hour, in the first browser that goes on from it.
    url: String,
}

/// Connect an existing Stripe account
#[utoipa::path(post, path = "/stripe/oauth/authorize", tag = "billing", request_body = AuthorizeDraft,
    description = "Answers an address that the owner opens in a browser. What they agree to at Stripe counts in that browser alone; while Stripe is away the address can be opened again.",
    responses((status = 200, description = "Where its owner allows it", body = AuthorizeView), Problems))]
pub async fn authorize_stripe_account(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<AuthorizeDraft>,
) -> Result<Response, Problem> {
    let grant = app.gate.grant(&caller, Area::Account)?;
    let work = async {
        let (billing, mode) = (app.billing()?, posted.body.mode);
        let url = begin(billing, &grant.account_id, &grant.actor, mode).await?;
        Ok(Json(AuthorizeView { url }))
    };
    app.gate.work_once(&grant, posted.key.as_ref(), Kept::Nothing, work).await
}
