//! Money that went back: refunds and disputes, and what the site has follow from them.
//!
//! In: a charge, a refund or a dispute. Out: the ledger of reversals; a subscription ended at Stripe or held here, as
//! `on_full_refund` and `on_dispute` of its site say.
//! Always holds: one row a charge and one a dispute, as it is now; what is ended is ended at Stripe, and written here only
//! because Stripe then says so. What was used past the limit before is on its last invoice.

use sea_orm::{ColumnTrait as _, QueryFilter as _};

use super::checkout::NOT_PAID;
use super::subscription::{known, site_of};
use super::{Owner, SettleError, Settled, Settler, Under, is_missing};
use crate::billing::payers::OVER;
use crate::billing::stripe::{Cancellation, StripeError};
use crate::billing::waiting;
use crate::ids::new_id;
use crate::storage::{Change, Job, StripeReversal, StripeSubscription, Subscription, column};

const NOT_OURS: Settled = Settled::Nothing("it is of no subscription of ours");

/// What an amount went back for.
struct For {
    facts: StripeSubscription,
    invoice_id: String,
}

impl Settler {
    pub(super) async fn refund(
        &self,
        owner: &Owner,
        id: &str,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        let refund = self.stripe.refund(&owner.scope(), id).await?;
        match refund.charge {
            Some(charge) => self.charge(owner, &charge, job).await,
            None => Ok(Settled::Nothing("the refund is of no charge")),
        }
    }

    pub(super) async fn charge(
        &self,
        owner: &Owner,
        id: &str,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        let charge = self.stripe.charge(&owner.scope(), id).await?;
        let Some(of) = self.paid_for(owner, charge.payment_intent.as_deref()).await? else {
            return Ok(NOT_OURS);
        };
        let is_full = charge.refunded && charge.amount > 0;
        let word = match charge.amount_refunded {
            _ if is_full => "full",
            0 => "none",
            _ => "partial",
        };
        let row = StripeReversal {
            stripe_id: charge.id.clone(),
            kind: "refund".to_owned(),
            status: word.to_owned(),
            amount: charge.amount_refunded,
            currency: charge.currency,
            charge_id: Some(charge.id),
            ..StripeReversal::default()
        };
        self.keep(owner, row, &of).await?;
        if is_full && self.ends_on_refund(owner, &of).await? {
            self.end(owner, &of.facts).await?;
        }
        self.subscription_too(owner, &of.facts.stripe_id, job).await
    }

    pub(super) async fn dispute(
        &self,
        owner: &Owner,
        id: &str,
        job: &Job,
    ) -> Result<Settled, SettleError> {
        let dispute = self.stripe.dispute(&owner.scope(), id).await?;
        let payment_intent = match (dispute.payment_intent, &dispute.charge) {
            (Some(payment_intent), _) => Some(payment_intent),
            (None, Some(charge)) => {
                self.stripe.charge(&owner.scope(), charge).await?.payment_intent
            }
            (None, None) => None,
        };
        let Some(of) = self.paid_for(owner, payment_intent.as_deref()).await? else {
            return Ok(NOT_OURS);
        };
        let row = StripeReversal {
            stripe_id: dispute.id,
            kind: "dispute".to_owned(),
            status: dispute.status,
            amount: dispute.amount,
            currency: dispute.currency,
            charge_id: dispute.charge,
            opened_at_s: Some(dispute.created),
            ..StripeReversal::default()
        };
        self.keep(owner, row, &of).await?;
        self.subscription_too(owner, &of.facts.stripe_id, job).await
    }

    /// The subscription that was paid for: a charge names no invoice any more, its payments do.
    async fn paid_for(
        &self,
        owner: &Owner,
        payment_intent: Option<&str>,
    ) -> Result<Option<For>, SettleError> {
        let Some(payment_intent) = payment_intent else { return Ok(None) };
        let scope = owner.scope();
        let payments = self.stripe.invoice_payments(&scope, payment_intent).await?;
        let Some(invoice_id) = payments.data.into_iter().find_map(|payment| payment.invoice) else {
            return Ok(None);
        };
        let invoice = self.stripe.invoice(&scope, &invoice_id).await?;
        let Some(id) = invoice.subscription() else { return Ok(None) };
        let facts = self.known_by_now(owner, id).await?;
        Ok(facts.map(|facts| For { facts, invoice_id }))
    }

    /// What is known of a subscription; one that was bought here and not told of yet is settled first.
    async fn known_by_now(
        &self,
        owner: &Owner,
        id: &str,
    ) -> Result<Option<StripeSubscription>, SettleError> {
        let tenant = self.store.tenant(&owner.account_id);
        if let Some(facts) = known(&tenant, owner.mode, id).await? {
            return Ok(Some(facts));
        }
        let lease = self.take(owner, id).await?;
        let under = Under { subscription: Some(&lease), job: None };
        let settled = self.subscription(owner, id, None, under).await;
        self.let_go(&lease).await;
        if settled? == Settled::Nothing(NOT_PAID) {
            return Err(SettleError::TooEarly);
        }
        Ok(known(&tenant, owner.mode, id).await?)
    }

    /// Writes a reversal as it is now.
    async fn keep(&self, owner: &Owner, row: StripeReversal, of: &For) -> Result<(), SettleError> {
        let mut change = self.change(owner).await?;
        let row = StripeReversal {
            mode: owner.mode.as_str().to_owned(),
            invoice_id: Some(of.invoice_id.clone()),
            subscription_id: Some(of.facts.subscription_id.clone()),
            ..row
        };
        match reversal(&change, &row).await? {
            None => drop(change.insert(row).await?),
            Some(before) => {
                let after =
                    StripeReversal { status: row.status, amount: row.amount, ..before.clone() };
                if after != before {
                    change.update(&before, after).await?;
                }
            }
        }
        Ok(change.commit().await?)
    }

    async fn ends_on_refund(&self, owner: &Owner, of: &For) -> Result<bool, SettleError> {
        let tenant = self.store.tenant(&owner.account_id);
        let row = tenant.get::<Subscription>(&of.facts.subscription_id).await?;
        let Some(row) = row else { return Ok(false) };
        Ok(site_of(&tenant, &row.site_id).await?.cancels_on_full_refund())
    }

    /// Ends a subscription at Stripe; one that has ended already stays so. What went back is what was paid, and its overage is not paid
    /// yet: it is told first, and invoiced with the end.
    async fn end(&self, owner: &Owner, facts: &StripeSubscription) -> Result<(), SettleError> {
        let (scope, id) = (owner.scope(), facts.stripe_id.as_str());
        let fetched = self.stripe.subscription(&scope, id).await?;
        if OVER.contains(&fetched.status.as_str()) {
            return Ok(());
        }
        self.tell_left(owner, facts, "no invoice comes after the last one").await?;
        // Nobody is to pay for a plan that they do not get any more.
        let key = new_id("pf", &**self.store.world());
        waiting::give_up(&self.stripe, &scope, &fetched, &key).await?;
        let request = Cancellation { invoice_now: Some(true), prorate: None };
        match self.stripe.cancel_subscription(&scope, id, request).await {
            Ok(_) => Ok(()),
            // Another may have ended it since.
            Err(error) if is_missing(&error) => Ok(()),
            Err(StripeError::Refused(refusal)) if refusal.status == 400 => {
                let status = self.stripe.subscription(&scope, id).await?.status;
                let is_over = status == "canceled";
                if is_over { Ok(()) } else { Err(StripeError::Refused(refusal).into()) }
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn reversal(
    change: &Change,
    row: &StripeReversal,
) -> Result<Option<StripeReversal>, SettleError> {
    let tenant = change.tenant();
    let found = tenant.one::<StripeReversal>(|query| {
        query
            .filter(column::StripeReversal::StripeId.eq(row.stripe_id.as_str()))
            .filter(column::StripeReversal::Mode.eq(row.mode.as_str()))
    });
    Ok(found.await?)
}
