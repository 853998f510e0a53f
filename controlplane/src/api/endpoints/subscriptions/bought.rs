//! What the endpoints share by which subscriptions that were bought are changed.
//!
//! In: an id. Out: the right to change the subscription.
//! Always holds: one of another account is not found, whether or not billing is set up.

use crate::api::App;
use crate::api::gate::{Caller, Grant};
use crate::api::problem::Problem;
use crate::billing::Billing;
use crate::domain::permission::Area;
use crate::storage::Subscription;

/// The right to change a subscription, and what changes it.
pub async fn writable<'a>(
    app: &'a App,
    caller: &Caller,
    id: &str,
) -> Result<(&'a Billing, Grant), Problem> {
    let grant = app.gate.grant(caller, Area::Subscriptions)?;
    let tenant = app.gate.read(caller, Area::Subscriptions)?;
    let row = tenant.get::<Subscription>(id).await?;
    row.ok_or_else(|| Problem::not_found("subscription"))?;
    let billing = app.billing()?;
    Ok((billing, grant))
}
