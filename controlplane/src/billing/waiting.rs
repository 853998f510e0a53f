//! What waits at Stripe: a smaller price for the period's end, as a subscription's metadata says; a larger one for its payment; a meter
//! for the use of the one before it to be billed.
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

/// The metadata of one whose part with a meter is still another price's: the price that it is to be the part of. What that meter was
/// told is billed when the part is replaced, which nothing else may be together with: it would be prorated.
const METER: &str = "payfence_meter";

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

/// The price whose meter is to take the place of the one that is there.
#[must_use]
pub fn metered_by(fetched: &Fetched) -> Option<&str> {
    let note = fetched.metadata.get(METER)?;
    let is_over = OVER.contains(&fetched.status.as_str());
    fetched.licensed().map(|item| item.price.id.as_str()).filter(|there| note == there && !is_over)
}

/// Whether something that was begun has yet to be done.
#[must_use]
pub fn is_unfinished(fetched: &Fetched) -> bool {
    is_begun(fetched) || metered_by(fetched).is_some()
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
    /// As [`metered_by`] reads it.
    pub meter: String,
}

impl Notes {
    /// That `there` took the place of `paid` in the period that ends then.
    #[must_use]
    pub fn paid(paid: &str, there: &str, end_s: i64) -> Self {
        Self { paid: format!("{paid} {there} {end_s}"), ..Self::default() }
    }

    /// That `there`, which was paid, took the place of what waited.
    #[must_use]
    pub fn waits(waits: &str, there: &str, end_s: i64) -> Self {
        Self { waits: format!("{waits} {there} {end_s}"), ..Self::default() }
    }

    /// The same, and that the part with a meter is to be this price's.
    #[must_use]
    pub fn with_meter_of(self, price_id: &str) -> Self {
        Self { meter: price_id.to_owned(), ..self }
    }

    /// As metadata.
    #[must_use]
    pub fn metadata(self) -> BTreeMap<String, String> {
        let notes = [(PAID, self.paid), (WAITS, self.waits), (METER, self.meter)];
        notes.map(|(key, note)| (key.to_owned(), note)).into()
    }
}

/// The metadata that takes away the note of what waited.
#[must_use]
pub fn nothing_waits() -> BTreeMap<String, String> {
    BTreeMap::from([(WAITS.to_owned(), String::new())])
}

/// The metadata that takes away the note of a meter.
#[must_use]
pub fn meter_is_there() -> BTreeMap<String, String> {
    BTreeMap::from([(METER.to_owned(), String::new())])
}

/// The parts as they are to be.
#[must_use]
pub fn parts(fetched: &Fetched, price: &PlanPrice) -> Vec<ItemChange> {
    let mut items = vec![licensed_part(fetched, price)];
    items.extend(metered_part(fetched, price));
    items
}

/// The part that the plan is paid by, as it is to be.
#[must_use]
pub fn licensed_part(fetched: &Fetched, price: &PlanPrice) -> ItemChange {
    let id = fetched.licensed().map(|item| item.id.clone());
    ItemChange { id, price: price.price_id.clone(), ..ItemChange::default() }
}

/// The part that overage is paid by, as it is to be; none where it is so.
#[must_use]
pub fn metered_part(fetched: &Fetched, price: &PlanPrice) -> Option<ItemChange> {
    let (there, wanted) = (fetched.metered(), price.metered_price_id.as_ref());
    if there.map(|item| &item.price.id) == wanted {
        return None;
    }
    Some(ItemChange {
        id: there.map(|item| item.id.clone()),
        price: wanted.cloned(),
        deleted: wanted.is_none().then_some(true),
        ..ItemChange::default()
    })
}

/// Whether the part that overage is paid by is replaced by one that costs otherwise, so that what its meter was told is to be billed.
/// What is used in a trial is free.
#[must_use]
pub fn leaves_use(fetched: &Fetched, price: &PlanPrice) -> bool {
    let is_there = fetched.metered().is_some() && fetched.status != "trialing";
    is_there && metered_part(fetched, price).is_some()
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
