//! The next increment of a period's overage.
//!
//! In: a book of which more was used than was told. Out: a stored increment, or the book put off with why.
//! Always holds: an increment is of the mode, the meter and the customer that the subscription has at Stripe; no quota period has
//! more told of it than the cap in money pays for, what comes late from earlier ones included; what cannot be charged (no meter, no
//! connection, no room) is looked at again, since it may be made up for.

use sea_orm::{ColumnTrait as _, QueryFilter as _, QueryOrder as _};
use serde_json::Value as Json;

use super::billed::{DRAFT_S, OLDEST_S};
use super::cap::{self, Told};
use super::send::For;
use super::{CAPPED, FREE, OverageTeller, PENDING};
use crate::billing::payers::stripe_customer;
use crate::domain::price::OveragePrice;
use crate::storage::{
    Actor, Change, OverageBook, OverageEvent, OverageSpan, Plan, PlanPrice, StorageResult,
    StripeCustomer, StripeSubscription, Subscription, Tenant, column,
};

/// How long a book that cannot be told is left alone.
const PUT_OFF_MS: i64 = 3_600_000;

/// Where a subscription's overage goes.
struct Meter {
    mode: String,
    stripe_customer_id: String,
    /// The price that is paid for it.
    row: PlanPrice,
    price: Option<OveragePrice>,
    /// What overage of a period costs at most.
    cap_amount: Option<i64>,
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
        let at_s = at_s(book, now_ms.div_euclid(1_000));
        let Some(at_s) = at_s else {
            let why = "it is of too long ago for Stripe";
            return self.store.put_off_overage(book, put_off_ms, why).await;
        };
        let window = self.window(&book.entitlement, at_s).await?;
        let mut change = self.store.change(&owner.account_id, actor()).await?;
        // One at a time, or two could take the same room below the cap.
        change.lock::<Subscription>(&owner.subscription_id).await?;
        let meter = match meter_of(&change.tenant(), &owner.subscription_id).await? {
            Ok(meter) => meter,
            Err(why) => {
                drop(change);
                return self.store.put_off_overage(book, put_off_ms, why).await;
            }
        };
        let mut room = None;
        // Of its own period, and of the one with which it is invoiced.
        for span in [OverageSpan::Period(book.period_id), window] {
            let left = left(&change, &owner.subscription_id, &meter, span).await?;
            room = room.into_iter().chain(left).min();
        }
        let most = room.map_or(book.over_units, |room| book.told_units.saturating_add(room));
        let to_units = book.over_units.min(most);
        if to_units <= book.told_units {
            drop(change);
            return self.store.put_off_overage(book, put_off_ms, CAPPED).await;
        }
        let event = OverageEvent {
            subscription_id: owner.subscription_id.clone(),
            entitlement: book.entitlement.clone(),
            period_id: book.period_id,
            from_units: book.told_units,
            to_units,
            mode: meter.mode,
            plan_price_id: Some(meter.row.id),
            meter_id: meter.row.meter_id,
            event_name: meter.row.meter_event_name.unwrap_or_default(),
            stripe_customer_id: meter.stripe_customer_id,
            at_s,
            status: PENDING.to_owned(),
            next_at_ms: Some(now_ms),
            ..OverageEvent::default()
        };
        if change.tell_overage(book, event).await? {
            change.commit().await?;
        }
        Ok(())
    }

    /// Has an increment count at a later time, since its own invoice takes nothing more; the inner error where it cannot yet. It shares
    /// the cap of what is used then; where nothing is told of that, it is within the cap that it had.
    pub(super) async fn count_later(
        &self,
        event: &OverageEvent,
        at_s: i64,
    ) -> StorageResult<Result<(), (For, &'static str)>> {
        let window = self.window(&event.entitlement, at_s).await?;
        let mut change = self.store.change(&event.account_id, actor()).await?;
        change.lock::<Subscription>(&event.subscription_id).await?;
        let meter = meter_of(&change.tenant(), &event.subscription_id).await?;
        let own = meter.ok().filter(|meter| meter.row.meter_id == event.meter_id);
        if let Some(meter) = own.filter(|_| !window.has(event.at_s)) {
            let is_first = change.overage_told(&event.subscription_id, window).await?.is_empty();
            let room = left(&change, &event.subscription_id, &meter, window).await?;
            let units = event.to_units.saturating_sub(event.from_units);
            if !is_first && room.is_some_and(|room| room < units) {
                return Ok(Err((For::Room, CAPPED)));
            }
        }
        if !change.move_overage(event, at_s).await? {
            return Ok(Err((For::Stripe, "another process sends it")));
        }
        change.commit().await?;
        Ok(Ok(()))
    }

    /// The quota period of an entitlement that a time is in. What comes late is invoiced with what is used then, and so shares its cap.
    async fn window(&self, entitlement: &[u8], at_s: i64) -> StorageResult<OverageSpan> {
        let id = <[u8; 16]>::try_from(entitlement).unwrap_or_default();
        let books = self.store.overage_of(u128::from_be_bytes(id)).await?;
        let holds = |book: &&OverageBook| (book.period_start_s..book.period_end_s).contains(&at_s);
        if let Some(running) = books.iter().find(holds) {
            return Ok(OverageSpan::Times(running.period_start_s, running.period_end_s));
        }
        let ends = books.iter().map(|book| book.period_end_s).filter(|end_s| *end_s <= at_s);
        Ok(OverageSpan::Times(ends.max().unwrap_or(at_s), i64::MAX))
    }
}

fn actor() -> Actor {
    Actor { kind: "system", id: "overage".to_owned(), request_id: None }
}

/// Units that may still be told of a subscription in a period; none where there is no cap.
async fn left(
    change: &Change,
    subscription_id: &str,
    meter: &Meter,
    span: OverageSpan,
) -> StorageResult<Option<i64>> {
    let Some(price) = &meter.price else { return Ok(None) };
    let mut told = Vec::new();
    for each in change.overage_told(subscription_id, span).await? {
        // All of a meter is billed at the price that the subscription has in the end.
        let is_own = each.meter_id == meter.row.meter_id;
        let row = match &each.plan_price_id {
            Some(id) if !is_own => change.tenant().get::<PlanPrice>(id).await?,
            _ => None,
        };
        let price = row.and_then(|row| OveragePrice::of_terms(&row.terms));
        told.push(Told { price, is_own, units: each.units });
    }
    Ok(cap::room(price, meter.cap_amount, &told))
}

/// The time that an increment is counted at, Unix seconds: within its period while that one's invoice can take it, and now where it
/// comes later, so that the next invoice has it. Now is the last second that is over: of the second in which a subscription ends the
/// last invoice has nothing.
fn at_s(book: &OverageBook, now_s: i64) -> Option<i64> {
    let over_s = now_s.saturating_sub(1);
    if now_s < book.period_end_s {
        return Some(over_s.max(book.period_start_s).min(now_s));
    }
    let since_s = now_s.saturating_sub(book.period_end_s);
    if since_s > OLDEST_S {
        return None;
    }
    Some(if since_s < DRAFT_S { book.period_end_s.saturating_sub(1) } else { over_s })
}

/// Who pays for a subscription at Stripe. The subscription itself says it: one customer of ours may be several there, since
/// whoever opens two checkouts at a time is made anew in each.
async fn payer(
    tenant: &Tenant<'_>,
    paid: &StripeSubscription,
    subscription: &Subscription,
) -> StorageResult<Option<String>> {
    if let Some(own) = stripe_customer(paid) {
        return Ok(Some(own));
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
    // The price that it pays, whatever the plan costs by now; or the plan's newest where it is moved between prices.
    let own = tenant.one::<PlanPrice>(|query| {
        query
            .filter(column::PlanPrice::PriceId.eq(paid.price_id.clone().unwrap_or_default()))
            .filter(column::PlanPrice::Mode.eq(paid.mode.as_str()))
            .filter(column::PlanPrice::StripeAccount.eq(paid.stripe_account.as_str()))
            .filter(column::PlanPrice::MeterEventName.is_not_null())
    });
    let row = match own.await? {
        Some(own) => Some(own),
        None => {
            let newest = tenant.one::<PlanPrice>(|query| {
                query
                    .filter(column::PlanPrice::PlanId.eq(subscription.plan_id.as_str()))
                    .filter(column::PlanPrice::Mode.eq(paid.mode.as_str()))
                    .filter(column::PlanPrice::StripeAccount.eq(paid.stripe_account.as_str()))
                    .filter(column::PlanPrice::MeterEventName.is_not_null())
                    .order_by_desc(column::PlanPrice::Key)
            });
            newest.await?
        }
    };
    let Some(row) = row else {
        return Ok(Err(FREE));
    };
    let plan = tenant.get::<Plan>(&subscription.plan_id).await?;
    let settings = plan.and_then(|plan| serde_json::from_str::<Json>(&plan.settings).ok());
    let cap = |settings: Json| settings["price"]["overage"]["cap_amount"].as_i64();
    Ok(Ok(Meter {
        mode: paid.mode,
        stripe_customer_id,
        price: OveragePrice::of_terms(&row.terms),
        cap_amount: settings.and_then(cap),
        row,
    }))
}
