//! Webhooks on their way: queued with the event, posted by a task of their own, tried again as Stripe does.
//!
//! In: events and the endpoints that want them. Out: signed POSTs; failures come back by the agenda.
//! Always holds: a body is the same bytes at each attempt, its signature's time is the attempt's; an attempt that is not
//! answered 2xx is made again after 10 s, 1 min, 5 min … up to three days; the queue has a bound.

use crate::agenda::Due;
use crate::events::matches;
use crate::faults::Fate;
use crate::json::{self, entries, flag, text};
use crate::state::{PLATFORM, State};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Deliveries waiting at most; the oldest are given up beyond it.
const WAITING_MAX: usize = 1_000_000;
/// Times of answers that are kept.
const ANSWERS_MAX: usize = 1_000_000;
/// Seconds after each failed attempt; all together three days.
const RETRY_S: [i64; 11] =
    [10, 60, 300, 1_800, 7_200, 18_000, 36_000, 43_200, 43_200, 43_200, 43_200];

/// One event on its way to one endpoint.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its number within the sandbox.
    pub number: u64,
    /// Room of the event.
    pub account: String,
    /// The event.
    pub event: String,
    /// Where it goes.
    pub url: String,
    /// Key of the signature.
    pub secret: String,
    /// The event as JSON.
    pub body: Bytes,
    /// Attempts made.
    pub attempts: usize,
}

/// One delivery each so often, whatever became of the ones before.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When the next is due.
    pub due: Instant,
    /// How long after it the one after it is.
    pub every: Duration,
}

/// What there is to send.
#[derive(Debug)]
pub enum Next {
    /// One to send now, marked as under way, and when it was due where that was earlier.
    Now(Box<Delivery>, Option<Instant>),
    /// The next is due then.
    At(Instant),
    /// None, until something changes.
    Nothing,
}

/// Deliveries that wait or are under way.
#[derive(Debug, Default)]
pub struct Outbox {
    ready: VecDeque<Delivery>,
    later: HashMap<u64, Delivery>,
    next: u64,
    /// Under way now.
    pub in_flight: usize,
    /// Nothing is sent while this is set.
    pub held: bool,
    /// When the next may go, where they go at a pace.
    pub pace: Option<Pace>,
    /// Attempts answered 2xx, and others.
    pub counts: (u64, u64),
    /// How long the newest took to be answered, from when they were due.
    pub answers: VecDeque<Duration>,
}

impl Outbox {
    /// Whether nothing can be sent now and nothing is under way.
    pub fn is_settled(&self) -> bool {
        self.in_flight == 0 && (self.held || self.ready.is_empty())
    }

    /// Deliveries that could be sent now.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Deliveries withheld, or to be tried again.
    pub fn later(&self) -> usize {
        self.later.len()
    }

    fn push(&mut self, delivery: Delivery) {
        if self.ready.len() >= WAITING_MAX {
            self.ready.pop_front();
        }
        self.ready.push_back(delivery);
    }
}

impl State {
    /// A thin event (`v2.…`): it names an object and holds none. Only endpoints that ask for `v2.…` by name get it.
    pub(crate) fn notify(&mut self, account: &str, kind: &str, related: &Value) {
        let created = crate::api::accounts::rfc3339(self.library_now);
        let event = json!({
            "id": self.ids.id("evt"), "object": "v2.core.event", "type": kind, "created": created, "context": account,
            "livemode": false, "reason": null, "related_object": related,
        });
        let endpoints = self.endpoints(account, kind);
        let body = Bytes::from(event.to_string());
        self.post_to(&endpoints, account, &event, &body);
    }

    /// Hands an event to endpoints: address and secret of each.
    pub(crate) fn post_to(
        &mut self,
        endpoints: &[(String, String)],
        account: &str,
        event: &Value,
        body: &Bytes,
    ) {
        for (url, secret) in endpoints {
            let delivery = Delivery {
                number: self.outbox.next,
                account: account.to_owned(),
                event: text(event, "id").to_owned(),
                url: url.clone(),
                secret: secret.clone(),
                body: body.clone(),
                attempts: 0,
            };
            self.outbox.next += 1;
            match self.faults.fate(event, self.library_now, &mut self.ids) {
                Fate::Lost => {}
                Fate::Later(at) => self.postpone(delivery, at),
                Fate::Sent(times) => {
                    for _ in 1..times {
                        self.outbox.push(delivery.clone());
                    }
                    self.outbox.push(delivery);
                }
            }
        }
    }

    /// Address and secret of each enabled endpoint that wants a kind of event of an account.
    pub(crate) fn endpoints(&self, account: &str, kind: &str) -> Vec<(String, String)> {
        let of = |room: &str, connect: bool| {
            let rows = self
                .table(room, "webhook_endpoint")
                .into_iter()
                .flat_map(|table| table.oldest(None));
            rows.filter(|endpoint| {
                flag(endpoint, "_connect") == connect
                    && text(endpoint, "status") == "enabled"
                    && entries(endpoint, "enabled_events")
                        .iter()
                        .any(|pattern| matches(pattern.as_str().unwrap_or(""), kind))
            })
            .map(|endpoint| {
                (text(endpoint, "url").to_owned(), text(endpoint, "_secret").to_owned())
            })
            .collect::<Vec<_>>()
        };
        let mut found = of(account, false);
        if account != PLATFORM {
            found.extend(of(PLATFORM, true));
        }
        found
    }

    fn postpone(&mut self, delivery: Delivery, at: i64) {
        self.agenda.put("", at, &delivery.account, Due::Deliver(delivery.number));
        self.outbox.later.insert(delivery.number, delivery);
    }

    /// A delivery of the agenda can be sent now.
    pub(crate) fn deliver_due(&mut self, number: u64) {
        if let Some(delivery) = self.outbox.later.remove(&number) {
            self.outbox.push(delivery);
        }
    }

    /// All that was withheld or failed can be sent now.
    pub(crate) fn deliver_all_now(&mut self) {
        let mut numbers: Vec<u64> = self.outbox.later.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            self.deliver_due(number);
        }
    }

    /// The next delivery to send at this time.
    pub(crate) fn take_delivery(&mut self, now: Instant) -> Next {
        if self.outbox.held || self.outbox.ready.is_empty() {
            return Next::Nothing;
        }
        let mut due = None;
        if let Some(pace) = &mut self.outbox.pace {
            if now < pace.due {
                return Next::At(pace.due);
            }
            due = Some(pace.due);
            pace.due += pace.every;
        }
        let at =
            if self.faults.webhooks.shuffled { self.ids.below(self.outbox.ready.len()) } else { 0 };
        let Some(delivery) = self.outbox.ready.remove(at) else { return Next::Nothing };
        self.outbox.in_flight += 1;
        Next::Now(Box::new(delivery), due)
    }

    /// What came of an attempt.
    pub(crate) fn delivered(&mut self, mut delivery: Delivery, accepted: bool, took: Duration) {
        if self.outbox.answers.len() >= ANSWERS_MAX {
            self.outbox.answers.pop_front();
        }
        self.outbox.answers.push_back(took);
        self.outbox.in_flight = self.outbox.in_flight.saturating_sub(1);
        if accepted {
            self.outbox.counts.0 += 1;
            if let Some(mut event) = self.get(&delivery.account, "event", &delivery.event) {
                event["pending_webhooks"] =
                    json!((json::int(&event, "pending_webhooks") - 1).max(0));
                // The row is there already, so the table cannot be full.
                let _ = self.put(&delivery.account, &event);
            }
            return;
        }
        self.outbox.counts.1 += 1;
        if let Some(wait) = RETRY_S.get(delivery.attempts).copied() {
            delivery.attempts += 1;
            self.postpone(delivery, self.library_now + wait);
        }
    }
}
