//! What the endpoints share by which subscriptions that were bought are changed.
//!
//! In: an id. Out: the subscription, with the right to change it.
//! Always holds: one of another account is not found, whether or not billing is set up.

use crate::api::App;
use crate::api::gate::Caller;
use crate::api::problem::Problem;
use crate::billing::Billing;
use crate::billing::change::{Bought, find};
use crate::domain::permission::Area;
use crate::storage::Subscription;

/// A subscription that the caller may change, and what changes it.
pub async fn writable<'a>(
    app: &'a App,
    caller: &Caller,
    id: &str,
) -> Result<(&'a Billing, Bought), Problem> {
    let grant = app.gate.grant(caller, Area::Subscriptions)?;
    let tenant = app.gate.read(caller, Area::Subscriptions)?;
    let row = tenant.get::<Subscription>(id).await?;
    row.ok_or_else(|| Problem::not_found("subscription"))?;
    let billing = app.billing()?;
    let bought = find(billing, &grant.account_id, id).await?;
    Ok((billing, bought))
}
