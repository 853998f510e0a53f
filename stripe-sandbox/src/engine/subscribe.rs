//! A subscription's beginning: items, trial, first period, first invoice.
//!
//! In: what a checkout session or a call asks for. Out: `subscription` with its first invoice, paid or waiting.
//! Always holds: periods stand on the items; a trial's first invoice is of nothing and paid; a first payment that fails
//! leaves the subscription `incomplete`, for 23 hours.

use super::calendar::Interval;
use super::invoicing::{self, Draft};
use super::lines::Line;
use super::payments::Attempt;
use super::{money, settle};
use crate::agenda::Due;
use crate::error::StripeError;
use crate::json::{at, entries, int, or_null, text};
use crate::state::State;
use serde_json::{Value, json};

const DAY_S: i64 = 86_400;
/// How long a first payment is waited for.
pub const INCOMPLETE_S: i64 = 23 * 3600;

/// How the first invoice is paid.
#[derive(Clone, Debug, PartialEq)]
pub enum FirstPayment {
    /// Charged to this method; `authenticated` if the buyer is there.
    Charge {
        /// Payment method, or `null` for the customer's own.
        method: Value,
        /// Whether the buyer has authenticated.
        authenticated: bool,
    },
    /// It waits for a bank: the subscription is active, the invoice open.
    Processing,
    /// It waits for the caller (`default_incomplete`).
    Wait,
    /// As [`FirstPayment::Charge`] of the customer's own, but a refusal is an error and nothing comes about.
    OrError,
}

/// What is subscribed to.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Customer id.
    pub customer: String,
    /// Prices and quantities; none for metered ones.
    pub items: Vec<(Value, Option<i64>, Value)>,
    /// End of the trial.
    pub trial_end: Option<i64>,
    /// First boundary of periods, if it is not now.
    pub anchor: Option<i64>,
    /// Members set as they are: `metadata`, `application_fee_percent`, `default_payment_method`, `trial_settings`,
    /// `automatic_tax`, `description`, `cancel_at_period_end`.
    pub members: Value,
    /// Coupons, each with its promotion code or `null`.
    pub coupons: Vec<(Value, Value)>,
    /// How the first invoice is paid.
    pub payment: FirstPayment,
}

/// Makes the subscription.
///
/// # Errors
/// Prices that do not go together, or a refused card with [`FirstPayment::OrError`].
pub fn subscribe(state: &mut State, account: &str, spec: Spec) -> Result<Value, StripeError> {
    let now = state.moment;
    let interval = common_interval(spec.items.iter().map(|(price, _, _)| price))?;
    let trial_end = spec.trial_end.filter(|end| *end > now);
    let anchor = trial_end.or(spec.anchor).unwrap_or(now);
    let period_end = match trial_end {
        Some(end) => end,
        None => interval.next_after(anchor, now),
    };
    let mut subscription = skeleton(state, &spec, anchor, trial_end);
    let id = text(&subscription, "id").to_owned();
    let mut items = Vec::new();
    for (price, quantity, metadata) in &spec.items {
        items.push(item(state, &id, price, *quantity, (now, period_end), metadata));
    }
    subscription["items"]["data"] = Value::Array(items);
    refresh_counts(&mut subscription);
    set_discounts(state, &spec.customer, &spec.coupons, &mut subscription);
    let test_clock = state.clock_of_customer(account, &spec.customer);
    subscription["test_clock"] = or_null(&test_clock);
    if spec.payment == FirstPayment::OrError {
        would_pay(state, account, &subscription)?;
    }
    state.put(account, &subscription)?;
    let whole = interval.last_before(anchor, now);
    let lines =
        first_lines(&subscription, trial_end.is_some(), (now, period_end), period_end - whole);
    let draft = Draft {
        lines,
        reason: "subscription_create",
        period: (now, now),
        auto_advance: true,
        with_pending: false,
    };
    let invoice = invoicing::draw_up(state, account, &subscription, draft)?;
    subscription["latest_invoice"] = at(&invoice, "id").clone();
    let free = int(&invoice, "amount_due") == 0;
    subscription["status"] = json!(match (&spec.payment, free) {
        _ if trial_end.is_some() => "trialing",
        (_, true) => "active",
        (FirstPayment::Processing, _) if state.config.active_while_processing => "active",
        _ => "incomplete",
    });
    state.put(account, &subscription)?;
    state.emit(account, "customer.subscription.created", &subscription)?;
    schedule_period(state, account, &subscription);
    let invoice_id = text(&invoice, "id").to_owned();
    invoicing::finalize(state, account, &invoice_id)?;
    if !free {
        first_payment(state, account, &id, &invoice_id, spec.payment)?;
    }
    state.must(account, "subscription", &id)
}

fn first_payment(
    state: &mut State,
    account: &str,
    id: &str,
    invoice: &str,
    payment: FirstPayment,
) -> Result<(), StripeError> {
    let outcome = match payment {
        FirstPayment::Charge { method, authenticated } if !method.is_null() => {
            settle::collect_with(state, account, invoice, &method, authenticated)?
        }
        FirstPayment::Charge { .. } | FirstPayment::OrError => {
            settle::collect(state, account, invoice)?
        }
        FirstPayment::Processing => {
            super::checkout::processing(state, account, invoice)?;
            return Ok(());
        }
        FirstPayment::Wait => Attempt::NeedsAction,
    };
    if outcome != Attempt::Paid {
        let subscription = state.must(account, "subscription", id)?;
        wait_for_first(state, account, &subscription);
    }
    Ok(())
}

/// Puts down that a first payment is waited for no longer than 23 hours.
pub fn wait_for_first(state: &mut State, account: &str, subscription: &Value) {
    let due = Due::IncompleteExpires(text(subscription, "id").to_owned());
    let clock = text(subscription, "test_clock").to_owned();
    state.agenda.put(&clock, state.moment + INCOMPLETE_S, account, due);
}

/// Refuses, as the card would, before anything is there.
///
/// # Errors
/// `card_error`, or no payment method.
pub fn would_pay(state: &State, account: &str, subscription: &Value) -> Result<(), StripeError> {
    let method =
        super::payments::method_for(state, account, subscription, text(subscription, "customer"));
    match text(&method, "_card") {
        "good" | "disputed" | "inquired" => Ok(()),
        "needs_action" => Err(StripeError::card(
            "authentication_required",
            "Your card was declined. This transaction requires authentication.",
            json!({"decline_code": "authentication_required"}),
        )),
        "" => Err(StripeError::invalid(
            "This customer has no attached payment source or default payment method.",
        )
        .at("customer")),
        _ => Err(StripeError::card(
            "card_declined",
            "Your card was declined.",
            json!({"decline_code": "generic_decline"}),
        )),
    }
}

/// The lines of the first invoice: what is licensed, for the first period or its share; metered use comes later.
fn first_lines(subscription: &Value, trial: bool, period: (i64, i64), whole: i64) -> Vec<Line> {
    let mut lines = Vec::new();
    for item in entries(subscription, "items.data") {
        let price = at(item, "price");
        let metered = text(price, "recurring.usage_type") == "metered";
        let quantity = if metered { 0 } else { int(item, "quantity") };
        let full = money::amount(price, quantity);
        let amount = match (trial, period.1 - period.0) {
            (true, _) => 0,
            (_, part) if part < whole => money::share(full, part, whole),
            _ => full,
        };
        let what = if trial { "Free trial for" } else { "Subscription to" };
        lines.push(Line {
            amount,
            price: price.clone(),
            item: text(item, "id").to_owned(),
            quantity,
            period,
            description: format!("{what} {} × {}", quantity, text(price, "product")),
            proration: false,
            metered: false,
        });
    }
    lines
}

/// The one interval of all prices.
///
/// # Errors
/// No price, a price that does not recur, or two intervals or currencies.
pub fn common_interval<'a>(
    prices: impl Iterator<Item = &'a Value>,
) -> Result<Interval, StripeError> {
    let mut found: Option<(Interval, &str)> = None;
    for price in prices {
        let interval =
            Interval::of(text(price, "recurring.interval"), int(price, "recurring.interval_count")).ok_or_else(|| {
                StripeError::invalid(format!(
                    "The price specified is set to `type=one_time` but this field only accepts prices with \
                     `type=recurring`: {}",
                    text(price, "id")
                ))
                .at("items[0][price]")
            })?;
        let here = (interval, text(price, "currency"));
        match found {
            Some(before) if before != here => {
                return Err(StripeError::invalid(
                    "The subscription's prices must all have the same `currency`, `interval` and `interval_count`.",
                )
                .at("items"));
            }
            _ => found = Some(here),
        }
    }
    found.map(|(interval, _)| interval).ok_or_else(|| StripeError::required("items"))
}

/// The interval of a subscription that is there.
pub fn interval_of(subscription: &Value) -> Interval {
    let prices = entries(subscription, "items.data").iter().map(|item| at(item, "price"));
    common_interval(prices).unwrap_or(Interval::Months(1))
}

/// A `subscription_item`.
pub fn item(
    state: &mut State,
    subscription: &str,
    price: &Value,
    quantity: Option<i64>,
    period: (i64, i64),
    metadata: &Value,
) -> Value {
    let mut item = json!({
        "id": state.ids.id("si"), "object": "subscription_item", "billing_thresholds": null, "created": state.moment,
        "current_period_start": period.0, "current_period_end": period.1, "discounts": [],
        "metadata": if metadata.is_object() { metadata.clone() } else { json!({}) },
        "plan": crate::api::prices::plan(price), "price": price, "subscription": subscription, "tax_rates": [],
    });
    if text(price, "recurring.usage_type") != "metered" {
        item["quantity"] = json!(quantity.unwrap_or(1));
    }
    item
}

/// `items.total_count`, and `plan` and `quantity` of a subscription with one item.
pub fn refresh_counts(subscription: &mut Value) {
    let count = entries(subscription, "items.data").len();
    subscription["items"]["total_count"] = json!(count);
    let currency = text(subscription, "items.data.0.price.currency").to_owned();
    subscription["currency"] = json!(currency);
}

/// Puts down when the period ends, and what comes before.
pub fn schedule_period(state: &mut State, account: &str, subscription: &Value) {
    let id = text(subscription, "id").to_owned();
    let clock = text(subscription, "test_clock").to_owned();
    let end = period_of(subscription).1;
    let upcoming = end - state.config.upcoming_days * DAY_S;
    if upcoming > state.moment {
        state.agenda.put(&clock, upcoming, account, Due::Upcoming(id.clone()));
    }
    state.agenda.put(&clock, end, account, Due::PeriodEnd(id));
    schedule_trial(state, account, subscription);
}

/// Puts down a trial's end and the word three days before it.
pub fn schedule_trial(state: &mut State, account: &str, subscription: &Value) {
    if text(subscription, "status") != "trialing" {
        return;
    }
    let id = text(subscription, "id").to_owned();
    let clock = text(subscription, "test_clock").to_owned();
    let end = int(subscription, "trial_end");
    state.agenda.put(
        &clock,
        (end - 3 * DAY_S).max(state.moment),
        account,
        Due::TrialWillEnd(id.clone()),
    );
    state.agenda.put(&clock, end, account, Due::PeriodEnd(id));
}

/// From, to of the current period.
pub fn period_of(subscription: &Value) -> (i64, i64) {
    (
        int(subscription, "items.data.0.current_period_start"),
        int(subscription, "items.data.0.current_period_end"),
    )
}

/// Discounts as of now.
pub fn set_discounts(
    state: &mut State,
    customer: &str,
    coupons: &[(Value, Value)],
    subscription: &mut Value,
) {
    let mut found = Vec::new();
    for (coupon, code) in coupons {
        let end = match text(coupon, "duration") {
            "repeating" => {
                let months = Interval::Months(int(coupon, "duration_in_months").max(1));
                json!(months.boundary(state.moment, 1))
            }
            // It is gone with the first invoice.
            "once" => json!(state.moment + 1),
            _ => Value::Null,
        };
        found.push(json!({
            "id": state.ids.id("di"), "object": "discount", "customer": customer, "customer_account": null,
            "end": end, "start": state.moment, "source": {"coupon": at(coupon, "id"), "type": "coupon"},
            "promotion_code": code, "subscription": at(subscription, "id"), "_coupon": coupon,
            "checkout_session": null, "invoice": null, "invoice_item": null, "subscription_item": null,
        }));
    }
    subscription["discounts"] = found.iter().map(|discount| at(discount, "id").clone()).collect();
    subscription["_discounts"] = Value::Array(found);
}

fn skeleton(state: &mut State, spec: &Spec, anchor: i64, trial_end: Option<i64>) -> Value {
    let id = state.ids.id("sub");
    let now = state.moment;
    let mut subscription = json!({
        "id": id, "object": "subscription", "application": null, "application_fee_percent": null,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null},
        "billing_cycle_anchor": anchor, "billing_cycle_anchor_config": null,
        "billing_mode": {"type": "flexible", "flexible": {"proration_discounts": "included"}},
        "billing_schedules": [], "billing_thresholds": null,
        "cancel_at": null, "cancel_at_period_end": false, "canceled_at": null,
        "cancellation_details": {"comment": null, "feedback": null, "reason": null},
        "collection_method": "charge_automatically", "created": now, "currency": "usd", "customer": spec.customer,
        "customer_account": null, "days_until_due": null, "default_payment_method": null, "default_source": null,
        "default_tax_rates": [], "description": null, "discounts": [], "ended_at": null,
        "invoice_settings": {"account_tax_ids": null, "issuer": {"type": "self"}},
        "items": {"object": "list", "data": [], "has_more": false, "total_count": 0,
            "url": format!("/v1/subscription_items?subscription={id}")},
        "latest_invoice": null, "livemode": false, "metadata": {}, "next_pending_invoice_item_invoice": null,
        "on_behalf_of": null, "pause_collection": null,
        "payment_settings": {"payment_method_options": null, "payment_method_types": null,
            "save_default_payment_method": "off"},
        "pending_invoice_item_interval": null, "pending_setup_intent": null, "pending_update": null,
        "schedule": null, "start_date": now, "status": "incomplete", "test_clock": null, "transfer_data": null,
        "trial_end": trial_end, "trial_settings": {"end_behavior": {"billing_cycle_anchor": "now",
            "missing_payment_method": "create_invoice"}},
        "trial_start": trial_end.map(|_| now),
    });
    if let (Some(members), Some(object)) = (spec.members.as_object(), subscription.as_object_mut())
    {
        for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
            object.insert(name.clone(), value.clone());
        }
    }
    subscription
}
