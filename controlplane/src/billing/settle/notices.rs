//! What buyers are told because of an event, once it is known to be so still.
//!
//! In: the kinds of a job's events. Out: events for [`crate::notify`], in the change that settles the job.
//! Always holds: an invoice that is paid meanwhile is not complained about; an event is told once, since it ends with the
//! change that tells of it; a buyer has one mail of each attempt to be paid, however many events Stripe makes of it.

use super::subscription::known;
use super::{Owner, SettleError, Settler, is_missing};
use crate::billing::stripe::{Invoice as FetchedInvoice, Subscription as Fetched};
use crate::notify::{self, Event, Invoice};
use crate::storage::{Change, Job, StripeSubscription, Subscription};

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Notices {
    failed: Option<Unpaid>,
    action_required: Option<Unpaid>,
    is_trial_ending: bool,
}

/// An invoice that is not paid.
#[derive(Debug)]
struct Unpaid {
    invoice: Invoice,
    /// Which attempt to be paid failed, unlike any other's.
    attempt: String,
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
    ) -> Result<Option<Unpaid>, SettleError> {
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

fn told(id: &str, invoice: FetchedInvoice) -> Option<Unpaid> {
    let is_open = invoice.status.as_deref() == Some("open");
    is_open.then(|| Unpaid {
        attempt: format!("{id}/{}", invoice.attempt_count),
        invoice: Invoice {
            id: id.to_owned(),
            amount_minor: invoice.amount_due,
            currency: invoice.currency,
            hosted_invoice_url: invoice.hosted_invoice_url,
            next_attempt_at_ms: invoice.next_payment_attempt.map(|at_s| at_s.saturating_mul(1_000)),
        },
    })
}

/// Tells it with the change.
pub(super) async fn tell(
    change: &mut Change,
    owner: &Owner,
    row: &Subscription,
    fetched: &Fetched,
    notices: &Notices,
) -> Result<(), SettleError> {
    // What its holder is to do is said rather than that it failed; the other is for the owner's programs alone.
    if let Some(unpaid) = &notices.action_required {
        let event = Event::payment_action_required(row, &unpaid.invoice);
        tell_of_attempt(change, owner, fetched, &unpaid.attempt, event).await?;
    }
    if let Some(unpaid) = &notices.failed {
        let event = Event::payment_failed(row, &unpaid.invoice);
        tell_of_attempt(change, owner, fetched, &unpaid.attempt, event).await?;
    }
    if let (true, Some(end_s)) = (notices.is_trial_ending, fetched.trial_end)
        && fetched.status == "trialing"
    {
        let ends_at_ms = end_s.saturating_mul(1_000);
        notify::enqueue(change, Event::trial_ending(row, ends_at_ms)).await?;
    }
    Ok(())
}

/// Tells of an attempt to be paid, with a mail where it is the first that is told of it.
async fn tell_of_attempt(
    change: &mut Change,
    owner: &Owner,
    fetched: &Fetched,
    attempt: &str,
    event: Event,
) -> Result<(), SettleError> {
    let facts = known(&change.tenant(), owner.mode, &fetched.id).await?;
    let Some(facts) = facts.filter(|facts| facts.mailed_attempt.as_deref() != Some(attempt)) else {
        notify::enqueue_unmailed(change, event).await?;
        return Ok(());
    };
    let after = StripeSubscription { mailed_attempt: Some(attempt.to_owned()), ..facts.clone() };
    change.update(&facts, after).await?;
    notify::enqueue(change, event).await?;
    Ok(())
}
