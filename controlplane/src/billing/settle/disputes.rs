//! What a dispute holds, and until when.
//!
//! In: what is known of a subscription's disputes, its invoices as they are now. Out: whether a dispute holds it; which hold it no more.
//! Always holds: only money that was taken back holds anything, so an inquiry does not; who has paid an invoice since a dispute began, open
//! or lost, is served for that, and what was paid once stays paid: it is kept with the dispute, so that nothing that comes later undoes it.

use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::subscription::site_of;
use super::{Owner, SettleError, Settler};
use crate::billing::stripe::{Invoice, InvoiceQuery, Subscription as Fetched};
use crate::storage::{Change, StorageResult, StripeReversal, Subscription, Tenant, column};

/// Disputes of a subscription that are looked at.
const DISPUTES_MAX: u64 = 1_000;
/// Invoices that are looked at, newest first.
const INVOICES_MAX: u32 = 100;

impl Settler {
    /// The disputes of a subscription of ours since which an invoice of it was paid; nothing is asked where none is in force.
    pub(super) async fn repaid(
        &self,
        owner: &Owner,
        id: &str,
        fetched: &Fetched,
    ) -> Result<Vec<StripeReversal>, SettleError> {
        // What is over, or deleted at Stripe, is not held.
        if !matches!(fetched.status.as_str(), "active" | "trialing" | "past_due") {
            return Ok(Vec::new());
        }
        let tenant = self.store.tenant(&owner.account_id);
        let mut disputes = in_force(&tenant, id).await?;
        if disputes.is_empty() {
            return Ok(disputes);
        }
        let query = InvoiceQuery {
            subscription: Some(fetched.id.clone()),
            status: Some("paid".to_owned()),
            limit: Some(INVOICES_MAX),
        };
        let paid = self.stripe.invoices(&owner.scope(), &query).await?;
        let last_s = paid.data.iter().filter_map(paid_at_s).max();
        disputes.retain(|dispute| last_s > dispute.opened_at_s);
        Ok(disputes)
    }
}

/// When a period, or anything else, was paid; none of what was asked for nothing, as a change that only credits.
fn paid_at_s(invoice: &Invoice) -> Option<i64> {
    let is_period = invoice.billing_reason.as_deref() == Some("subscription_cycle");
    invoice.status_transitions.paid_at.filter(|_| is_period || invoice.amount_paid > 0)
}

/// Keeps that disputes hold nothing any more.
pub(super) async fn end(change: &mut Change, repaid: &[StripeReversal]) -> StorageResult<()> {
    for dispute in repaid {
        let Some(before) = change.lock::<StripeReversal>(&dispute.id).await? else { continue };
        let after = StripeReversal { repaid_at_ms: Some(change.now_ms()), ..before.clone() };
        change.update(&before, after).await?;
    }
    Ok(())
}

/// Whether a dispute holds it, as its site says.
///
/// # Errors
/// When the database cannot be asked, or the site is gone.
pub async fn is_held(tenant: &Tenant<'_>, row: &Subscription) -> Result<bool, SettleError> {
    if !site_of(tenant, &row.site_id).await?.suspends_on_dispute() {
        return Ok(false);
    }
    Ok(!in_force(tenant, &row.id).await?.is_empty())
}

/// Disputes by which money is taken back, with nothing paid since.
async fn in_force(
    tenant: &Tenant<'_>,
    subscription_id: &str,
) -> StorageResult<Vec<StripeReversal>> {
    let disputes = tenant.all::<StripeReversal>(DISPUTES_MAX, |query| {
        query
            .filter(column::StripeReversal::SubscriptionId.eq(subscription_id))
            .filter(column::StripeReversal::Kind.eq("dispute"))
            .filter(column::StripeReversal::RepaidAtMs.is_null())
    });
    let mut disputes = disputes.await?;
    disputes.retain(|dispute| takes_money(&dispute.status));
    Ok(disputes)
}

/// Whether a dispute of this status has taken money, or keeps it: Stripe's words for inquiries begin `warning_`.
fn takes_money(status: &str) -> bool {
    !matches!(status, "won" | "prevented") && !status.starts_with("warning_")
}
