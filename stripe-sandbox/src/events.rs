//! Events: what Stripe tells of, kept for 30 days, listed, and handed to the endpoints that want them.
//!
//! In: objects that changed. Out: `event` objects in the account's room, deliveries in the outbox.
//! Always holds: an event holds the object as it was then; events of a connected account bear `account` and go to
//! Connect endpoints, the platform's own to the others.

use crate::call::{Answer, Call};
use crate::config::API_VERSION;
use crate::error::StripeError;
use crate::json::{self, int, text};
use crate::routes::{Route, route};
use crate::state::{PLATFORM, State};
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
        let mut event = json!({
            "id": self.ids.id("evt"), "object": "event", "api_version": API_VERSION, "created": created,
            "data": data, "livemode": false, "pending_webhooks": 0,
            "request": {"id": request, "idempotency_key": key}, "type": kind,
        });
        if account != PLATFORM {
            event["account"] = json!(account);
        }
        event["pending_webhooks"] = json!(self.deliver(account, kind, &event));
        let table = self.rooms.entry(account.to_owned()).or_default().table_mut("event");
        table.forget(|event| int(event, "created") < created - KEPT_S);
        self.put(account, &event)
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
    call.list("event", wanted)
}

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch("event")
}

/// Whether `pattern` (a type, `*`, or `invoice.*`) names `kind`. Thin events (`v2.…`) are no part of `*`.
pub fn matches(pattern: &str, kind: &str) -> bool {
    let starts =
        |start: &str| kind.starts_with(start) && (!start.is_empty() || !kind.starts_with("v2."));
    pattern == kind || pattern.strip_suffix('*').is_some_and(starts)
}
