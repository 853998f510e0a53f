//! `subscription`: looked at, listed, canceled, resumed; its items listed.
//!
//! In: ids and filters. Out: the object.
//! Always holds: a list shows canceled ones only if asked for them.

use super::{subscription_create, subscription_update};
use crate::call::{Answer, Call};
use crate::engine::{cycle, invoicing, lines, settle, subscribe};
use crate::error::StripeError;
use crate::json::{entries, text};
use crate::routes::{Route, route};
use serde_json::{Value, json};

/// Calls on subscriptions.
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/subscriptions", subscription_create::CREATE, subscription_create::create),
    route("GET", "/v1/subscriptions", LIST, list),
    route("GET", "/v1/subscriptions/{id}", &[], retrieve),
    route(
        "POST",
        "/v1/subscriptions/{id}",
        subscription_update::UPDATE,
        subscription_update::update,
    ),
    route("DELETE", "/v1/subscriptions/{id}", CANCEL, cancel),
    route(
        "POST",
        "/v1/subscriptions/{id}/resume",
        &["billing_cycle_anchor", "proration_behavior"],
        resume,
    ),
    route(
        "GET",
        "/v1/subscription_items",
        &["subscription", "limit", "starting_after", "ending_before"],
        items,
    ),
];

const LIST: &[&str] = &[
    "customer",
    "price",
    "status",
    "collection_method",
    "test_clock",
    "created",
    "created[gt]",
    "created[gte]",
    "created[lt]",
    "created[lte]",
    "current_period_end[gt]",
    "current_period_end[gte]",
    "current_period_end[lt]",
    "current_period_end[lte]",
    "current_period_start[gt]",
    "current_period_start[gte]",
    "current_period_start[lt]",
    "current_period_start[lte]",
    "limit",
    "starting_after",
    "ending_before",
];
const CANCEL: &[&str] =
    &["invoice_now", "prorate", "cancellation_details[comment]", "cancellation_details[feedback]"];
/// What these are called.
pub const KIND: &str = "subscription";
const STATUSES: &[&str] = &[
    "active",
    "all",
    "canceled",
    "ended",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
];

fn retrieve(call: &mut Call<'_>) -> Answer {
    call.fetch(KIND)
}

fn list(call: &mut Call<'_>) -> Answer {
    let status = call.params.choice("status", STATUSES)?;
    let price = call.params.text("price")?;
    let filters = [
        (call.filter("customer")?, "customer"),
        (call.filter("collection_method")?, "collection_method"),
        (call.filter("test_clock")?, "test_clock"),
    ];
    let (ends, starts) =
        (period_bounds(call, "current_period_end")?, period_bounds(call, "current_period_start")?);
    call.list(KIND, |subscription| {
        let is = text(subscription, "status");
        let wanted = match status.as_deref() {
            None => is != "canceled",
            Some("all") => true,
            Some("ended") => matches!(is, "canceled" | "incomplete_expired"),
            Some(status) => is == status,
        };
        let (start, end) = subscribe::period_of(subscription);
        let has = |price: &String| {
            entries(subscription, "items.data").iter().any(|item| text(item, "price.id") == price)
        };
        wanted
            && price.as_ref().is_none_or(has)
            && (ends.0..=ends.1).contains(&end)
            && (starts.0..=starts.1).contains(&start)
            && filters.iter().all(|(filter, path)| filter(subscription, path))
    })
}

fn period_bounds(call: &Call<'_>, of: &str) -> Result<(i64, i64), StripeError> {
    let bound = |name: &str| call.params.int(&format!("{of}.{name}"));
    let low = bound("gt")?.map(|at| at.saturating_add(1)).or(bound("gte")?).unwrap_or(i64::MIN);
    let high = bound("lt")?.map(|at| at.saturating_sub(1)).or(bound("lte")?).unwrap_or(i64::MAX);
    Ok((low, high))
}

fn cancel(call: &mut Call<'_>) -> Answer {
    let mut subscription = call.fetch(KIND)?;
    call.state.enter_clock_of(&call.account, text(&subscription, "customer"));
    let ended = matches!(text(&subscription, "status"), "canceled" | "incomplete_expired");
    if ended {
        return Err(StripeError::missing(KIND, call.id()));
    }
    for name in ["comment", "feedback"] {
        if let Some(words) = call.params.text(&format!("cancellation_details.{name}"))? {
            subscription["cancellation_details"][name] = json!(words);
        }
    }
    call.state.put(&call.account, &subscription)?;
    let (prorate, now) = (
        call.params.flag("prorate")?.unwrap_or(false),
        call.params.flag("invoice_now")?.unwrap_or(false),
    );
    if prorate || now {
        last_invoice(call, &subscription, prorate, now)?;
    }
    cycle::cancel(call.state, &call.account, &subscription, "cancellation_requested")
}

/// Credits unused time, and bills what is open, as the subscription ends at once.
fn last_invoice(
    call: &mut Call<'_>,
    subscription: &Value,
    prorate: bool,
    now: bool,
) -> Result<(), StripeError> {
    let moment = call.now();
    let (start, end) = subscribe::period_of(subscription);
    let mut billed: Vec<lines::Line> = Vec::new();
    if now {
        let past = cycle::cycle_lines(
            call.state,
            &call.account,
            subscription,
            (start, moment),
            (moment, moment),
            false,
        );
        billed.extend(past.into_iter().filter(|line| line.metered));
    }
    if prorate && moment < end {
        billed.extend(
            entries(subscription, "items.data")
                .iter()
                .filter_map(|item| crate::engine::change::credit(item, moment, (start, end))),
        );
    }
    if !now {
        for line in billed {
            let pending = line.to_pending(call.state, subscription);
            call.state.create(&call.account, "invoiceitem.created", &pending)?;
        }
        return Ok(());
    }
    let draft = invoicing::Draft {
        lines: billed,
        reason: "subscription_update",
        period: (start, moment),
        auto_advance: true,
        with_pending: true,
    };
    let invoice = invoicing::draw_up(call.state, &call.account, subscription, draft)?;
    let id = text(&invoice, "id").to_owned();
    let invoice = invoicing::finalize(call.state, &call.account, &id)?;
    if text(&invoice, "status") == "open" {
        settle::collect(call.state, &call.account, &id)?;
    }
    Ok(())
}

fn resume(call: &mut Call<'_>) -> Answer {
    let mut subscription = call.fetch(KIND)?;
    call.state.enter_clock_of(&call.account, text(&subscription, "customer"));
    if text(&subscription, "status") != "paused" {
        return Err(StripeError::invalid("This subscription cannot be resumed: it is not paused."));
    }
    call.params.choice("billing_cycle_anchor", &["now", "unchanged"])?;
    call.params.choice("proration_behavior", &["always_invoice", "create_prorations", "none"])?;
    let now = call.now();
    let next = subscribe::interval_of(&subscription).next_after(now, now);
    subscription["status"] = json!("active");
    subscription["billing_cycle_anchor"] = json!(now);
    cycle::set_period(&mut subscription, (now, next));
    let lines =
        cycle::cycle_lines(call.state, &call.account, &subscription, (now, now), (now, next), true);
    let draft = invoicing::Draft {
        lines,
        reason: "subscription_update",
        period: (now, now),
        auto_advance: true,
        with_pending: true,
    };
    let invoice = invoicing::draw_up(call.state, &call.account, &subscription, draft)?;
    let id = text(&invoice, "id").to_owned();
    subscription["latest_invoice"] = json!(id);
    call.state.put(&call.account, &subscription)?;
    call.state.emit(&call.account, "customer.subscription.resumed", &subscription)?;
    subscribe::schedule_period(call.state, &call.account, &subscription);
    let invoice = invoicing::finalize(call.state, &call.account, &id)?;
    if text(&invoice, "status") == "open" {
        settle::collect(call.state, &call.account, &id)?;
    }
    call.fetch(KIND)
}

fn items(call: &mut Call<'_>) -> Answer {
    let id = call.params.required("subscription")?;
    let subscription = call.state.named(&call.account, KIND, &id, "subscription")?;
    let limit =
        usize::try_from(call.params.int_within("limit", 1, 100)?.unwrap_or(10)).unwrap_or(10);
    let after = call.params.text("starting_after")?;
    let rows = entries(&subscription, "items.data");
    let start = after
        .and_then(|after| rows.iter().position(|row| text(row, "id") == after))
        .map_or(0, |at| at + 1);
    let rest = rows.get(start..).unwrap_or(&[]);
    Ok(call.page(rest.iter().take(limit).cloned().collect(), rest.len() > limit))
}

/// Whether a subscription has ended.
pub fn has_ended(subscription: &Value) -> bool {
    matches!(text(subscription, "status"), "canceled" | "incomplete_expired")
}

/// `cancel_at_period_end` as asked: the end is noted, or taken back.
pub fn set_cancel_at_period_end(subscription: &mut Value, wanted: bool, now: i64) {
    let end = subscribe::period_of(subscription).1;
    subscription["cancel_at_period_end"] = json!(wanted);
    subscription["cancel_at"] = if wanted { json!(end) } else { Value::Null };
    subscription["canceled_at"] = if wanted { json!(now) } else { Value::Null };
    let reason = if wanted { json!("cancellation_requested") } else { Value::Null };
    subscription["cancellation_details"]["reason"] = reason;
}

/// End of a trial as a parameter gives it: `now` or a second.
pub fn trial_end(given: &str, now: i64) -> Option<i64> {
    if given == "now" { Some(now) } else { given.parse().ok().filter(|end| *end > now) }
}
