//! What the endpoints share by which subscriptions that were bought are changed, or kept from being changed by hand.
//!
//! In: an id, a change. Out: the change made at Stripe and the subscription as it is then; why it is not changed so.
//! Always holds: one of another account is not found, whether or not billing is set up; what Stripe charges for is not archived, and
//! what Stripe says of it is not said otherwise by hand.

use axum::response::{IntoResponse, Response};
use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde_json::Value as Json;

use super::SubscriptionDraft;
use super::view::{SubscriptionView, shown_of};
use crate::api::App;
use crate::api::answer::Shown;
use crate::api::gate::{Caller, Grant, Kept};
use crate::api::problem::Problem;
use crate::billing::Billing;
use crate::billing::change::{self, Bought};
use crate::billing::payers::{is_over, scope_of};
use crate::domain::permission::Area;
use crate::storage::{IdempotencyKey, StripeSubscription, Subscription, Tenant, column};

/// A subscription that was bought, for one who may change it.
#[derive(Debug)]
pub struct Taken {
    /// What changes it.
    pub billing: Billing,
    /// What is changed.
    pub bought: Bought,
    grant: Grant,
}

impl Taken {
    /// The subscription as it is now, with an entry in the audit log of what was asked for.
    pub async fn shown(
        &self,
        app: &App,
        caller: &Caller,
        asked: Json,
    ) -> Result<Shown<SubscriptionView>, Problem> {
        let row = self.bought.row(&self.billing).await?;
        app.gate.note(&self.grant, &row, asked).await?;
        let tenant = app.gate.read(caller, Area::Subscriptions)?;
        shown_of(&tenant, caller, &row).await
    }
}

/// What comes of work on a subscription that was bought, once for a key.
pub async fn work_on<R: IntoResponse, W: Future<Output = Result<R, Problem>>>(
    app: &App,
    caller: &Caller,
    id: &str,
    (key, kept): (Option<&IdempotencyKey>, Kept),
    work: impl FnOnce(Taken) -> W,
) -> Result<Response, Problem> {
    let grant = app.gate.grant(caller, Area::Subscriptions)?;
    let tenant = app.gate.read(caller, Area::Subscriptions)?;
    let row = tenant.get::<Subscription>(id).await?;
    row.ok_or_else(|| Problem::not_found("subscription"))?;
    let billing = app.billing()?;
    let once = async {
        let bought = change::find(billing, &grant.account_id, id).await?;
        work(Taken { billing: billing.clone(), bought, grant: grant.clone() }).await
    };
    app.gate.work_once(&grant, key, kept, once).await
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
