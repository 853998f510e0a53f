//! `test_helpers.test_clock`: time of its own for some customers.
//!
//! In: a time to stand at, a time to move to. Out: the clock; all that fell due on the way.
//! Always holds: a clock moves forward only; its customers' subscriptions follow it and no other.

use crate::call::{Answer, Call};
use crate::error::StripeError;
use crate::json::{int, text};
use crate::routes::{Route, route};
use serde_json::json;

/// Calls on test clocks.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/test_helpers/test_clocks", &["frozen_time", "name"], create),
    route(
        "GET",
        "/v1/test_helpers/test_clocks",
        &["limit", "starting_after", "ending_before"],
        |call| call.list(KIND, |_| true),
    ),
    route("GET", "/v1/test_helpers/test_clocks/{id}", &[], |call| call.fetch(KIND)),
    route("POST", "/v1/test_helpers/test_clocks/{id}/advance", &["frozen_time"], advance),
    route("DELETE", "/v1/test_helpers/test_clocks/{id}", &[], delete),
];

const KIND: &str = "test_helpers.test_clock";

fn create(call: &mut Call<'_>) -> Answer {
    let frozen =
        call.params.int("frozen_time")?.ok_or_else(|| StripeError::required("frozen_time"))?;
    let name = call.params.text("name")?;
    let now = call.now();
    let clock = json!({
        "id": call.state.ids.id("clock"), "object": KIND, "created": now, "deletes_after": now + 30 * 86_400,
        "frozen_time": frozen, "livemode": false, "name": name, "status": "ready",
        "status_details": {"advancing": null},
    });
    call.state.create(&call.account, "test_helpers.test_clock.created", &clock)?;
    Ok(clock)
}

fn advance(call: &mut Call<'_>) -> Answer {
    let mut clock = call.fetch(KIND)?;
    let to = call.params.int("frozen_time")?.ok_or_else(|| StripeError::required("frozen_time"))?;
    let (id, from) = (text(&clock, "id").to_owned(), int(&clock, "frozen_time"));
    if to <= from {
        return Err(call
            .params
            .refused("frozen_time", "frozen_time must be after the clock's current frozen_time."));
    }
    // Objects that are looked at on the way see the clock where it will stand; dues carry their own time.
    clock["frozen_time"] = json!(to);
    call.state.put(&call.account, &clock)?;
    call.state.emit(&call.account, "test_helpers.test_clock.advancing", &clock)?;
    call.state.run_test_clock(&id, from, to);
    call.state.emit(&call.account, "test_helpers.test_clock.ready", &clock)?;
    Ok(clock)
}

fn delete(call: &mut Call<'_>) -> Answer {
    let clock = call.fetch(KIND)?;
    let id = text(&clock, "id").to_owned();
    let gone = |row: &serde_json::Value| text(row, "test_clock") == id;
    let mut rows = Vec::new();
    for kind in ["customer", "subscription"] {
        let table =
            call.state.table(&call.account, kind).into_iter().flat_map(|table| table.oldest(None));
        rows.extend(table.filter(|row| gone(row)).map(|row| (kind, text(row, "id").to_owned())));
    }
    if let Some(room) = call.state.rooms.get_mut(&call.account) {
        for (kind, row) in rows {
            room.table_mut(kind).remove(&row);
        }
        room.table_mut(KIND).remove(&id);
    }
    call.state.agenda.forget_clock(&id);
    call.state.emit(&call.account, "test_helpers.test_clock.deleted", &clock)?;
    Ok(json!({"id": id, "object": KIND, "deleted": true}))
}
