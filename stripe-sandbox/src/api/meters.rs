//! `billing.meter`, its events, their adjustments and summaries.
//!
//! In: values by customer. Out: the objects; use that renewals bill.
//! Always holds: an identifier counts once within 24 hours (here: for as long as its event is kept); a timestamp lies
//! between 35 days back and 5 minutes ahead; an adjustment reaches events of the last 24 hours.

use crate::call::{Answer, Call};
use crate::engine::usage;
use crate::error::StripeError;
use crate::json::{at, entries, flag, int, text};
use crate::routes::{Route, route};
use serde_json::{Map, Value, json};

/// Calls on meters.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/billing/meters", CREATE, create),
    route(
        "GET",
        "/v1/billing/meters",
        &["status", "limit", "starting_after", "ending_before"],
        list,
    ),
    route("GET", "/v1/billing/meters/{id}", &[], |call| call.fetch(METER)),
    route("POST", "/v1/billing/meters/{id}", &["display_name"], update),
    route("POST", "/v1/billing/meters/{id}/deactivate", &[], |call| set_status(call, "inactive")),
    route("POST", "/v1/billing/meters/{id}/reactivate", &[], |call| set_status(call, "active")),
    route("GET", "/v1/billing/meters/{id}/event_summaries", SUMMARIES, summaries),
    route(
        "POST",
        "/v1/billing/meter_events",
        &["event_name", "payload{}", "identifier", "timestamp"],
        event,
    ),
    route(
        "POST",
        "/v1/billing/meter_event_adjustments",
        &["event_name", "type", "cancel[identifier]"],
        adjust,
    ),
];

const CREATE: &[&str] = &[
    "display_name",
    "event_name",
    "default_aggregation[formula]",
    "customer_mapping[event_payload_key]",
    "customer_mapping[type]",
    "value_settings[event_payload_key]",
    "event_time_window",
];
const SUMMARIES: &[&str] = &[
    "customer",
    "start_time",
    "end_time",
    "value_grouping_window",
    "limit",
    "starting_after",
    "ending_before",
];
const METER: &str = "billing.meter";
const EVENT: &str = "billing.meter_event";
const DAY_S: i64 = 86_400;

fn create(call: &mut Call<'_>) -> Answer {
    let params = &call.params;
    let (display, name) = (params.required("display_name")?, params.required("event_name")?);
    let formula = params
        .choice("default_aggregation.formula", &["count", "last", "sum"])?
        .ok_or_else(|| StripeError::required("default_aggregation[formula]"))?;
    params.choice("customer_mapping.type", &["by_id"])?;
    let window = params.choice("event_time_window", &["day", "hour"])?;
    let who = params
        .text("customer_mapping.event_payload_key")?
        .unwrap_or_else(|| "stripe_customer_id".to_owned());
    let what =
        params.text("value_settings.event_payload_key")?.unwrap_or_else(|| "value".to_owned());
    if meter_of(call, &name).is_some() {
        return Err(StripeError::invalid(format!(
            "An active meter with event name {name} exists already."
        ))
        .at("event_name"));
    }
    let now = call.now();
    let meter = json!({
        "id": call.state.ids.id("mtr"), "object": METER, "created": now,
        "customer_mapping": {"event_payload_key": who, "type": "by_id"},
        "default_aggregation": {"formula": formula}, "display_name": display, "event_name": name,
        "event_time_window": window, "livemode": false, "status": "active",
        "status_transitions": {"deactivated_at": null}, "updated": now,
        "value_settings": {"event_payload_key": what},
    });
    call.state.create(&call.account, "billing.meter.created", &meter)?;
    Ok(meter)
}

/// The active meter of an event name.
fn meter_of(call: &Call<'_>, name: &str) -> Option<Value> {
    let rows =
        call.state.table(&call.account, METER).into_iter().flat_map(|table| table.oldest(None));
    let mut named =
        rows.filter(|meter| text(meter, "event_name") == name && text(meter, "status") == "active");
    named.next().cloned()
}

fn list(call: &mut Call<'_>) -> Answer {
    let status = call.filter("status")?;
    call.list(METER, |meter| status(meter, "status"))
}

fn update(call: &mut Call<'_>) -> Answer {
    let mut meter = call.fetch(METER)?;
    if let Some(display) = call.params.text("display_name")? {
        meter["display_name"] = json!(display);
    }
    meter["updated"] = json!(call.now());
    call.state.change(&call.account, "billing.meter.updated", &meter)?;
    Ok(meter)
}

fn set_status(call: &mut Call<'_>, status: &str) -> Answer {
    let mut meter = call.fetch(METER)?;
    if text(&meter, "status") == status {
        return Err(StripeError::invalid(format!("This meter is {status} already.")));
    }
    let now = call.now();
    meter["status"] = json!(status);
    meter["updated"] = json!(now);
    meter["status_transitions"]["deactivated_at"] =
        if status == "inactive" { json!(now) } else { Value::Null };
    let event = if status == "inactive" {
        "billing.meter.deactivated"
    } else {
        "billing.meter.reactivated"
    };
    call.state.change(&call.account, event, &meter)?;
    Ok(meter)
}

fn event(call: &mut Call<'_>) -> Answer {
    let name = call.params.required("event_name")?;
    let meter = meter_of(call, &name).ok_or_else(|| {
        StripeError::coded("no_meter", format!("No active meter found for event name {name}."))
            .at("event_name")
    })?;
    let payload = payload(call, &meter)?;
    let customer = at(&payload, text(&meter, "customer_mapping.event_payload_key"))
        .as_str()
        .unwrap_or("")
        .to_owned();
    call.state.enter_clock_of(&call.account, &customer);
    let now = call.now();
    let timestamp = call.params.int("timestamp")?.unwrap_or(now);
    if timestamp < now - 35 * DAY_S || timestamp > now + 300 {
        return Err(StripeError::coded(
            if timestamp > now { "timestamp_in_future" } else { "timestamp_too_far_in_past" },
            "The timestamp must be within the past 35 calendar days or up to 5 minutes in the future.",
        )
        .at("timestamp"));
    }
    let identifier = match call.params.text("identifier")? {
        Some(identifier) if identifier.chars().count() > 100 => {
            return Err(call
                .params
                .refused("identifier", "The identifier has 100 characters at most."));
        }
        Some(identifier) => identifier,
        None => call.state.ids.id("mevt"),
    };
    let key = format!("{name}/{identifier}");
    if call.state.get(&call.account, EVENT, &key).is_some() {
        return Err(StripeError::coded(
            "duplicate_meter_event",
            format!("An event already exists with identifier {identifier}."),
        )
        .at("identifier"));
    }
    // Rows go by name and identifier; the object itself has no id.
    let row = json!({
        "id": key, "object": EVENT, "created": now, "event_name": name, "identifier": identifier, "livemode": false,
        "payload": payload, "timestamp": timestamp, "_cancelled": false,
    });
    put(call, &customer, &row)?;
    without_id(row)
}

fn payload(call: &Call<'_>, meter: &Value) -> Result<Value, StripeError> {
    let mut payload = Map::new();
    if let Some(Value::Object(given)) = call.params.value("payload") {
        for (key, value) in given {
            let text =
                value.as_str().ok_or_else(|| call.params.refused("payload", "Invalid payload"))?;
            payload.insert(key.clone(), json!(text));
        }
    }
    let (who, what) = (
        text(meter, "customer_mapping.event_payload_key"),
        text(meter, "value_settings.event_payload_key"),
    );
    let customer = payload.get(who).and_then(Value::as_str).unwrap_or("");
    if customer.is_empty() {
        return Err(StripeError::coded(
            "meter_event_no_customer_defined",
            format!("The payload has no {who}."),
        )
        .at(format!("payload[{who}]")));
    }
    if call.state.get(&call.account, "customer", customer).is_none() {
        return Err(StripeError::coded(
            "meter_event_customer_not_found",
            format!("No such customer: '{customer}'"),
        )
        .at(format!("payload[{who}]")));
    }
    let counts = text(meter, "default_aggregation.formula") == "count";
    let value = payload.get(what).and_then(Value::as_str).map(str::parse::<i64>);
    match value {
        Some(Ok(value)) if value >= 0 => Ok(Value::Object(payload)),
        None if counts => Ok(Value::Object(payload)),
        _ => Err(StripeError::coded(
            "meter_event_invalid_value",
            "The value must be a whole number of at least 0.",
        )
        .at(format!("payload[{what}]"))),
    }
}

/// Puts an event in the table of all, by which an identifier is found, and in its customer's, by which use is counted.
fn put(call: &mut Call<'_>, customer: &str, row: &Value) -> Result<(), StripeError> {
    let room = call.state.rooms.entry(call.account.clone()).or_default();
    let id = text(row, "id");
    room.table_mut(&usage::table_of(customer)).put(id, row.clone())?;
    room.table_mut(EVENT).put(id, row.clone())
}

fn without_id(mut row: Value) -> Answer {
    if let Some(row) = row.as_object_mut() {
        row.remove("id");
    }
    Ok(row)
}

fn adjust(call: &mut Call<'_>) -> Answer {
    let name = call.params.required("event_name")?;
    call.params.choice("type", &["cancel"])?.ok_or_else(|| StripeError::required("type"))?;
    let identifier = call.params.required("cancel.identifier")?;
    let key = format!("{name}/{identifier}");
    let mut row = call.state.get(&call.account, EVENT, &key).ok_or_else(|| {
        StripeError::missing("billing.meter_event", &identifier).at("cancel[identifier]")
    })?;
    let meter = meter_of(call, &name).unwrap_or_default();
    let who = text(&meter, "customer_mapping.event_payload_key");
    let customer = at(&row, "payload").get(who).and_then(Value::as_str).unwrap_or("").to_owned();
    call.state.enter_clock_of(&call.account, &customer);
    if call.now() - int(&row, "created") > DAY_S {
        return Err(call
            .params
            .refused("cancel.identifier", "Events can be cancelled within 24 hours only."));
    }
    if flag(&row, "_cancelled") {
        return Err(call.params.refused("cancel.identifier", "This event is cancelled already."));
    }
    row["_cancelled"] = json!(true);
    put(call, &customer, &row)?;
    Ok(json!({
        "object": "billing.meter_event_adjustment", "cancel": {"identifier": identifier}, "event_name": name,
        "livemode": false, "status": "complete", "type": "cancel",
    }))
}

fn summaries(call: &mut Call<'_>) -> Answer {
    let meter = call.fetch(METER)?;
    let customer = call.params.required("customer")?;
    call.named("customer", "customer")?;
    let bound = |name: &str| {
        call.params.int(name)?.ok_or_else(|| StripeError::required(name)).and_then(|at| {
            if at % 60 == 0 {
                Ok(at)
            } else {
                Err(call.params.refused(name, "It must be aligned with minute boundaries."))
            }
        })
    };
    let (start, end) = (bound("start_time")?, bound("end_time")?);
    if end <= start {
        return Err(call.params.refused("end_time", "end_time must be after start_time."));
    }
    let window = match call.params.choice("value_grouping_window", &["day", "hour"])?.as_deref() {
        Some("day") => DAY_S,
        Some(_) => 3600,
        None => end - start,
    };
    let limit =
        usize::try_from(call.params.int_within("limit", 1, 100)?.unwrap_or(10)).unwrap_or(10);
    let after = call.params.text("starting_after")?;
    let mut rows = Vec::new();
    let mut from = start;
    while from < end {
        let to = (from + window).min(end);
        let value = usage::measured(call.state, &call.account, &meter, &customer, from, to);
        rows.push(json!({
            "id": format!("mtrusg_{}_{from}_{to}", text(&meter, "id")), "object": "billing.meter_event_summary",
            "aggregated_value": value, "end_time": to, "livemode": false, "meter": at(&meter, "id"),
            "start_time": from,
        }));
        from = to;
    }
    rows.reverse();
    let first = after
        .and_then(|after| rows.iter().position(|row| text(row, "id") == after))
        .map_or(0, |at| at + 1);
    let rest = rows.get(first..).unwrap_or(&[]);
    let page = call.page(rest.iter().take(limit).cloned().collect(), rest.len() > limit);
    debug_assert!(entries(&page, "data").len() <= limit, "a page has its limit");
    Ok(page)
}
