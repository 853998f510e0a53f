//! What the endpoints share by which subscriptions that were bought are changed, or kept from being changed by hand.
//!
//! In: an id, a change. Out: the right to change the subscription; why it is not changed so.
//! Always holds: one of another account is not found, whether or not billing is set up; what Stripe charges for is not archived, and
//! what Stripe says of it is not said otherwise by hand.

use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::SubscriptionDraft;
use crate::api::App;
use crate::api::gate::{Caller, Grant};
use crate::api::problem::Problem;
use crate::billing::Billing;
use crate::billing::payers::{is_over, scope_of};
use crate::domain::permission::Area;
use crate::storage::{StripeSubscription, Subscription, Tenant, column};

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

/// What Stripe has of a subscription; none where it was not bought.
async fn bought(tenant: &Tenant<'_>, id: &str) -> Result<Option<StripeSubscription>, Problem> {
    let known = tenant.one::<StripeSubscription>(|query| {
        query.filter(column::StripeSubscription::SubscriptionId.eq(id))
    });
    Ok(known.await?)
}

/// Refuses to take away what Stripe goes on charging for. Where its account is connected no more, nobody here can end it.
pub async fn refuse_while_charged(tenant: &Tenant<'_>, id: &str) -> Result<(), Problem> {
    let Some(known) = bought(tenant, id).await? else { return Ok(()) };
    if is_over(&known) || scope_of(tenant, &known).await?.is_none() {
        return Ok(());
    }
    Err(Problem::conflict(format!(
        "the subscription was bought, and Stripe would go on charging for it; cancel it first, with POST /v1/subscriptions/{id}/cancel \
         (at once with `\"when\": \"now\"`), and archive it when it is over"
    )))
}

/// Refuses to say by hand what Stripe says.
pub async fn refuse_by_hand(
    tenant: &Tenant<'_>,
    id: &str,
    is: &SubscriptionDraft,
    draft: &SubscriptionDraft,
) -> Result<(), Problem> {
    let differing = [
        ("plan_id", draft.plan_id != is.plan_id),
        ("status", draft.status != is.status),
        ("past_due_since", draft.past_due_since != is.past_due_since),
        ("period_anchor", draft.period_anchor != is.period_anchor),
    ];
    let Some((field, _)) = differing.into_iter().find(|(_, differs)| *differs) else {
        return Ok(());
    };
    if bought(tenant, id).await?.is_none() {
        return Ok(());
    }
    let how = match field {
        "plan_id" => "change",
        _ => "cancel",
    };
    Err(Problem::field(
        field,
        format!(
            "is what Stripe says, since the subscription was bought; use POST /v1/subscriptions/{id}/{how}"
        ),
    ))
}
