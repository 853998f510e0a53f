//! What is owed for a subscription: which failure it is past due for, and the invoice that its buyer can pay.
//!
//! In: the subscription as fetched, what was known of it. Out: when the invoice was made that is not paid, whether it is another
//! failure than the one that was known; the open invoice, with the page on which it is paid.
//! Always holds: grace is had once for a failure: a retry, or a further invoice while the first is unpaid, begins no other; once
//! the one that was known is paid, the next begins its own, also where nobody told of the time between. An invoice that is paid or
//! void is not shown.

use serde::{Deserialize, Serialize};

use super::{Owner, SettleError, Settler, is_missing};
use crate::billing::stripe::{Invoice, InvoiceQuery, Subscription as Fetched};
use crate::storage::StripeSubscription;

/// Stripe's words for subscriptions whose invoice is not paid.
const OWING: &[&str] = &["incomplete", "past_due", "unpaid"];

/// What is owed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owed {
    /// When the invoice was made that it is past due for, Unix seconds; none where it is not past due.
    pub at_s: Option<i64>,
    /// Whether the failure that was known is over.
    pub is_another: bool,
    /// The invoice that can be paid.
    pub invoice: Option<UnpaidInvoice>,
}

/// An open invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpaidInvoice {
    /// `in_…`.
    pub id: String,
    /// In the smallest unit.
    pub amount_due: i64,
    /// Three letters, lower case.
    pub currency: String,
    /// Where the buyer pays it.
    pub url: Option<String>,
    /// How often it was tried to be paid.
    pub attempts: i64,
    /// When Stripe tries again, Unix seconds.
    pub next_attempt_at_s: Option<i64>,
}

impl UnpaidInvoice {
    /// What a row says; none where there is none.
    #[must_use]
    pub fn of(row: &StripeSubscription) -> Option<Self> {
        serde_json::from_str(row.unpaid_invoice.as_deref()?).ok()
    }

    fn open(invoice: Invoice) -> Option<Self> {
        let id = invoice.id.filter(|_| invoice.status.as_deref() == Some("open"))?;
        Some(Self {
            id,
            amount_due: invoice.amount_due,
            currency: invoice.currency,
            url: invoice.hosted_invoice_url,
            attempts: invoice.attempt_count,
            next_attempt_at_s: invoice.next_payment_attempt,
        })
    }
}

/// Puts what is owed into a row. The page's address is another one each time it is asked for, and all of them lead there: it is
/// taken anew with an attempt, so that looking again changes nothing.
pub(super) fn keep(row: &mut StripeSubscription, owed: &Owed) {
    let Some(mut invoice) = owed.invoice.clone() else {
        row.unpaid_invoice = None;
        return;
    };
    if let Some(known) = UnpaidInvoice::of(row)
        && known.id == invoice.id
        && known.attempts == invoice.attempts
        && known.url.is_some()
    {
        invoice.url = known.url;
    }
    row.unpaid_invoice = serde_json::to_string(&invoice).ok();
}

impl Settler {
    /// What is owed for a subscription, by its invoices as they are now.
    pub(super) async fn owed(
        &self,
        owner: &Owner,
        fetched: &Fetched,
        known: Option<&StripeSubscription>,
    ) -> Result<Owed, SettleError> {
        let is_owing = OWING.contains(&fetched.status.as_str());
        let latest = fetched.latest_invoice.as_deref();
        let Some(latest) = latest.filter(|_| is_owing || fetched.pending_update.is_some()) else {
            return Ok(Owed::default());
        };
        let invoice = self.stripe.invoice(&owner.scope(), latest).await?;
        let created = invoice.created;
        let open = match UnpaidInvoice::open(invoice) {
            // The newest is a draft for an hour, and the one before it still to be paid.
            None if is_owing => self.open_invoice(owner, &fetched.id).await?,
            open => open,
        };
        let owed = Owed { invoice: open, ..Owed::default() };
        if fetched.status != "past_due" {
            return Ok(owed);
        }
        let at_s = (created > 0).then_some(created);
        let before = known.and_then(failed_before).filter(|before| before != latest);
        let is_another = match before {
            Some(before) => self.is_settled(owner, &before).await?,
            None => false,
        };
        Ok(Owed { at_s, is_another, ..owed })
    }

    async fn open_invoice(
        &self,
        owner: &Owner,
        id: &str,
    ) -> Result<Option<UnpaidInvoice>, SettleError> {
        let query = InvoiceQuery {
            subscription: Some(id.to_owned()),
            status: Some("open".to_owned()),
            limit: Some(1),
        };
        let found = self.stripe.invoices(&owner.scope(), &query).await?;
        Ok(found.data.into_iter().find_map(UnpaidInvoice::open))
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
