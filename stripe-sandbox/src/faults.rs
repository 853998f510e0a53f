//! Misbehaviour on request: of answers and of deliveries.
//!
//! In: faults with how often they are to happen. Out: the fault of the next request or delivery, if any.
//! Always holds: without being asked the sandbox behaves; a fault that was asked for N times happens N times.

use crate::ids::Ids;
use crate::json::text;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// What goes wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 500, and nothing was done.
    ErrorBefore,
    /// 500, though all was done; kept for the idempotency key as Stripe does.
    ErrorAfter,
    /// 429; with `Stripe-Should-Retry` and `Retry-After` as given, or without them.
    TooMany {
        /// The header's value, if it is to be there.
        should_retry: Option<bool>,
        /// Seconds, if the header is to be there.
        retry_after_s: Option<u32>,
    },
    /// 403: a restricted key that lacks the right, and nothing was done.
    Forbidden,
    /// 429 with `lock_timeout`.
    LockTimeout,
    /// 409: another request with the same key is under way.
    Conflict,
    /// All is done, but no answer comes.
    HangAfter,
    /// Nothing is done, and no answer comes.
    HangBefore,
    /// All is done, and the connection is closed without an answer.
    ResetAfter,
    /// Nothing is done, and the connection is closed.
    ResetBefore,
    /// An answer that is no JSON (from a proxy in between), 502.
    Garbage,
}

/// A fault and which requests it befalls.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What goes wrong.
    pub fault: Fault,
    /// Start of the paths, `/v1/prices`; empty for all.
    pub path: String,
    /// Method, or empty for all.
    pub method: String,
    /// How many such requests it lets through before.
    pub after: u32,
    /// How many requests, at most; `u32::MAX` until the faults are cleared.
    pub times: u32,
    /// Requests in a thousand that it befalls.
    pub per_mille: u16,
}

impl Planned {
    /// The next `times` requests whose path begins so.
    pub fn next(fault: Fault, path: &str, times: u32) -> Self {
        Self {
            fault,
            path: path.to_owned(),
            method: String::new(),
            after: 0,
            times,
            per_mille: 1000,
        }
    }

    /// All requests but the next `after`, until the faults are cleared.
    pub fn from_then_on(fault: Fault, after: u32) -> Self {
        Self { after, ..Self::next(fault, "", u32::MAX) }
    }
}

/// What goes wrong with deliveries, each in a thousand of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookFaults {
    /// Types it befalls; empty for all.
    pub types: Vec<String>,
    /// Never delivered.
    pub lost: u16,
    /// Delivered twice.
    pub doubled: u16,
    /// Delivered `withheld_s` later, by the sandbox's clock.
    pub withheld: u16,
    /// How much later.
    pub withheld_s: i64,
    /// Taken from the queue by chance and not in turn.
    pub shuffled: bool,
}

/// Calls of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// All of them.
    pub calls: u64,
    /// Those that were one too many in their second, and got 429.
    pub refused: u64,
    /// The most in one second, refused ones included.
    pub most_in_a_second: u32,
    /// The same for one account.
    pub most_of_an_account: u32,
    /// The same for one account at one endpoint.
    pub most_at_an_endpoint: u32,
}

/// What becomes of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes out, so many times.
    Sent(u32),
    /// It goes out at a later second.
    Later(i64),
    /// It never goes out.
    Lost,
}

/// Faults in force.
#[derive(Debug, Default)]
pub struct Faults {
    planned: VecDeque<Planned>,
    /// Of deliveries.
    pub webhooks: WebhookFaults,
    /// What was called so far.
    pub load: Load,
    second: i64,
    in_second: u32,
    /// By account, and by account and endpoint.
    in_second_of: BTreeMap<(String, &'static str), u32>,
    /// Requests that a fault befell, so far.
    pub made: u64,
}

/// Faults planned at once, at most.
const PLANNED_MAX: usize = 1000;
/// Accounts and endpoints of one second that are counted apart, at most.
const COUNTED_MAX: usize = 10_000;

impl Faults {
    /// Plans a fault; beyond a thousand the oldest is dropped.
    pub fn plan(&mut self, planned: Planned) {
        if self.planned.len() >= PLANNED_MAX {
            self.planned.pop_front();
        }
        self.planned.push_back(planned);
    }

    /// No more faults.
    pub fn clear(&mut self) {
        self.planned.clear();
        self.webhooks = WebhookFaults::default();
    }

    /// The fault of this request, if any.
    pub fn take(&mut self, method: &str, path: &str, ids: &mut Ids) -> Option<Fault> {
        let at = self.planned.iter_mut().position(|planned| {
            let is_meant = path.starts_with(&planned.path)
                && (planned.method.is_empty() || planned.method == method);
            if is_meant && planned.after > 0 {
                planned.after -= 1;
                return false;
            }
            is_meant && (planned.per_mille >= 1000 || ids.happens(planned.per_mille))
        })?;
        let planned = self.planned.get_mut(at)?;
        let fault = planned.fault.clone();
        self.made += 1;
        if planned.times < u32::MAX {
            planned.times = planned.times.saturating_sub(1);
        }
        if planned.times == 0 {
            self.planned.remove(at);
        }
        Some(fault)
    }

    /// Whether this request for an account at an endpoint is over the limit of its second.
    pub fn over_limit(
        &mut self,
        limit: u32,
        now: i64,
        account: &str,
        endpoint: &'static str,
    ) -> bool {
        if now != self.second {
            (self.second, self.in_second) = (now, 0);
            self.in_second_of.clear();
        }
        let of_account = self.count_of(account, "");
        let of_endpoint = self.count_of(account, endpoint);
        self.load.most_of_an_account = self.load.most_of_an_account.max(of_account);
        self.load.most_at_an_endpoint = self.load.most_at_an_endpoint.max(of_endpoint);
        self.in_second = self.in_second.saturating_add(1);
        let is_over = limit > 0 && self.in_second > limit;
        self.load.calls += 1;
        self.load.refused += u64::from(is_over);
        self.load.most_in_a_second = self.load.most_in_a_second.max(self.in_second);
        is_over
    }

    /// One more call in this second.
    fn count_of(&mut self, account: &str, endpoint: &'static str) -> u32 {
        if self.in_second_of.len() >= COUNTED_MAX {
            return 0;
        }
        let count = self.in_second_of.entry((account.to_owned(), endpoint)).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// What becomes of an event's delivery.
    pub fn fate(&self, event: &Value, now: i64, ids: &mut Ids) -> Fate {
        let faults = &self.webhooks;
        let named = |kind: &String| crate::events::matches(kind, text(event, "type"));
        if !faults.types.is_empty() && !faults.types.iter().any(named) {
            return Fate::Sent(1);
        }
        if ids.happens(faults.lost) {
            return Fate::Lost;
        }
        if ids.happens(faults.withheld) {
            return Fate::Later(now + faults.withheld_s);
        }
        Fate::Sent(if ids.happens(faults.doubled) { 2 } else { 1 })
    }
}

#[cfg(test)]
#[path = "faults_tests.rs"]
mod tests;
