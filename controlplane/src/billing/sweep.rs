//! Finding what Stripe did not tell: the reconciler.
//!
//! In: connected accounts, a schedule, and whoever asks. Out: events that never came and subscriptions that differ, in the
//! inbox, where they are settled like all others; plans marked with what their owner changed at Stripe.
//! Always holds: one control plane sweeps at a time, by a lease; a sweep goes on after a restart where it was; a pass reads
//! at most [`PAGES_MAX`] pages of each account, so that a large one holds no other up, and no faster than the client's rate
//! limit. It writes nothing but hints and marks.

mod accounts;
mod catalogue;
mod difference;

use std::time::Duration;

use sea_orm::{ColumnTrait as _, QueryFilter as _};

use accounts::Platforms;

use super::settle::{SettleError, Settler};
use super::stripe::{Created, Event, EventQuery, Mode, Scope, StripeError, SubscriptionQuery};
use super::webhooks::envelope;
use crate::storage::{
    Actor, Arrived, Kept, Lease, StripeAccount, StripeSubscription, StripeSweep, Subscription,
    column,
};

/// How often it is looked whether something is due, or was asked for.
const POLL: Duration = Duration::from_secs(10);
const LEASE: &str = "sweep";
const LEASE_MS: i64 = 180_000;
/// Pages of one account in one pass.
const PAGES_MAX: usize = 20;
const PAGE: u32 = 100;
const ACCOUNTS_PAGE: u64 = 100;
/// How often events are listed, milliseconds: most of what was lost comes again by itself before.
const EVENTS_EVERY_MS: i64 = 15 * 60_000;
/// How often every subscription is compared.
const SUBSCRIPTIONS_EVERY_MS: i64 = 6 * 3_600_000;
/// How often every plan is: of products and prices events tell sooner, of meters none are asked for.
const CATALOGUE_EVERY_MS: i64 = 24 * 3_600_000;
/// How far back Stripe lists events, seconds.
const EVENTS_KEPT_S: i64 = 30 * 86_400;
/// What is listed once more, seconds: an event may be seen somewhat after it was made.
const OVERLAP_S: i64 = 600;
/// Subscriptions of lost accounts that are ended in one pass.
const ORPHANS_MAX: u64 = 500;
/// How long an error is kept to, characters.
const ERROR_CHARS_MAX: usize = 300;

/// The types that something follows from, at most twenty a call.
pub const TYPES: [&[&str]; 2] = [
    &[
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
        "checkout.session.expired",
        "customer.subscription.created",
        "customer.subscription.updated",
        "customer.subscription.deleted",
        "customer.subscription.paused",
        "customer.subscription.resumed",
        "customer.subscription.pending_update_applied",
        "customer.subscription.pending_update_expired",
        "customer.subscription.trial_will_end",
        "invoice.upcoming",
        "invoice.created",
        "invoice.paid",
        "invoice.payment_failed",
        "invoice.payment_action_required",
    ],
    &[
        "charge.refunded",
        "refund.created",
        "refund.updated",
        "refund.failed",
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.funds_reinstated",
        "account.updated",
        "price.created",
        "price.updated",
        "price.deleted",
        "product.updated",
        "product.deleted",
    ],
];

/// Words for the kinds of sweeps.
pub mod kind {
    /// What Stripe says happened.
    pub const EVENTS: &str = "events";
    /// What Stripe says is.
    pub const SUBSCRIPTIONS: &str = "subscriptions";
    /// What Stripe has of plans.
    pub const CATALOGUE: &str = "catalogue";
    /// All of them.
    pub const ALL: [&str; 3] = [EVENTS, SUBSCRIPTIONS, CATALOGUE];
}

/// What sweeps.
#[derive(Clone, Debug)]
pub struct Sweeper {
    settler: Settler,
}

impl Sweeper {
    /// One that hints to the inbox of this settler.
    #[must_use]
    pub fn new(settler: Settler) -> Self {
        Self { settler }
    }

    /// Sweeps what is due until it is dropped.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.pass().await {
                tracing::warn!(%error, "connected accounts cannot be compared with Stripe; trying again");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sweeps what is due, if nobody else does; says whether something is left for the next pass.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn pass(&self) -> Result<bool, SettleError> {
        let mut platforms = Platforms::default();
        self.check_suspects(&mut platforms).await?;
        let store = self.settler.store();
        let Some(lease) = store.lease(LEASE, LEASE_MS).await? else { return Ok(false) };
        let outcome = self.pass_alone(&lease, &mut platforms).await;
        store.release(&lease).await?;
        outcome
    }

    async fn pass_alone(
        &self,
        lease: &Lease,
        platforms: &mut Platforms,
    ) -> Result<bool, SettleError> {
        self.end_orphans().await?;
        let (mut after, mut is_left) = (0, false);
        loop {
            let store = self.settler.store();
            let accounts = store.stripe_accounts_after(after, ACCOUNTS_PAGE).await?;
            let Some(last) = accounts.last() else { return Ok(is_left) };
            after = last.key;
            for account in &accounts {
                let Some(mode) = Mode::of(&account.mode) else { continue };
                if !self.settler.stripe().has(mode) {
                    continue;
                }
                is_left |= self.sweep_account(account, mode, lease, platforms).await?;
            }
        }
    }

    /// What is due of one account; whether it is ours still is looked at whenever its events are to be listed anew.
    async fn sweep_account(
        &self,
        account: &StripeAccount,
        mode: Mode,
        lease: &Lease,
        platforms: &mut Platforms,
    ) -> Result<bool, SettleError> {
        let store = self.settler.store();
        let (owner, name) = (&account.account_id, &account.stripe_id);
        let mut is_left = false;
        for kind in kind::ALL {
            let sweep = store.stripe_sweep(owner, &account.mode, name, kind).await?;
            if !is_due(&sweep, store.world().now_ms()) {
                continue;
            }
            let is_new = kind == kind::EVENTS && sweep.began_at_ms.is_none();
            if is_new && self.is_lost(account, mode, platforms).await? {
                return Ok(is_left);
            }
            is_left |= self.sweep(sweep, mode, lease).await?;
        }
        Ok(is_left)
    }

    /// Some pages of one sweep; says whether more are left. What Stripe refuses is kept with the sweep.
    async fn sweep(
        &self,
        mut sweep: StripeSweep,
        mode: Mode,
        lease: &Lease,
    ) -> Result<bool, SettleError> {
        let store = self.settler.store();
        let now_ms = store.world().now_ms();
        let scope = Scope::connected(mode, &sweep.stripe_account);
        if sweep.began_at_ms.is_none() {
            sweep.began_at_ms = Some(now_ms);
            (sweep.cursor, sweep.seen, sweep.repaired) = (None, 0, 0);
        }
        for _ in 0..PAGES_MAX {
            if !store.extend(lease, LEASE_MS).await? {
                return Ok(true);
            }
            let page = match sweep.kind.as_str() {
                kind::EVENTS => self.events(&mut sweep, mode, &scope).await,
                kind::CATALOGUE => self.catalogue(&mut sweep, mode).await,
                _ => self.subscriptions(&mut sweep, mode, &scope).await,
            };
            match page {
                Ok(true) => store.keep_stripe_sweep(&mut sweep).await?,
                Ok(false) => {
                    let began_s = sweep.began_at_ms.take().unwrap_or(now_ms).div_euclid(1_000);
                    sweep.covered_until_s = began_s;
                    sweep.finished_at_ms = Some(store.world().now_ms());
                    (sweep.cursor, sweep.error) = (None, None);
                    store.keep_stripe_sweep(&mut sweep).await?;
                    return Ok(false);
                }
                Err(SettleError::Stripe(error)) => {
                    return self.refused(sweep, &error).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    async fn refused(
        &self,
        mut sweep: StripeSweep,
        error: &StripeError,
    ) -> Result<bool, SettleError> {
        let text = error.to_string().chars().take(ERROR_CHARS_MAX).collect();
        tracing::debug!(%error, account = sweep.stripe_account, "a sweep of Stripe's goes on later");
        sweep.error = Some(text);
        if !error.is_temporary() {
            // Perhaps the cursor is of no use any more: it begins anew when it is due next.
            sweep.began_at_ms = None;
            sweep.finished_at_ms = Some(self.settler.store().world().now_ms());
        }
        self.settler.store().keep_stripe_sweep(&mut sweep).await?;
        Ok(false)
    }

    /// One page of events, newest first; says whether there are more.
    async fn events(
        &self,
        sweep: &mut StripeSweep,
        mode: Mode,
        scope: &Scope,
    ) -> Result<bool, SettleError> {
        let (part, after) = place(sweep.cursor.as_deref());
        let Some(types) = TYPES.get(part) else { return Ok(false) };
        let began_s = sweep.began_at_ms.unwrap_or_default().div_euclid(1_000);
        let from_s = (sweep.covered_until_s - OVERLAP_S).max(began_s - EVENTS_KEPT_S);
        let query = EventQuery {
            types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            created: Some(Created { gte: Some(from_s), lte: None }),
            limit: Some(PAGE),
            starting_after: after,
            ..EventQuery::default()
        };
        let page = self.settler.stripe().events(scope, &query).await?;
        let account = &sweep.stripe_account;
        let arrived: Vec<Arrived> =
            page.data.iter().filter_map(|event| read(event, account, mode)).collect();
        sweep.seen = sweep.seen.saturating_add(arrived.len() as i64);
        sweep.repaired = sweep.repaired.saturating_add(self.hint(&arrived).await?);
        let last = page.data.last().map(|event| event.id.as_str());
        sweep.cursor = match last {
            Some(last) if page.has_more => Some(format!("{part} {last}")),
            _ => Some(format!("{} ", part + 1)),
        };
        Ok(page.has_more || part + 1 < TYPES.len())
    }

    /// One page of subscriptions; says whether there are more.
    async fn subscriptions(
        &self,
        sweep: &mut StripeSweep,
        mode: Mode,
        scope: &Scope,
    ) -> Result<bool, SettleError> {
        let query = SubscriptionQuery {
            status: Some("all".to_owned()),
            limit: Some(PAGE),
            starting_after: sweep.cursor.clone(),
            ..SubscriptionQuery::default()
        };
        let page = self.settler.stripe().subscriptions(scope, &query).await?;
        let ids: Vec<&str> = page.data.iter().map(|it| it.id.as_str()).collect();
        let tenant = self.settler.store().tenant(&sweep.account_id);
        let known = tenant.all::<StripeSubscription>(u64::from(PAGE), |query| {
            query
                .filter(column::StripeSubscription::StripeId.is_in(ids))
                .filter(column::StripeSubscription::Mode.eq(mode.as_str()))
        });
        let known = known.await?;
        let differing = page.data.iter().filter(|fetched| {
            let row = known.iter().find(|row| row.stripe_id == fetched.id);
            difference::is_worth_settling(row, fetched)
        });
        let began_ms = sweep.began_at_ms.unwrap_or_default();
        let hints: Vec<Arrived> = differing
            .map(|fetched| difference::hint(fetched, &sweep.stripe_account, mode, began_ms))
            .collect();
        sweep.seen = sweep.seen.saturating_add(page.data.len() as i64);
        sweep.repaired = sweep.repaired.saturating_add(self.hint(&hints).await?);
        sweep.cursor = page.data.last().map(|fetched| fetched.id.clone());
        Ok(page.has_more && sweep.cursor.is_some())
    }

    /// Puts events into the inbox; says how many of them were not there and have something follow.
    async fn hint(&self, events: &[Arrived]) -> Result<i64, SettleError> {
        let kept = self.settler.store().keep_stripe_events(events).await?;
        let new = events.iter().zip(kept);
        let new = new.filter(|(event, kept)| *kept == Kept::New && event.subject.is_some());
        Ok(i64::try_from(new.count()).unwrap_or(i64::MAX))
    }

    /// Ends subscriptions whose period is over and of which Stripe tells us nothing any more.
    async fn end_orphans(&self) -> Result<(), SettleError> {
        let store = self.settler.store();
        for (account_id, id) in store.orphaned_subscriptions(ORPHANS_MAX).await? {
            let actor = Actor { kind: "system", id: "sweep".to_owned(), request_id: None };
            let mut change = store.change(&account_id, actor).await?;
            let Some(facts) = change.lock::<StripeSubscription>(&id).await? else { continue };
            let Some(row) = change.lock::<Subscription>(&facts.subscription_id).await? else {
                continue;
            };
            let over = StripeSubscription { stripe_status: "canceled".to_owned(), ..facts.clone() };
            change.update(&facts, over).await?;
            let after = Subscription { status: "canceled".to_owned(), ..row.clone() };
            if after != row {
                let after = change.update(&row, after).await?;
                if let Some(event) = crate::notify::Event::of_subscription(Some(&row), &after) {
                    crate::notify::enqueue(&mut change, event).await?;
                }
            }
            change.commit().await?;
        }
        Ok(())
    }
}

/// Whether a sweep should go on or begin.
fn is_due(sweep: &StripeSweep, now_ms: i64) -> bool {
    let every_ms = match sweep.kind.as_str() {
        kind::EVENTS => EVENTS_EVERY_MS,
        kind::CATALOGUE => CATALOGUE_EVERY_MS,
        _ => SUBSCRIPTIONS_EVERY_MS,
    };
    let Some(finished_ms) = sweep.finished_at_ms else { return true };
    sweep.began_at_ms.is_some()
        || sweep.asked_at_ms.is_some_and(|asked_ms| asked_ms >= finished_ms)
        || finished_ms.saturating_add(every_ms) <= now_ms
}

/// Which part of the types, and after which event.
fn place(cursor: Option<&str>) -> (usize, Option<String>) {
    let Some((part, after)) = cursor.and_then(|cursor| cursor.split_once(' ')) else {
        return (0, None);
    };
    let after = (!after.is_empty()).then(|| after.to_owned());
    (part.parse().unwrap_or(0), after)
}

/// A listed event as one that came: lists leave out whose it is.
fn read(event: &Event, account: &str, mode: Mode) -> Option<Arrived> {
    let event = Event { account: Some(account.to_owned()), ..event.clone() };
    let body = serde_json::to_vec(&event).ok()?;
    envelope::read(&body, mode.as_str()).filter(|event| event.livemode == mode.is_live())
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
