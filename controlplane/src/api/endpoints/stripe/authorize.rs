//! `POST /v1/stripe/oauth/authorize`.
//!
//! In: a mode. Out: where the owner of an existing Stripe account allows us to sell through it.
//! Always holds: the address works once, for a quarter of an hour, and only while the admin key that asked for it is good.

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
use crate::billing::connect::oauth_begin;
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
    /// A page of Stripe's.
    url: String,
}

/// Connect an existing Stripe account
#[utoipa::path(post, path = "/stripe/oauth/authorize", tag = "billing", request_body = AuthorizeDraft,
    responses((status = 200, description = "Where its owner allows it", body = AuthorizeView), Problems))]
pub async fn authorize_stripe_account(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<AuthorizeDraft>,
) -> Result<Response, Problem> {
    let grant = app.gate.grant(&caller, Area::Account)?;
    let work = async {
        let (billing, mode) = (app.billing()?, posted.body.mode);
        let url = oauth_begin(billing, &grant.account_id, &grant.actor, mode).await?;
        Ok(Json(AuthorizeView { url }))
    };
    app.gate.work_once(&grant, posted.key.as_ref(), Kept::Nothing, work).await
}
