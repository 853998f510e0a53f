//! What buyers are told because of an event, once it is known to be so still.
//!
//! In: the kinds of a job's events. Out: events for [`crate::notify`], in the change that settles the job.
//! Always holds: an invoice that is paid meanwhile is not complained about; an event is told once, since it ends with the
//! change that tells of it.

use super::{Owner, SettleError, Settler, is_missing};
use crate::billing::stripe::{Invoice as FetchedInvoice, Subscription as Fetched};
use crate::notify::{self, Event, Invoice};
use crate::storage::{Change, Job, Subscription};

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Notices {
    failed: Option<Invoice>,
    action_required: Option<Invoice>,
    is_trial_ending: bool,
}

impl Settler {
    /// What a job's events give reason to tell, with the invoices as they are now.
    pub(super) async fn notices(
        &self,
        owner: &Owner,
        job: Option<&Job>,
    ) -> Result<Notices, SettleError> {
        let Some(job) = job else { return Ok(Notices::default()) };
        Ok(Notices {
            failed: self.unpaid(owner, job, "invoice.payment_failed").await?,
            action_required: self.unpaid(owner, job, "invoice.payment_action_required").await?,
            is_trial_ending: last(job, "customer.subscription.trial_will_end").is_some(),
        })
    }

    /// The invoice of the last event of a kind, where it is unpaid still.
    async fn unpaid(
        &self,
        owner: &Owner,
        job: &Job,
        kind: &str,
    ) -> Result<Option<Invoice>, SettleError> {
        let Some(Some(id)) = last(job, kind) else { return Ok(None) };
        match self.stripe.invoice(&owner.scope(), id).await {
            Ok(invoice) => Ok(told(id, invoice)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn last<'a>(job: &'a Job, kind: &str) -> Option<Option<&'a str>> {
    let found = job.events.iter().rev().find(|event| event.kind == kind);
    found.map(|event| event.object_id.as_deref())
}

fn told(id: &str, invoice: FetchedInvoice) -> Option<Invoice> {
    (invoice.status.as_deref() == Some("open")).then(|| Invoice {
        id: id.to_owned(),
        amount_minor: invoice.amount_due,
        currency: invoice.currency,
        hosted_invoice_url: invoice.hosted_invoice_url,
        next_attempt_at_ms: invoice.next_payment_attempt.map(|at_s| at_s.saturating_mul(1_000)),
    })
}

/// Tells it with the change.
pub(super) async fn tell(
    change: &mut Change,
    row: &Subscription,
    fetched: &Fetched,
    notices: &Notices,
) -> Result<(), SettleError> {
    if let Some(invoice) = &notices.failed {
        notify::enqueue(change, Event::payment_failed(row, invoice)).await?;
    }
    if let Some(invoice) = &notices.action_required {
        notify::enqueue(change, Event::payment_action_required(row, invoice)).await?;
    }
    if let (true, Some(end_s)) = (notices.is_trial_ending, fetched.trial_end)
        && fetched.status == "trialing"
    {
        let ends_at_ms = end_s.saturating_mul(1_000);
        notify::enqueue(change, Event::trial_ending(row, ends_at_ms)).await?;
    }
    Ok(())
}
