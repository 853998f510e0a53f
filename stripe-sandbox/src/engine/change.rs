//! Changes of a subscription's items: prorated, billed now or later, applied at once or once paid.
//!
//! In: wished-for items and how to prorate. Out: a plan that touches nothing, or the plan carried out.
//! Always holds: a preview and the change it previews come from the same plan; time that was paid for and not used is
//! credited by the second.

use super::invoicing::{self, Draft};
use super::lines::Line;
use super::payments::Attempt;
use super::{cycle, money, settle, subscribe};
use crate::agenda::Due;
use crate::error::StripeError;
use crate::json::{at, entries, int, text};
use crate::state::State;
use serde_json::{Value, json};

/// How long a pending update waits for its payment.
const PENDING_S: i64 = 23 * 3600;

/// What to do about time that was paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proration {
    /// Billed now.
    AlwaysInvoice,
    /// Billed with the next invoice.
    Create,
    /// Not at all.
    None,
}

/// What to do if the payment of a change fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// The change stands; the subscription is past due.
    Allow,
    /// The change waits for its payment.
    Pending,
    /// Nothing changes, the call fails.
    Error,
}

/// One entry of `items`.
#[derive(Clone, Debug)]
pub struct ItemChange {
    /// The item there is; none adds one.
    pub id: Option<String>,
    /// Its new price.
    pub price: Option<Value>,
    /// Its new quantity.
    pub quantity: Option<i64>,
    /// Whether it goes.
    pub deleted: bool,
}

/// A change that is worked out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The subscription as it would be.
    pub subscription: Value,
    /// What would be billed.
    pub lines: Vec<Line>,
    /// Whether it would be billed at once.
    pub invoice_now: bool,
    /// Whether a new period would begin.
    pub resets: bool,
}

/// Works out a change as of second `when`.
///
/// # Errors
/// An item that is not there, or prices that do not go together.
pub fn plan(
    state: &mut State,
    account: &str,
    subscription: &Value,
    changes: &[ItemChange],
    reset: bool,
    proration: Proration,
    when: i64,
) -> Result<Plan, StripeError> {
    let (start, end) = subscribe::period_of(subscription);
    let before = entries(subscription, "items.data").to_vec();
    let after = changed_items(state, subscription, changes)?;
    let interval = subscribe::common_interval(after.iter().map(|item| at(item, "price")))?;
    let trial = text(subscription, "status") == "trialing" && !reset;
    let resets = !trial && (reset || interval != subscribe::interval_of(subscription));
    let mut new = subscription.clone();
    new["items"]["data"] = Value::Array(after.clone());
    subscribe::refresh_counts(&mut new);
    let was_trial = text(subscription, "status") == "trialing";
    let mut lines = Vec::new();
    if proration != Proration::None && !was_trial && when < end {
        for (old, line) in
            before.iter().filter_map(|old| Some((old, credit(old, when, (start, end))?)))
        {
            let same = after.iter().find(|item| at(item, "id") == at(old, "id"));
            if resets || same.is_none_or(|item| differs(old, item)) {
                lines.push(line);
            }
        }
    }
    if resets {
        if !was_trial {
            let past = cycle::cycle_lines(
                state,
                account,
                subscription,
                (start, when),
                (when, when),
                false,
            );
            lines.extend(past.into_iter().filter(|line| line.metered));
        }
        let period = (when, interval.next_after(when, when));
        cycle::set_period(&mut new, period);
        new["billing_cycle_anchor"] = json!(when);
        let ahead = cycle::cycle_lines(state, account, &new, (when, when), period, false);
        lines.extend(ahead.into_iter().filter(|line| !line.metered));
    } else if proration != Proration::None && !was_trial && when < end {
        for item in &after {
            let old = before.iter().find(|old| at(old, "id") == at(item, "id"));
            if old.is_none_or(|old| differs(old, item)) {
                lines.extend(debit(item, when, (start, end)));
            }
        }
        lines.extend(left_behind(state, account, subscription, &after, when));
    }
    let invoice_now = !lines.is_empty() && (resets || proration == Proration::AlwaysInvoice);
    Ok(Plan { subscription: new, lines, invoice_now, resets })
}

/// What was used of metered prices that go: billed with the change, where that bills anything.
fn left_behind(
    state: &State,
    account: &str,
    subscription: &Value,
    after: &[Value],
    when: i64,
) -> Vec<Line> {
    let goes = |old: &Value| {
        let same = after.iter().find(|item| at(item, "id") == at(old, "id"));
        same.is_none_or(|item| text(item, "price.id") != text(old, "price.id"))
    };
    used(state, account, subscription, when, goes)
}

/// The use up to a second of metered items, where there is any.
fn used(
    state: &State,
    account: &str,
    subscription: &Value,
    until: i64,
    wanted: impl Fn(&Value) -> bool,
) -> Vec<Line> {
    let (past, customer) =
        ((subscribe::period_of(subscription).0, until), text(subscription, "customer"));
    let items = entries(subscription, "items.data").iter().filter(|item| wanted(item));
    let lines = items.filter_map(|item| cycle::metered_line(state, account, item, customer, past));
    lines.filter(|line| line.quantity > 0).collect()
}

/// From here on a metered item's use is billed with the next invoice; what was before is settled.
fn settle_use(subscription: &mut Value, now: i64) {
    for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
        if text(item, "price.recurring.usage_type") == "metered" {
            item["_used_from"] = json!(now);
        }
    }
}

fn differs(old: &Value, new: &Value) -> bool {
    text(old, "price.id") != text(new, "price.id") || at(old, "quantity") != at(new, "quantity")
}

fn changed_items(
    state: &mut State,
    subscription: &Value,
    changes: &[ItemChange],
) -> Result<Vec<Value>, StripeError> {
    let mut items = entries(subscription, "items.data").to_vec();
    let period = subscribe::period_of(subscription);
    let id = text(subscription, "id");
    for (number, change) in changes.iter().enumerate() {
        let Some(item_id) = &change.id else {
            let price = change
                .price
                .as_ref()
                .ok_or_else(|| StripeError::required(&format!("items[{number}][price]")))?;
            if items.iter().any(|item| text(item, "price.id") == text(price, "id")) {
                return Err(StripeError::invalid(format!(
                    "Cannot add multiple subscription items with the same price: {}",
                    text(price, "id")
                ))
                .at(format!("items[{number}][price]")));
            }
            let mut item = subscribe::item(state, id, price, change.quantity, period, &Value::Null);
            item["_used_from"] = json!(state.moment);
            items.push(item);
            continue;
        };
        let Some(place) = items.iter().position(|item| text(item, "id") == item_id) else {
            let missing = StripeError::missing("subscription_item", item_id);
            return Err(missing.with_status(400).at(format!("items[{number}][id]")));
        };
        if change.deleted {
            items.remove(place);
            continue;
        }
        let Some(item) = items.get_mut(place) else { continue };
        if let Some(price) = &change.price {
            if text(item, "price.id") != text(price, "id") {
                item["_used_from"] = json!(state.moment);
            }
            item["price"] = price.clone();
            item["plan"] = crate::api::prices::plan(price);
            if text(price, "recurring.usage_type") == "metered"
                && let Some(item) = item.as_object_mut()
            {
                item.remove("quantity");
            }
        }
        if let Some(quantity) = change.quantity {
            item["quantity"] = json!(quantity);
        }
    }
    if items.is_empty() {
        return Err(
            StripeError::invalid("A subscription must have at least one active plan.").at("items")
        );
    }
    Ok(items)
}

/// The credit for an item from second `when` to the end of its period.
pub fn credit(item: &Value, when: i64, period: (i64, i64)) -> Option<Line> {
    let line = share_line(item, when, period, "Unused time on")?;
    Some(Line { amount: -line.amount, ..line })
}

fn debit(item: &Value, when: i64, period: (i64, i64)) -> Option<Line> {
    share_line(item, when, period, "Remaining time on")
}

fn share_line(item: &Value, when: i64, period: (i64, i64), words: &str) -> Option<Line> {
    let price = at(item, "price");
    if text(price, "recurring.usage_type") == "metered" {
        return None;
    }
    let quantity = int(item, "quantity");
    let full = money::amount(price, quantity);
    Some(Line {
        amount: money::share(full, period.1 - when, period.1 - period.0),
        price: price.clone(),
        item: text(item, "id").to_owned(),
        quantity,
        period: (when, period.1),
        description: format!("{words} {quantity} × {}", text(price, "product")),
        proration: true,
        metered: false,
    })
}

/// Carries a plan out.
///
/// # Errors
/// A refused card with [`Behavior::Error`]; a full table.
pub fn carry_out(
    state: &mut State,
    account: &str,
    mut plan: Plan,
    behavior: Behavior,
) -> Result<Value, StripeError> {
    let id = text(&plan.subscription, "id").to_owned();
    let due: i64 = plan.lines.iter().map(|line| line.amount).sum();
    if behavior == Behavior::Error && plan.invoice_now && due > 0 {
        let old = state.must(account, "subscription", &id)?;
        subscribe::would_pay(state, account, &old)?;
    }
    // Of two changes the second replaces one that waits, and the invoice of that is void.
    drop_pending(state, account, &id)?;
    plan.subscription["pending_update"] = Value::Null;
    let old = state.must(account, "subscription", &id)?;
    if !plan.invoice_now {
        for line in &plan.lines {
            let pending = line.to_pending(state, &plan.subscription);
            state.create(account, "invoiceitem.created", &pending)?;
        }
        return finish(state, account, &plan.subscription, plan.resets);
    }
    let waits = behavior == Behavior::Pending && due > 0;
    if behavior == Behavior::Pending && !plan.resets && text(&old, "status") != "trialing" {
        // Stripe bills all use that is outstanding with such an update, also of metered items that stay.
        let stays = |item: &Value| {
            let items = entries(&plan.subscription, "items.data").iter();
            items.clone().any(|new| text(new, "price.id") == text(item, "price.id"))
        };
        plan.lines.extend(used(state, account, &old, state.moment, stays));
        settle_use(&mut plan.subscription, state.moment);
    }
    let draft = Draft {
        lines: plan.lines,
        reason: "subscription_update",
        period: (state.moment, state.moment),
        auto_advance: true,
        with_pending: true,
    };
    let invoice = invoicing::draw_up(state, account, &plan.subscription, draft)?;
    let invoice_id = text(&invoice, "id").to_owned();
    if waits {
        wait_for_payment(state, account, &old, &plan.subscription, &invoice_id)?;
    } else {
        let mut new = plan.subscription.clone();
        new["latest_invoice"] = json!(invoice_id);
        finish(state, account, &new, plan.resets)?;
    }
    let invoice = invoicing::finalize(state, account, &invoice_id)?;
    if text(&invoice, "status") == "open"
        && settle::collect(state, account, &invoice_id)? != Attempt::Paid
        && waits
    {
        announce_pending(state, account, &id)?;
    }
    state.must(account, "subscription", &id)
}

fn finish(
    state: &mut State,
    account: &str,
    subscription: &Value,
    resets: bool,
) -> Result<Value, StripeError> {
    state.change(account, "customer.subscription.updated", subscription)?;
    if resets {
        subscribe::schedule_period(state, account, subscription);
    }
    Ok(subscription.clone())
}

/// Notes a change on the subscription that is applied when its invoice is paid. What was used until now is that invoice's, and on no
/// later one where the change is given up.
fn wait_for_payment(
    state: &mut State,
    account: &str,
    old: &Value,
    new: &Value,
    invoice: &str,
) -> Result<(), StripeError> {
    let mut waiting = old.clone();
    settle_use(&mut waiting, state.moment);
    waiting["latest_invoice"] = json!(invoice);
    let trial_end = at(old, "trial_end").as_i64().filter(|end| *end > state.moment);
    let ends = [Some(subscribe::period_of(old).1), trial_end].into_iter().flatten();
    let expires = ends.fold(state.moment + PENDING_S, i64::min);
    waiting["pending_update"] = json!({
        "billing_cycle_anchor": at(new, "billing_cycle_anchor"), "expires_at": expires,
        "subscription_items": at(new, "items.data"), "trial_end": null, "trial_from_plan": null,
        "_invoice": invoice, "_subscription": new,
    });
    state.put(account, &waiting)
}

fn announce_pending(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let mut subscription = state.must(account, "subscription", id)?;
    subscription["pending_update"]["_announced"] = json!(true);
    state.put(account, &subscription)?;
    let clock = text(&subscription, "test_clock").to_owned();
    let at = int(&subscription, "pending_update.expires_at");
    state.agenda.put(&clock, at, account, Due::PendingUpdateExpires(id.to_owned()));
    let previous = json!({"pending_update": null});
    state.emit_with(account, "customer.subscription.updated", &subscription, Some(previous))
}

/// The invoice of a pending update is paid: it becomes the subscription.
///
/// # Errors
/// A full table.
pub fn apply_pending(
    state: &mut State,
    account: &str,
    subscription: &Value,
) -> Result<Value, StripeError> {
    let new = at(subscription, "pending_update._subscription").clone();
    let announced = crate::json::flag(subscription, "pending_update._announced");
    // The anchor may be the same second as before and the period another, if the interval changed at once.
    let resets = subscribe::period_of(&new) != subscribe::period_of(subscription);
    let after = entries(&new, "items.data").to_vec();
    for line in left_behind(state, account, subscription, &after, state.moment) {
        let pending = line.to_pending(state, subscription);
        state.create(account, "invoiceitem.created", &pending)?;
    }
    let mut applied = subscription.clone();
    for name in ["items", "billing_cycle_anchor", "currency"] {
        applied[name] = at(&new, name).clone();
    }
    applied["pending_update"] = Value::Null;
    if announced {
        state.emit(account, "customer.subscription.pending_update_applied", &applied)?;
    }
    finish(state, account, &applied, resets)
}

/// A pending update may have run out.
///
/// # Errors
/// A full table.
pub fn pending_expires(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let Some(subscription) = state.get(account, "subscription", id) else { return Ok(()) };
    let expires = at(&subscription, "pending_update.expires_at").as_i64();
    if expires.is_none_or(|at| at > state.moment) {
        return Ok(());
    }
    drop_pending(state, account, id)
}

/// Forgets a pending update, if there is one; its invoice is void.
fn drop_pending(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let subscription = state.must(account, "subscription", id)?;
    match text(&subscription, "pending_update._invoice") {
        "" => Ok(()),
        invoice => invoicing::give_up(state, account, invoice, "void").map(drop),
    }
}

/// An invoice was voided: the pending update that waited for it is forgotten.
///
/// # Errors
/// A full table.
pub fn invoice_voided(
    state: &mut State,
    account: &str,
    invoice: &Value,
) -> Result<(), StripeError> {
    let mut subscription = invoicing::subscription_of(state, account, invoice);
    if subscription.is_null()
        || text(&subscription, "pending_update._invoice") != text(invoice, "id")
    {
        return Ok(());
    }
    subscription["pending_update"] = Value::Null;
    state.put(account, &subscription)?;
    state.emit(account, "customer.subscription.pending_update_expired", &subscription)
}
