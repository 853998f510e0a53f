//! `DELETE /v1/stripe/account`.
//!
//! In: a mode. Out: the account, not connected any more.
//! Always holds: nothing is sold through it from then on; what was bought goes on to its period's end.

use axum::extract::State;

use super::{ModeQuery, StripeAccountView, view_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::extract::{Asked, IfMatch};
use crate::api::gate::Caller;
use crate::api::openapi::Problems;
use crate::api::problem::Problem;
use crate::billing::connect::disconnect;
use crate::domain::permission::Area;

/// Disconnect the Stripe account
#[utoipa::path(delete, path = "/stripe/account", tag = "billing", params(ModeQuery),
    responses((status = 200, description = "The account, disconnected", body = StripeAccountView), Problems))]
pub async fn disconnect_stripe_account(
    State(app): State<App>,
    caller: Caller,
    Asked(asked): Asked<ModeQuery>,
    if_match: IfMatch,
) -> Result<Shown<StripeAccountView>, Problem> {
    let grant = app.gate.grant(&caller, Area::Account)?;
    let billing = app.billing()?;
    let row = billing.connected(&grant.account_id, asked.mode).await?;
    let row = row.ok_or_else(|| Problem::not_found("connected Stripe account of this mode"))?;
    if_match.check(row.version)?;
    let row = disconnect(billing, &grant.account_id, grant.actor, asked.mode).await?;
    Ok(Shown { view: view_of(&row, billing, None), version: row.version })
}
