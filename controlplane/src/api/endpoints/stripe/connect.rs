//! `POST /v1/stripe/account`.
//!
//! In: an address, a country. Out: 200 with the account and a link for its owner.
//! Always holds: an account has one Stripe account of a mode; asked again, it gets another link to the same one.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{StripeAccountView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::endpoints::fields::check_email;
use crate::api::extract::Posted;
use crate::api::gate::{Caller, Kept};
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::connect::begin;
use crate::billing::stripe::Mode;
use crate::domain::permission::Area;
use crate::domain::policy_text::Fault;

/// What is needed to make a Stripe account.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StripeAccountDraft {
    /// `live` where it is left out.
    #[serde(default)]
    pub mode: Mode,
    /// Whom Stripe writes to.
    #[schema(max_length = 254, pattern = "^[!-?A-~]+@[!-?A-~]+$", example = "owner@example.com")]
    pub email: String,
    /// Two letters; Stripe asks where it is left out.
    #[schema(pattern = "^[A-Za-z]{2}$", example = "DE")]
    pub country: Option<String>,
}

/// Connect a Stripe account
#[utoipa::path(post, path = "/stripe/account", tag = "billing", request_body = StripeAccountDraft,
    description = "Makes the account's Stripe account where it has none, and a link on which its owner sets it up.",
    responses((status = 200, description = "The account, with a link", body = StripeAccountView), Problems))]
pub async fn connect_stripe_account(
    State(app): State<App>,
    caller: Caller,
    posted: Posted<StripeAccountDraft>,
) -> Result<Response, Problem> {
    let grant = app.gate.grant(&caller, Area::Account)?;
    let draft = posted.body;
    let mut faults = Vec::new();
    let email = check_email(&draft.email, &mut faults);
    let is_country =
        |code: &String| code.len() == 2 && code.bytes().all(|it| it.is_ascii_alphabetic());
    if draft.country.as_ref().is_some_and(|code| !is_country(code)) {
        faults.push(Fault::new("country", "expected two letters, as in DE"));
    }
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    let work = async {
        let billing = app.billing()?;
        let (account, country) = (&grant.account_id, draft.country.as_deref());
        let actor = grant.actor.clone();
        let (row, link) = begin(billing, account, actor, draft.mode, &email, country).await?;
        Ok(Shown { view: view_of(&row, billing, Some(link.url)), version: row.version })
    };
    app.gate.work_once(&grant, posted.key.as_ref(), Kept::Nothing, work).await
}
