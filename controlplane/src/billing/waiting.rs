//! What waits at Stripe: a smaller price for the period's end, as a subscription's metadata says; a larger one for its payment.
//!
//! In: a subscription as fetched. Out: the price that its running period was paid at, the one that is to be there again, its parts as
//! they are to be; a move that is given up.
//! Always holds: a note says of which price and period it is, and of another price or period it says nothing; a part that is changed is
//! named, or Stripe would add one.

use std::collections::BTreeMap;

use super::payers::OVER;
use super::stripe::{ItemChange, Scope, Stripe, StripeError, Subscription as Fetched};
use crate::storage::PlanPrice;

/// The metadata of a subscription that waits for a smaller price: the price that was paid, the one that took its place without a
/// credit, the second until which the first was paid; with spaces between.
const PAID: &str = "payfence_paid";

/// The metadata of one that was put back to what was paid, for a move up from there: the smaller price that waited, the one that took
/// its place, the second until which that was paid. Where the move comes to nothing, the smaller one is put there again.
const WAITS: &str = "payfence_waits";

/// The price that the running period was paid at, where a smaller one took its place without a credit.
#[must_use]
pub fn paid_price(fetched: &Fetched) -> Option<&str> {
    noted(fetched, PAID)
}

/// The smaller price that waited for the period's end, where what was paid took its place for a move up.
#[must_use]
pub fn waiting_price(fetched: &Fetched) -> Option<&str> {
    noted(fetched, WAITS)
}

/// Whether a move up was begun from what was paid, whatever became of it; of a subscription that is over nothing can be changed.
#[must_use]
pub fn is_begun(fetched: &Fetched) -> bool {
    fetched.metadata.contains_key(WAITS) && !OVER.contains(&fetched.status.as_str())
}

fn noted<'a>(fetched: &'a Fetched, key: &str) -> Option<&'a str> {
    let licensed = fetched.licensed()?;
    let mut note = fetched.metadata.get(key)?.split(' ');
    let (other, there, end_s) = (note.next()?, note.next()?, note.next()?);
    let is_now = there == licensed.price.id && end_s.parse().ok() == licensed.current_period_end;
    is_now.then_some(other)
}

/// What the notes are to say; a note of nothing is taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// As [`paid_price`] reads it.
    pub paid: String,
    /// As [`waiting_price`] reads it.
    pub waits: String,
}

impl Notes {
    /// That `there` took the place of `paid` in the period that ends then.
    #[must_use]
    pub fn paid(paid: &str, there: &str, end_s: i64) -> Self {
        Self { paid: format!("{paid} {there} {end_s}"), waits: String::new() }
    }

    /// That `there`, which was paid, took the place of what waited.
    #[must_use]
    pub fn waits(waits: &str, there: &str, end_s: i64) -> Self {
        Self { paid: String::new(), waits: format!("{waits} {there} {end_s}") }
    }

    /// As metadata.
    #[must_use]
    pub fn metadata(self) -> BTreeMap<String, String> {
        BTreeMap::from([(PAID.to_owned(), self.paid), (WAITS.to_owned(), self.waits)])
    }
}

/// The parts as they are to be.
#[must_use]
pub fn parts(fetched: &Fetched, price: &PlanPrice) -> Vec<ItemChange> {
    let licensed = fetched.licensed().map(|item| item.id.clone());
    let mut items =
        vec![ItemChange { id: licensed, price: price.price_id.clone(), ..ItemChange::default() }];
    match (fetched.metered(), &price.metered_price_id) {
        (None, None) => {}
        (Some(item), None) => items.push(ItemChange {
            id: Some(item.id.clone()),
            deleted: Some(true),
            ..ItemChange::default()
        }),
        (item, Some(metered)) => items.push(ItemChange {
            id: item.map(|item| item.id.clone()),
            price: Some(metered.clone()),
            ..ItemChange::default()
        }),
    }
    items
}

/// Gives up a move that waits for its payment; false where it was paid, or given up, just before. The key need not be stored, since an
/// invoice is voided once.
///
/// # Errors
/// When Stripe cannot be asked, or refuses.
pub async fn give_up(
    stripe: &Stripe,
    scope: &Scope,
    fetched: &Fetched,
    key: &str,
) -> Result<bool, StripeError> {
    let invoice = fetched.latest_invoice.as_deref().filter(|_| fetched.pending_update.is_some());
    let Some(invoice) = invoice else { return Ok(true) };
    let error = match stripe.void_invoice(scope, invoice, key).await {
        Ok(_) => return Ok(true),
        Err(error) => error,
    };
    // What is paid, or void, cannot be voided.
    if matches!(&error, StripeError::Refused(refusal) if matches!(refusal.status, 400 | 404))
        && stripe.subscription(scope, &fetched.id).await?.pending_update.is_none()
    {
        return Ok(false);
    }
    Err(error)
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
