//! The next increment of a period's overage.
//!
//! In: a book of which more was used than was told. Out: a stored increment, or the book put off with why.
//! Always holds: an increment is of the mode, the meter and the customer that the subscription has at Stripe; what cannot be
//! charged (no meter, no connection) is looked at again, since it may be made up for.

use sea_orm::{ColumnTrait as _, QueryFilter as _, QueryOrder as _};
use serde_json::Value as Json;

use super::{CAPPED, FREE, OverageTeller, PENDING, cap};
use crate::storage::{
    Actor, OverageBook, OverageEvent, Plan, PlanPrice, StorageResult, StripeCustomer,
    StripeSubscription, Subscription, Tenant, column,
};

/// How long a book that cannot be told is left alone.
const PUT_OFF_MS: i64 = 3_600_000;
/// How long after its period an invoice is a draft still, with room: Stripe finalises it about an hour after it was made.
const DRAFT_S: i64 = 3_000;
/// Stripe takes events of the last 35 days.
const OLDEST_S: i64 = 34 * 86_400;
const PRICES_MAX: u64 = 1_000;

/// Where a subscription's overage goes.
struct Meter {
    mode: String,
    meter_id: Option<String>,
    event_name: String,
    stripe_customer_id: String,
    /// Units past the limit that may be charged.
    cap_units: Option<i64>,
}

impl OverageTeller {
    /// Stores a book's next increment.
    pub(super) async fn store_increment(&self, book: &OverageBook) -> StorageResult<()> {
        let now_ms = self.store.world().now_ms();
        let put_off_ms = now_ms.saturating_add(PUT_OFF_MS);
        let Some(owner) = &book.owner else {
            return self
                .store
                .put_off_overage(book, put_off_ms, "no subscription is called so")
                .await;
        };
        let actor = Actor { kind: "system", id: "overage".to_owned(), request_id: None };
        let mut change = self.store.change(&owner.account_id, actor).await?;
        let meter = match meter_of(&change.tenant(), &owner.subscription_id).await? {
            Ok(meter) => meter,
            Err(why) => {
                drop(change);
                return self.store.put_off_overage(book, put_off_ms, why).await;
            }
        };
        let to_units = meter.cap_units.map_or(book.over_units, |cap| book.over_units.min(cap));
        let at_s = at_s(book, now_ms.div_euclid(1_000));
        let why = match at_s {
            None => Some("it is of too long ago for Stripe"),
            Some(_) if to_units <= book.told_units => Some(CAPPED),
            Some(_) => None,
        };
        if let Some(why) = why {
            drop(change);
            return self.store.put_off_overage(book, put_off_ms, why).await;
        }
        let event = OverageEvent {
            subscription_id: owner.subscription_id.clone(),
            entitlement: book.entitlement.clone(),
            period_id: book.period_id,
            from_units: book.told_units,
            to_units,
            mode: meter.mode,
            meter_id: meter.meter_id,
            event_name: meter.event_name,
            stripe_customer_id: meter.stripe_customer_id,
            at_s: at_s.unwrap_or_default(),
            status: PENDING.to_owned(),
            next_at_ms: Some(now_ms),
            ..OverageEvent::default()
        };
        if change.tell_overage(book, event).await? {
            change.commit().await?;
        }
        Ok(())
    }
}

/// The time that an increment is counted at, Unix seconds: within its period while that one's invoice can take it, and now where it
/// comes later, so that the next invoice has it.
fn at_s(book: &OverageBook, now_s: i64) -> Option<i64> {
    if now_s < book.period_end_s {
        return Some(now_s);
    }
    let since_s = now_s.saturating_sub(book.period_end_s);
    if since_s > OLDEST_S {
        return None;
    }
    Some(if since_s < DRAFT_S { book.period_end_s.saturating_sub(1) } else { now_s })
}

/// Who pays for a subscription at Stripe. The subscription itself says it: one customer of ours may be several there, since
/// whoever opens two checkouts at a time is made anew in each.
async fn payer(
    tenant: &Tenant<'_>,
    paid: &StripeSubscription,
    subscription: &Subscription,
) -> StorageResult<Option<String>> {
    let facts: Json = serde_json::from_str(&paid.facts).unwrap_or_default();
    if let Some(id) = facts["customer"].as_str() {
        return Ok(Some(id.to_owned()));
    }
    let known = tenant.one::<StripeCustomer>(|query| {
        query
            .filter(column::StripeCustomer::CustomerId.eq(subscription.customer_id.as_str()))
            .filter(column::StripeCustomer::Mode.eq(paid.mode.as_str()))
            .filter(column::StripeCustomer::StripeAccount.eq(paid.stripe_account.as_str()))
    });
    Ok(known.await?.map(|row| row.stripe_id))
}

/// Where a subscription's overage goes; the inner error where nowhere.
async fn meter_of(
    tenant: &Tenant<'_>,
    subscription_id: &str,
) -> StorageResult<Result<Meter, &'static str>> {
    let paid = tenant.one::<StripeSubscription>(|query| {
        query.filter(column::StripeSubscription::SubscriptionId.eq(subscription_id))
    });
    let (Some(paid), Some(subscription)) =
        (paid.await?, tenant.get::<Subscription>(subscription_id).await?)
    else {
        return Ok(Err("the subscription is not paid for through Stripe"));
    };
    let Some(stripe_customer_id) = payer(tenant, &paid, &subscription).await? else {
        return Ok(Err("the customer is not known to Stripe"));
    };
    let prices = tenant.all::<PlanPrice>(PRICES_MAX, |query| {
        query
            .filter(column::PlanPrice::PlanId.eq(subscription.plan_id.as_str()))
            .filter(column::PlanPrice::Mode.eq(paid.mode.as_str()))
            .filter(column::PlanPrice::MeterEventName.is_not_null())
            .order_by_asc(column::PlanPrice::Key)
    });
    // The price it pays, or the newest one where it is moved between prices.
    let prices = prices.await?;
    let own =
        prices.iter().find(|price| price.price_id.is_some() && price.price_id == paid.price_id);
    let Some(price) = own.or(prices.last()) else {
        return Ok(Err(FREE));
    };
    let plan = tenant.get::<Plan>(&subscription.plan_id).await?;
    let settings = plan.and_then(|plan| serde_json::from_str::<Json>(&plan.settings).ok());
    Ok(Ok(Meter {
        mode: paid.mode,
        meter_id: price.meter_id.clone(),
        event_name: price.meter_event_name.clone().unwrap_or_default(),
        stripe_customer_id,
        cap_units: settings.as_ref().and_then(cap::units),
    }))
}
