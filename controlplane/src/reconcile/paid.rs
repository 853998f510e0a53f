//! What was told to Stripe, what Stripe says, and what subscribers are given for it.
//!
//! In: a subscription that is paid for through Stripe. Out: differences.
//! Always holds: overage counts as late two hours after its period, when every invoice is final, or sooner where the caller says that
//! nothing is on its way; a subscription is asked of Stripe itself, since what we last heard of it is what is in question.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::{Pair, Reconciler, Report, Subject};
use crate::api::endpoints::subscriptions::SubscriptionStatus;
use crate::billing::payers::{OVER, Payer, scope_of, stripe_customer};
use crate::billing::settle::{SettleError, is_held, state};
use crate::billing::stripe::{Mode, Scope as StripeScope, SummaryQuery};
use crate::storage::{
    OverageBook, OverageEvent, StorageError, StorageResult, StripeSubscription, Tenant, Window,
    column,
};

/// Periods of one subscription that Stripe is asked about: what it counted long ago changes no more.
const PERIODS_MAX: usize = 12;
/// Increments of one subscription that are looked at, the newest.
const EVENTS_MAX: u64 = 10_000;

impl Reconciler {
    pub(super) async fn told_and_stripe(
        &self,
        subject: &Subject<'_>,
        scope: &super::Scope,
        report: &mut Report,
    ) -> StorageResult<()> {
        let row = subject.subscription;
        let tenant = self.store.tenant(&row.account_id);
        let paid = tenant.one::<StripeSubscription>(|query| {
            query.filter(column::StripeSubscription::SubscriptionId.eq(row.id.as_str()))
        });
        let Some(paid) = paid.await? else { return Ok(()) };
        shared(&tenant, subject, &paid, report).await?;
        for book in self.store.overage_of(subject.entitlement).await? {
            if scope.period.is_none_or(|asked| asked == book.period_id) {
                told(subject, &book, scope, report);
            }
        }
        let newest = Window { limit: EVENTS_MAX, starting_after: None };
        let events = tenant.page::<OverageEvent>(newest, |query| {
            query.filter(column::OverageEvent::SubscriptionId.eq(row.id.as_str()))
        });
        let events = events.await?.map(|page| page.rows).unwrap_or_default();
        let is_asked =
            |event: &&OverageEvent| scope.period.is_none_or(|asked| asked == event.period_id);
        for event in events.iter().filter(is_asked) {
            let age_ms = subject.now_ms.saturating_sub(event.created_at_ms);
            let error = event.error.as_deref();
            let cause = match event.status.as_str() {
                "refused" => {
                    format!("Stripe refused the increment: {}", error.unwrap_or_default())
                }
                "lost" => format!("the increment is lost: {}", error.unwrap_or_default()),
                "pending" if age_ms >= scope.final_s().saturating_mul(1_000) => {
                    format!("the increment waits: {}", error.unwrap_or("it was not sent yet"))
                }
                _ => continue,
            };
            let units = event.to_units.saturating_sub(event.from_units).to_string();
            report.add(
                subject,
                Some(event.period_id),
                Pair::LedgerStripe,
                units,
                "0".to_owned(),
                cause,
            );
        }
        // Its own: another one that was connected since knows nothing of it.
        let Some(stripe_scope) = scope_of(&tenant, &paid).await? else {
            let what = format!("Stripe: account {} is not connected", paid.stripe_account);
            report.unavailable.insert(what);
            return Ok(());
        };
        self.status(subject, &paid, &stripe_scope, report).await?;
        // Stripe counts a little later than it takes.
        let counted_s = subject.now_ms.div_euclid(1_000).saturating_sub(scope.final_s());
        for told in told_by_period(&events, scope.period) {
            if told.until_s() <= counted_s {
                self.counted(subject, told, &stripe_scope, report).await?;
            }
        }
        Ok(())
    }

    /// Whether subscribers have what Stripe says that they pay for.
    async fn status(
        &self,
        subject: &Subject<'_>,
        paid: &StripeSubscription,
        scope: &StripeScope,
        report: &mut Report,
    ) -> StorageResult<()> {
        let Some(stripe) = &self.stripe else { return Ok(()) };
        let found = match stripe.subscription(scope, &paid.stripe_id).await {
            Ok(found) => found,
            Err(error) => {
                report.unavailable.insert(format!("Stripe: {error}"));
                return Ok(());
            }
        };
        report.compared(Pair::EntitlementStripe);
        let row = subject.subscription;
        let tenant = self.store.tenant(&row.account_id);
        let is_held = match is_held(&tenant, row).await {
            Ok(is_held) => is_held,
            Err(SettleError::Storage(error)) => return Err(error),
            Err(error) => return Err(StorageError::Broken(error.to_string())),
        };
        // What is to follow from what Stripe says: a dispute may hold what is paid.
        let due = state::status(&found, is_held).map(SubscriptionStatus::word);
        let theirs = found.status;
        let is_archived = row.archived_at_ms.is_some();
        let ours = if is_archived { "archived" } else { &row.status };
        // What is archived is served to nobody, whatever its row says.
        let agrees = match is_archived {
            true => OVER.contains(&theirs.as_str()),
            false => due.as_deref() == Some(ours),
        };
        if !agrees {
            let cause = if is_archived {
                "the subscription is archived here, and Stripe goes on charging for it; cancel it in the Stripe dashboard"
            } else if theirs == paid.stripe_status {
                "the subscription was changed here since Stripe was last asked"
            } else {
                "an event of Stripe's did not come or waits among the dead letters; fetch it again with POST /v1/stripe/events/…/replay"
            };
            report.add(subject, None, Pair::EntitlementStripe, ours.to_owned(), theirs, cause);
        }
        Ok(())
    }

    /// Whether the meter has counted what it was told of a period, from the first increment to the last.
    async fn counted(
        &self,
        subject: &Subject<'_>,
        told: Told<'_>,
        scope: &StripeScope,
        report: &mut Report,
    ) -> StorageResult<()> {
        let Told { last, from_s } = told;
        let (Some(stripe), Some(meter)) = (&self.stripe, &last.meter_id) else { return Ok(()) };
        let (from_s, until_s) = (from_s.div_euclid(60) * 60, told.until_s());
        let query = SummaryQuery {
            customer: last.stripe_customer_id.clone(),
            start_time: from_s,
            end_time: until_s,
            limit: Some(100),
            starting_after: None,
        };
        let counted: f64 = match stripe.event_summaries(scope, meter, &query).await {
            Ok(list) => list.data.iter().map(|summary| summary.aggregated_value).sum(),
            Err(error) => {
                report.unavailable.insert(format!("Stripe: {error}"));
                return Ok(());
            }
        };
        report.compared(Pair::LedgerStripe);
        // All that was told of those minutes, of other periods and subscriptions too.
        let told = self.store.overage_sent(last, from_s, until_s).await?;
        // Whole units far below 2^53.
        let surplus = counted - told as f64;
        if surplus.abs() < 0.5 {
            return Ok(());
        }
        let cause = if surplus > 0.0 {
            "somebody else sends events to the meter, or the database was brought back from a backup and has forgotten some: the customer is billed \
             for more than was used; look at the meter's events in the Stripe dashboard"
        } else {
            "the meter has dropped events after it took them, as where it was turned off, its customer deleted or an event canceled by hand; look at \
             its event errors in the Stripe dashboard, and charge the rest by an invoice item"
        };
        let (first, second) = (told.to_string(), format!("{counted:.0}"));
        report.add(subject, Some(last.period_id), Pair::LedgerStripe, first, second, cause);
        Ok(())
    }
}

/// What a meter took of one period.
#[derive(Clone, Copy)]
struct Told<'a> {
    /// The increment that counts last.
    last: &'a OverageEvent,
    /// When the first one counts, Unix seconds.
    from_s: i64,
}

impl Told<'_> {
    /// The end of the minute that the last one counts in: the meter is asked about whole minutes.
    fn until_s(&self) -> i64 {
        self.last.at_s.div_euclid(60) * 60 + 60
    }
}

/// Increments that were taken, by period, meter and customer at Stripe; those of the newest periods, or of the one that is asked for.
fn told_by_period(events: &[OverageEvent], asked: Option<i64>) -> Vec<Told<'_>> {
    let mut told: BTreeMap<_, Told<'_>> = BTreeMap::new();
    let is_asked = |event: &&OverageEvent| {
        event.status == "sent" && asked.is_none_or(|asked| asked == event.period_id)
    };
    for event in events.iter().filter(is_asked) {
        let key = (event.period_id, &event.meter_id, &event.stripe_customer_id);
        let of_it = told.entry(key).or_insert(Told { last: event, from_s: event.at_s });
        of_it.from_s = of_it.from_s.min(event.at_s);
        if event.at_s >= of_it.last.at_s {
            of_it.last = event;
        }
    }
    told.into_values().rev().take(PERIODS_MAX).collect()
}

/// Whether its overage is counted with that of another subscription.
async fn shared(
    tenant: &Tenant<'_>,
    subject: &Subject<'_>,
    paid: &StripeSubscription,
    report: &mut Report,
) -> StorageResult<()> {
    let (Some(_), Some(mode), Some(stripe_id)) =
        (&paid.metered_item_id, Mode::of(&paid.mode), stripe_customer(paid))
    else {
        return Ok(());
    };
    let row = subject.subscription;
    let payer =
        Payer { mode, customer_id: &row.customer_id, stripe_id: &stripe_id, plan_id: &row.plan_id };
    if row.archived_at_ms.is_none() && payer.has_another(tenant, Some(&row.id)).await? {
        let cause = "another subscription of this customer at Stripe has the plan, so the meter counts both and Stripe bills the sum to each; \
                     cancel one of them and buy it again with a checkout, which takes another customer at Stripe";
        let (first, second) = ("one meter each".to_owned(), format!("both on {stripe_id}"));
        report.add(subject, None, Pair::LedgerStripe, first, second, cause);
    }
    Ok(())
}

/// Whether all overage of a period that is over was told.
fn told(subject: &Subject<'_>, book: &OverageBook, scope: &super::Scope, report: &mut Report) {
    let final_s = book.period_end_s.saturating_add(scope.final_s());
    let is_final = subject.now_ms.div_euclid(1_000) >= final_s;
    let is_capped = book.error.as_deref() == Some(crate::overage::CAPPED);
    let is_free = book.error.as_deref() == Some(crate::overage::FREE);
    if is_final {
        report.compared(Pair::LedgerStripe);
    }
    if !is_final || book.over_units <= book.told_units || is_capped || is_free {
        return;
    }
    let cause = match &book.error {
        Some(error) => format!("overage waits: {error}"),
        None => "overage waits to be told; Stripe may be away".to_owned(),
    };
    let (first, second) = (book.over_units.to_string(), book.told_units.to_string());
    report.add(subject, Some(book.period_id), Pair::LedgerStripe, first, second, cause);
}
