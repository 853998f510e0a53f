//! Which failed payment a subscription is past due for.
//!
//! In: the subscription as fetched, what was known of it. Out: when the invoice was made that is not paid, and whether it is
//! another failure than the one that was known.
//! Always holds: grace is had once for a failure: a retry, or a further invoice while the first is unpaid, begins no other; once
//! the one that was known is paid, the next begins its own, also where nobody told of the time between.

use super::{Owner, SettleError, Settler, is_missing};
use crate::billing::stripe::Subscription as Fetched;
use crate::storage::StripeSubscription;

/// What a subscription is past due for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// When the invoice was made, Unix seconds; none where it is not past due.
    pub at_s: Option<i64>,
    /// Whether the failure that was known is over.
    pub is_another: bool,
}

impl Settler {
    /// What a subscription is past due for, by its invoices as they are now.
    pub(super) async fn failure(
        &self,
        owner: &Owner,
        fetched: &Fetched,
        known: Option<&StripeSubscription>,
    ) -> Result<Failure, SettleError> {
        let latest = fetched.latest_invoice.as_deref().filter(|_| fetched.status == "past_due");
        let Some(latest) = latest else { return Ok(Failure::default()) };
        let invoice = self.stripe.invoice(&owner.scope(), latest).await?;
        let at_s = (invoice.created > 0).then_some(invoice.created);
        let before = known.and_then(failed_before).filter(|before| before != latest);
        let is_another = match before {
            Some(before) => self.is_settled(owner, &before).await?,
            None => false,
        };
        Ok(Failure { at_s, is_another })
    }

    /// Whether nothing is to be paid of an invoice any more.
    async fn is_settled(&self, owner: &Owner, invoice: &str) -> Result<bool, SettleError> {
        match self.stripe.invoice(&owner.scope(), invoice).await {
            Ok(invoice) => Ok(matches!(invoice.status.as_deref(), Some("paid" | "void"))),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The invoice that a subscription was known to be past due for.
fn failed_before(known: &StripeSubscription) -> Option<String> {
    if known.stripe_status != "past_due" {
        return None;
    }
    let facts: serde_json::Value = serde_json::from_str(&known.facts).ok()?;
    facts["latest_invoice"].as_str().map(ToOwned::to_owned)
}
