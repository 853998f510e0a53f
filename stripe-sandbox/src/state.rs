//! All that one sandbox knows, behind one lock.
//!
//! In: handlers and the billing engine. Out: objects, events, deliveries.
//! Always holds: `moment` is the time by which the present work is done: the sandbox's, or a test clock's; each change
//! of an object that Stripe tells of is put down by [`State::emit`] or [`State::change`].

use crate::agenda::Agenda;
use crate::clock::Clock;
use crate::config::Config;
use crate::deliver::Outbox;
use crate::error::StripeError;
use crate::faults::Faults;
use crate::idempotency::Replays;
use crate::ids::Ids;
use crate::json::text;
use crate::store::{Room, Table};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// The room of the platform itself.
pub const PLATFORM: &str = "";

/// The state of a sandbox.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) base_url: String,
    pub(crate) rooms: BTreeMap<String, Room>,
    /// Events as they were told, by id; their rows hold only what lists look at.
    pub(crate) bodies: HashMap<String, Bytes>,
    pub(crate) ids: Ids,
    pub(crate) clock: Clock,
    pub(crate) agenda: Agenda,
    pub(crate) outbox: Outbox,
    pub(crate) faults: Faults,
    pub(crate) replays: Replays,
    /// Time of the present work, seconds since 1970.
    pub(crate) moment: i64,
    /// The sandbox's own time, up to which its agenda is done.
    pub(crate) library_now: i64,
    /// Id and idempotency key of the request being served.
    pub(crate) request: (Option<String>, Option<String>),
    /// Calls of the API so far.
    pub(crate) served: u64,
}

impl State {
    /// An empty sandbox.
    pub fn new(config: Config, base_url: String, seed: u64) -> Self {
        let mut clock = Clock::new(config.clock);
        let moment = clock.now();
        let mut state = Self {
            base_url,
            rooms: BTreeMap::new(),
            bodies: HashMap::new(),
            ids: Ids::new(seed),
            clock,
            agenda: Agenda::default(),
            outbox: Outbox::default(),
            faults: Faults::default(),
            replays: Replays::default(),
            moment,
            library_now: moment,
            request: (None, None),
            served: 0,
            config,
        };
        state.rooms.insert(PLATFORM.to_owned(), Room::default());
        state
    }

    /// The object of this kind and id, in an account.
    pub fn get(&self, account: &str, kind: &str, id: &str) -> Option<Value> {
        self.table(account, kind)?.get(id).cloned()
    }

    /// The same; none is a 404.
    ///
    /// # Errors
    /// `resource_missing`.
    pub fn must(&self, account: &str, kind: &str, id: &str) -> Result<Value, StripeError> {
        self.get(account, kind, id).ok_or_else(|| StripeError::missing(kind, id))
    }

    /// The same, for an id that a parameter named: 400.
    ///
    /// # Errors
    /// `resource_missing` with that parameter.
    pub fn named(
        &self,
        account: &str,
        kind: &str,
        id: &str,
        param: &str,
    ) -> Result<Value, StripeError> {
        self.get(account, kind, id)
            .ok_or_else(|| StripeError::missing(kind, id).with_status(400).at(param))
    }

    /// All objects of a kind, in an account.
    pub fn table(&self, account: &str, kind: &str) -> Option<&Table> {
        self.rooms.get(account)?.table(kind)
    }

    /// Puts an object in its table.
    ///
    /// # Errors
    /// The table is full.
    pub fn put(&mut self, account: &str, value: &Value) -> Result<(), StripeError> {
        let (kind, id) = (text(value, "object").to_owned(), text(value, "id").to_owned());
        self.rooms.entry(account.to_owned()).or_default().table_mut(&kind).put(&id, value.clone())
    }

    /// Puts an object and tells of it.
    ///
    /// # Errors
    /// A full table.
    pub fn create(&mut self, account: &str, event: &str, value: &Value) -> Result<(), StripeError> {
        self.put(account, value)?;
        self.emit(account, event, value)
    }

    /// Puts an object's new form and tells what was before; nothing is told if nothing changed.
    ///
    /// # Errors
    /// A full table.
    pub fn change(&mut self, account: &str, event: &str, new: &Value) -> Result<(), StripeError> {
        let old = self.get(account, text(new, "object"), text(new, "id")).unwrap_or_default();
        self.put(account, new)?;
        let previous = crate::json::previous(&old, new);
        if previous.as_object().is_some_and(|changed| !changed.is_empty()) {
            self.emit_with(account, event, new, Some(previous))?;
        }
        Ok(())
    }

    /// The account whose room holds an object.
    pub fn account_of(&self, kind: &str, id: &str) -> Option<String> {
        let holds = |room: &Room| room.table(kind).is_some_and(|table| table.get(id).is_some());
        self.rooms.iter().find(|(_, room)| holds(room)).map(|(account, _)| account.clone())
    }

    /// The test clock of a customer, or an empty text.
    pub fn clock_of_customer(&self, account: &str, customer: &str) -> String {
        self.table(account, "customer")
            .and_then(|table| table.get(customer))
            .map_or_else(String::new, |customer| text(customer, "test_clock").to_owned())
    }

    /// From now on the present work is done by the customer's time.
    pub fn enter_clock_of(&mut self, account: &str, customer: &str) {
        let clock = self.clock_of_customer(account, customer);
        if let Some(clock) = self.get(account, "test_helpers.test_clock", &clock) {
            self.moment = crate::json::int(&clock, "frozen_time");
        }
    }
}
