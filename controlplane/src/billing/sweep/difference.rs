//! Whether a subscription of Stripe's is here as it is there.
//!
//! In: the object as listed, what is known of it. Out: a hint that it should be settled.
//! Always holds: one that was not bought here is no difference.

use crate::billing::settle::checkout::CHECKOUT_KEY;
use crate::billing::settle::state;
use crate::billing::stripe::{Mode, Subscription as Fetched};
use crate::billing::waiting;
use crate::storage::{Arrived, StripeSubscription};

/// The type of hints that a sweep gives.
pub const KIND: &str = "payfence.subscription.differs";

/// Whether it is not here as it is there.
pub fn is_worth_settling(row: Option<&StripeSubscription>, fetched: &Fetched) -> bool {
    let Some(row) = row else {
        // What was never paid, and cannot be any more, Stripe lists for ever.
        let is_lapsed = fetched.status == "incomplete_expired";
        return fetched.metadata.contains_key(CHECKOUT_KEY) && !is_lapsed;
    };
    let (start_ms, end_ms) = state::period(fetched);
    let price_id = fetched.licensed().map(|item| item.price.id.as_str());
    row.stripe_status != fetched.status
        || (price_id.is_some() && row.price_id.as_deref() != price_id)
        || (start_ms.is_some() && row.period_start_ms != start_ms)
        || (end_ms.is_some() && row.period_end_ms != end_ms)
        || row.cancel_at_ms != state::cancel_at_ms(fetched)
        || row.upgrade_until_ms != state::upgrade_until_ms(fetched)
        || waiting::is_unfinished(fetched)
}

/// An event of our own; the same for one sweep, however often a page is read.
pub fn hint(fetched: &Fetched, account: &str, mode: Mode, began_ms: i64) -> Arrived {
    Arrived {
        mode: mode.as_str(),
        stripe_account: account.to_owned(),
        event_id: format!("sweep_{began_ms}_{}", fetched.id),
        kind: KIND.to_owned(),
        livemode: mode.is_live(),
        event_at_s: began_ms.div_euclid(1_000),
        object_id: Some(fetched.id.clone()),
        object_kind: Some("subscription".to_owned()),
        subject: Some(format!("subscription/{}", fetched.id)),
    }
}
