//! `GET /v1/stripe/account`.
//!
//! In: a mode. Out: the connected account, as Stripe says it is now; 404 where there is none.
//! Always holds: what it can do is asked of Stripe; where Stripe is away, what it said last is shown.

use axum::extract::State;

use super::{ModeQuery, StripeAccountView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::Asked;
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::connect::refresh;
use crate::domain::permission::Area;

/// Read the connected Stripe account
#[utoipa::path(get, path = "/stripe/account", tag = "billing", params(ModeQuery),
    responses((status = 200, description = "The account", body = StripeAccountView), Problems))]
pub async fn get_stripe_account(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<ModeQuery>,
) -> Result<Shown<StripeAccountView>, Problem> {
    app.gate.read(&caller, Area::Account)?;
    let billing = app.billing()?;
    let row = billing.connected(caller.account_id(), asked.mode).await?;
    let row = row.ok_or_else(|| Problem::not_found("connected Stripe account of this mode"))?;
    let row = match refresh(billing, &row).await {
        Ok(row) => row,
        Err(error) if error.is_temporary() => row,
        Err(error) => return Err(error.into()),
    };
    Ok(Shown { view: view_of(&row, billing, None), version: row.version })
}
