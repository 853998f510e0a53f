//! A subscription as it is shown, with what Stripe has of it.
//!
//! In: rows, who asks. Out: views.
//! Always holds: what Stripe has is what was written down when it was last asked, so that reading asks nobody; a page on which an invoice
//! is paid, which shows whose it is, is for those alone who may write subscriptions.

use sea_orm::{ColumnTrait as _, QueryFilter as _};
use serde::Serialize;
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::{SubscriptionDraft, SubscriptionStatus, draft_of};
use crate::api::answer::Shown;
use crate::api::extract::LIMIT_MAX;
use crate::api::gate::Caller;
use crate::api::problem::Problem;
use crate::api::time::{shown, shown_opt};
use crate::billing::money;
use crate::billing::settle::UnpaidInvoice;
use crate::billing::stripe::Mode;
use crate::domain::permission::Area;
use crate::storage::{StripeSubscription, Subscription, Tenant, column};

/// A subscription as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SubscriptionView {
    /// Its id.
    id: String,
    #[serde(flatten)]
    draft: SubscriptionDraft,
    /// What Stripe has of it; null where it was not bought.
    stripe: Option<StripeView>,
    /// Since when it is archived.
    archived_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// What Stripe has of a subscription, as it was when Stripe was last asked.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StripeView {
    /// Its id at Stripe.
    #[schema(example = "sub_1RqJ2eL8")]
    id: String,
    /// Test or live.
    mode: Mode,
    /// Stripe's own word. The subscription's `status` differs from it while a dispute holds it (`paused`).
    status: SubscriptionStatus,
    /// When the period began that was paid.
    #[schema(format = DateTime)]
    period_start: Option<String>,
    /// When it ends.
    #[schema(format = DateTime)]
    period_end: Option<String>,
    /// Whether it ends with the period; POST …/resume takes that back.
    cancel_at_period_end: bool,
    /// When it ends, or ended.
    #[schema(format = DateTime)]
    cancel_at: Option<String>,
    /// A plan that allows less and waits for the period's end.
    pending_downgrade: Option<PendingDowngradeView>,
    /// A move up that waits for its payment; until then the plan stays.
    pending_upgrade: Option<PendingUpgradeView>,
    /// An invoice that is to be paid: the one of the move up that waits, or one that a payment failed for.
    unpaid_invoice: Option<UnpaidInvoiceView>,
}

/// A plan that waits for the period's end.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PendingDowngradeView {
    /// The plan.
    plan_id: String,
    /// From when on it counts: the period's end.
    #[schema(format = DateTime)]
    at: Option<String>,
}

/// A move up that waits for its payment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PendingUpgradeView {
    /// The plan; null where it was asked for at Stripe, and is none of this site's.
    plan_id: Option<String>,
    /// When Stripe gives it up.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// An invoice that is to be paid.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UnpaidInvoiceView {
    /// Its id at Stripe.
    #[schema(example = "in_1RqJ2eL8")]
    id: String,
    /// In the currency's smallest unit.
    amount_due: i64,
    /// Three letters.
    currency: String,
    /// The same for people.
    amount_due_shown: String,
    /// Stripe's page on which the buyer pays it, or confirms the payment, for those alone who may write subscriptions.
    hosted_invoice_url: Option<String>,
    /// When Stripe tries by itself again.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
}

/// One subscription as it is shown to this caller.
pub async fn shown_of(
    tenant: &Tenant<'_>,
    caller: &Caller,
    row: &Subscription,
) -> Result<Shown<SubscriptionView>, Problem> {
    let known = tenant.one::<StripeSubscription>(|query| {
        query.filter(column::StripeSubscription::SubscriptionId.eq(row.id.as_str()))
    });
    let view = view_of(row, known.await?.as_ref(), caller);
    Ok(Shown { view, version: row.version })
}

/// What Stripe has of the subscriptions of a page.
pub async fn known_of(
    tenant: &Tenant<'_>,
    rows: &[Subscription],
) -> Result<Vec<StripeSubscription>, Problem> {
    let ids = rows.iter().map(|row| row.id.as_str());
    let known = tenant.all::<StripeSubscription>(LIMIT_MAX, |query| {
        query.filter(column::StripeSubscription::SubscriptionId.is_in(ids))
    });
    Ok(known.await?)
}

/// A subscription as it is shown to this caller, with what Stripe has of it.
#[must_use]
pub fn view_of(
    row: &Subscription,
    known: Option<&StripeSubscription>,
    caller: &Caller,
) -> SubscriptionView {
    view(row, known.map(|known| stripe_of(known, caller.may(Area::Subscriptions, true))))
}

/// A subscription as events tell of it: without what Stripe has of it, which is written down by itself, sooner or later than that of
/// which an event tells.
#[must_use]
pub fn plain_view_of(row: &Subscription) -> Json {
    let mut shown = serde_json::to_value(view(row, None)).unwrap_or_default();
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("stripe");
    }
    shown
}

fn view(row: &Subscription, stripe: Option<StripeView>) -> SubscriptionView {
    SubscriptionView {
        id: row.id.clone(),
        draft: draft_of(row),
        stripe,
        archived_at: shown_opt(row.archived_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    }
}

fn stripe_of(known: &StripeSubscription, is_writer: bool) -> StripeView {
    let facts: Json = serde_json::from_str(&known.facts).unwrap_or_default();
    let downgrade = known
        .pending_plan_id
        .clone()
        .map(|plan_id| PendingDowngradeView { plan_id, at: shown_opt(known.period_end_ms) });
    let upgrade = known.upgrade_until_ms.map(|until_ms| PendingUpgradeView {
        plan_id: known.upgrade_plan_id.clone(),
        expires_at: shown(until_ms),
    });
    let unpaid = UnpaidInvoice::of(known).map(|invoice| UnpaidInvoiceView {
        id: invoice.id,
        amount_due: invoice.amount_due,
        amount_due_shown: money::shown(invoice.amount_due, &invoice.currency),
        currency: invoice.currency,
        hosted_invoice_url: invoice.url.filter(|_| is_writer),
        next_attempt_at: invoice.next_attempt_at_s.map(|at_s| shown(at_s.saturating_mul(1_000))),
    });
    StripeView {
        id: known.stripe_id.clone(),
        mode: Mode::of(&known.mode).unwrap_or_default(),
        status: SubscriptionStatus::of(&known.stripe_status),
        period_start: shown_opt(known.period_start_ms),
        period_end: shown_opt(known.period_end_ms),
        cancel_at_period_end: facts["cancel_at_period_end"] == true,
        cancel_at: shown_opt(known.cancel_at_ms),
        pending_downgrade: downgrade,
        pending_upgrade: upgrade,
        unpaid_invoice: unpaid,
    }
}
