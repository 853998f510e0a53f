//! What is due when, on the sandbox's clock and on each test clock.
//!
//! In: dues with their second. Out: the next one up to a time, earliest first, in the order they were put down.
//! Always holds: a due is a hint; whoever acts on it looks whether its object still wants it.

use std::collections::BTreeMap;

/// Something that will have to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// `invoice.upcoming` of a subscription.
    Upcoming(String),
    /// A subscription's period ends.
    PeriodEnd(String),
    /// Three days before a trial's end.
    TrialWillEnd(String),
    /// A subscription is to be canceled (`cancel_at`).
    CancelAt(String),
    /// `pause_collection` ends (`resumes_at`).
    ResumeCollection(String),
    /// A pending update runs out.
    PendingUpdateExpires(String),
    /// A first payment that never came: 23 hours.
    IncompleteExpires(String),
    /// A draft becomes an open invoice.
    Finalize(String),
    /// A failed payment is tried again.
    RetryPayment(String),
    /// A checkout session runs out.
    SessionExpires(String),
    /// A withheld or failed delivery, by its number.
    Deliver(u64),
}

/// All dues, by clock (empty: the sandbox's own), second and order.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BTreeMap<(String, i64, u64), (String, Due)>,
    next: u64,
}

impl Agenda {
    /// Puts down that `due` of `account` is to be looked at.
    pub fn put(&mut self, clock: &str, at: i64, account: &str, due: Due) {
        self.entries.insert((clock.to_owned(), at, self.next), (account.to_owned(), due));
        self.next += 1;
    }

    /// The earliest of a clock up to `until`: its second, account and due.
    pub fn pop(&mut self, clock: &str, until: i64) -> Option<(i64, String, Due)> {
        let range = (clock.to_owned(), i64::MIN, 0)..=(clock.to_owned(), until, u64::MAX);
        let key = self.entries.range(range).next()?.0.clone();
        let (account, due) = self.entries.remove(&key)?;
        Some((key.1, account, due))
    }

    /// Forgets all of a clock.
    pub fn forget_clock(&mut self, clock: &str) {
        self.entries.retain(|(of, _, _), _| of != clock);
    }
}
