//! Events: what Stripe tells of, kept for 30 days, listed, and handed to the endpoints that want them.
//!
//! In: objects that changed. Out: `event` objects in the account's room, deliveries in the outbox.
//! Always holds: an event holds the object as it was then; events of a connected account bear `account` and go to
//! Connect endpoints, the platform's own to the others.

use crate::call::{Answer, Call};
use crate::config::API_VERSION;
use crate::error::StripeError;
use crate::json::{self, entries, int, text};
use crate::routes::{Route, route};
use crate::state::{PLATFORM, State};
use crate::store::ROWS_MAX;
use bytes::Bytes;
use serde_json::{Value, json};

/// How long an event is kept, in seconds.
const KEPT_S: i64 = 30 * 86_400;
/// Types one list call may name.
const TYPES_MAX: usize = 20;

/// `GET /v1/events`, `GET /v1/events/{id}`.
pub const ROUTES: &[Route] =
    &[route("GET", "/v1/events", LIST, list), route("GET", "/v1/events/{id}", &[], retrieve)];

const LIST: &[&str] = &[
    "type",
    "types[]",
    "delivery_success",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "limit",
    "starting_after",
    "ending_before",
];

impl State {
    /// Tells of an object.
    ///
    /// # Errors
    /// A full table.
    pub fn emit(&mut self, account: &str, kind: &str, object: &Value) -> Result<(), StripeError> {
        self.emit_with(account, kind, object, None)
    }

    /// Tells of an object and of what was before.
    ///
    /// # Errors
    /// A full table.
    pub fn emit_with(
        &mut self,
        account: &str,
        kind: &str,
        object: &Value,
        previous: Option<Value>,
    ) -> Result<(), StripeError> {
        let created = self.library_now;
        let mut data = json!({"object": json::shown(object)});
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let (request, key) = self.request.clone();
        let id = self.ids.id("evt");
        let endpoints = self.endpoints(account, kind);
        let mut event = json!({
            "id": id, "object": "event", "api_version": API_VERSION, "created": created, "data": data,
            "livemode": false, "pending_webhooks": endpoints.len(),
            "request": {"id": request, "idempotency_key": key}, "type": kind,
        });
        if account != PLATFORM {
            event["account"] = json!(account);
        }
        let body = Bytes::from(event.to_string());
        self.post_to(&endpoints, account, &event, &body);
        let row = json!({
            "id": id, "object": "event", "created": created, "pending_webhooks": endpoints.len(), "type": kind,
        });
        let table = self.rooms.entry(account.to_owned()).or_default().table_mut("event");
        let full = table.len() >= ROWS_MAX;
        let mut gone = table.forget(|event| int(event, "created") < created - KEPT_S);
        if full && gone.is_empty() {
            // The oldest makes room: only a run of many thousand subscriptions gets here.
            gone = table.forget_oldest();
        }
        for id in gone {
            self.bodies.remove(&id);
        }
        self.bodies.insert(id, body);
        self.put(account, &row)
    }

    /// An object as it is shown; a row of an event is filled in.
    pub fn shown(&self, value: &Value) -> Value {
        let body = (text(value, "object") == "event")
            .then(|| self.bodies.get(text(value, "id")))
            .flatten();
        let Some(mut event) = body.and_then(|body| serde_json::from_slice::<Value>(body).ok())
        else {
            return json::shown(value);
        };
        event["pending_webhooks"] = value["pending_webhooks"].clone();
        event
    }
}

fn list(call: &mut Call<'_>) -> Answer {
    let kinds = match (call.params.text("type")?, call.params.texts("types")?) {
        (Some(_), kinds) if !kinds.is_empty() => {
            return Err(call.params.refused("types", "You may pass only one of type and types"));
        }
        (Some(kind), _) => vec![kind],
        (None, kinds) if kinds.len() > TYPES_MAX => {
            return Err(call.params.refused("types", "You may pass up to 20 types"));
        }
        (None, kinds) => kinds,
    };
    let delivered = call.params.flag("delivery_success")?;
    let wanted = move |event: &Value| {
        (kinds.is_empty() || kinds.iter().any(|kind| matches(kind, text(event, "type"))))
            && delivered.is_none_or(|delivered| delivered == (int(event, "pending_webhooks") == 0))
    };
    let mut page = call.list("event", wanted)?;
    let rows = entries(&page, "data").iter().map(|row| call.state.shown(row)).collect();
    page["data"] = Value::Array(rows);
    Ok(page)
}

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch("event").map(|row| call.state.shown(&row))
}

/// Whether `pattern` (a type, `*`, or `invoice.*`) names `kind`. Thin events (`v2.…`) are no part of `*`.
pub fn matches(pattern: &str, kind: &str) -> bool {
    let starts =
        |start: &str| kind.starts_with(start) && (!start.is_empty() || !kind.starts_with("v2."));
    pattern == kind || pattern.strip_suffix('*').is_some_and(starts)
}
