//! Changing a `subscription`, and previewing what a change costs.
//!
//! In: items, how to prorate and pay, when to cancel, when to pause. Out: the subscription, or an invoice that is not.
//! Always holds: items that are not named stay; an item without `id` is added; a preview changes nothing.

use super::session_create::{discount, fee_percent, trial_settings};
use super::subscriptions::{self, KIND};
use crate::agenda::Due;
use crate::call::{Answer, Call};
use crate::engine::change::{self, Behavior, ItemChange, Plan, Proration};
use crate::engine::{cycle, invoicing, subscribe};
use crate::error::StripeError;
use crate::json::{at, flag, int, text};
use crate::params::Params;
use serde_json::{Value, json};

/// Parameters of a change.
pub const UPDATE: &[&str] = &[
    "items[][id]",
    "items[][price]",
    "items[][quantity]",
    "items[][deleted]",
    "proration_behavior",
    "proration_date",
    "payment_behavior",
    "billing_cycle_anchor[type]",
    "cancel_at_period_end",
    "cancel_at",
    "metadata{}",
    "application_fee_percent",
    "default_payment_method",
    "description",
    "pause_collection[behavior]",
    "pause_collection[resumes_at]",
    "trial_end",
    "trial_settings[end_behavior][missing_payment_method]",
    "cancellation_details[comment]",
    "cancellation_details[feedback]",
    "automatic_tax[enabled]",
    "discounts[][coupon]",
    "discounts[][promotion_code]",
    "off_session",
];
/// What may be asked for together with `payment_behavior=pending_if_incomplete`
/// (<https://docs.stripe.com/billing/subscriptions/pending-updates-reference>).
const PENDING: &[&str] = &[
    "items",
    "proration_behavior",
    "proration_date",
    "payment_behavior",
    "billing_cycle_anchor",
    "trial_end",
];
/// Parameters of a preview.
pub const PREVIEW: &[&str] = &[
    "customer",
    "subscription",
    "subscription_details[items][][id]",
    "subscription_details[items][][price]",
    "subscription_details[items][][quantity]",
    "subscription_details[items][][deleted]",
    "subscription_details[proration_behavior]",
    "subscription_details[proration_date]",
    "subscription_details[billing_cycle_anchor][type]",
    "subscription_details[cancel_at_period_end]",
];

/// Changes one.
///
/// # Errors
/// What Stripe refuses; a refused card with `error_if_incomplete`.
pub fn update(call: &mut Call<'_>) -> Answer {
    let mut subscription = call.fetch(KIND)?;
    call.state.enter_clock_of(&call.account, text(&subscription, "customer"));
    let members = || UPDATE.iter().map(|name| name.split(['[', '{']).next().unwrap_or(name));
    if subscriptions::has_ended(&subscription)
        && members().any(|name| {
            !matches!(name, "metadata" | "cancellation_details") && call.params.has(name)
        })
    {
        return Err(StripeError::invalid(
            "A canceled subscription can only update its cancellation_details and metadata.",
        ));
    }
    let changes = item_changes(call, &call.params.clone())?;
    let behavior = behavior(&call.params)?;
    if behavior == Behavior::Pending
        && let Some(name) = members().find(|name| !PENDING.contains(name) && call.params.has(name))
    {
        return Err(StripeError::invalid(format!(
            "When `payment_behavior` is set to `pending_if_incomplete`, you can only pass supported params. `{name}` is not supported."
        )));
    }
    let proration = proration(&call.params)?;
    set(call, &mut subscription)?;
    let (reset, ends_trial) = (resets(&call.params)?, trial(call, &mut subscription)?);
    let reset = reset || ends_trial;
    if !reset && changes.is_empty() {
        call.state.change(&call.account, "customer.subscription.updated", &subscription)?;
        if call.params.has("trial_end") {
            subscribe::schedule_trial(call.state, &call.account, &subscription);
        }
        return Ok(subscription);
    }
    let when = proration_date(&call.params, call.now())?;
    // Members that changed stand whatever comes of the items; the plan begins from them.
    let mut plan =
        change::plan(call.state, &call.account, &subscription, &changes, reset, proration, when)?;
    if ends_trial {
        plan.subscription["status"] = json!("active");
        plan.subscription["trial_end"] = json!(call.now());
    }
    change::carry_out(call.state, &call.account, plan, behavior)
}

fn item_changes(call: &Call<'_>, params: &Params) -> Result<Vec<ItemChange>, StripeError> {
    let mut changes = Vec::new();
    for entry in params.list("items")? {
        let price = match entry.text("price")? {
            Some(id) => {
                Some(call.state.named(&call.account, "price", &id, &entry.name("price"))?)
            }
            None => None,
        };
        if let Some(price) = price.as_ref().filter(|price| !flag(price, "active")) {
            return Err(entry.refused(
                "price",
                &format!("The price specified is inactive: {}.", text(price, "id")),
            ));
        }
        changes.push(ItemChange {
            id: entry.text("id")?,
            price,
            quantity: entry.int_within("quantity", 0, 1_000_000)?,
            deleted: entry.flag("deleted")?.unwrap_or(false),
        });
    }
    Ok(changes)
}

fn behavior(params: &Params) -> Result<Behavior, StripeError> {
    let words =
        &["allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"];
    Ok(match params.choice("payment_behavior", words)?.as_deref() {
        Some("pending_if_incomplete") => Behavior::Pending,
        Some("error_if_incomplete") => Behavior::Error,
        _ => Behavior::Allow,
    })
}

fn proration(params: &Params) -> Result<Proration, StripeError> {
    let words = &["always_invoice", "create_prorations", "none"];
    Ok(match params.choice("proration_behavior", words)?.as_deref() {
        Some("always_invoice") => Proration::AlwaysInvoice,
        Some("none") => Proration::None,
        _ => Proration::Create,
    })
}

fn resets(params: &Params) -> Result<bool, StripeError> {
    Ok(params.choice("billing_cycle_anchor.type", &["now", "unchanged"])?.as_deref() == Some("now"))
}

fn proration_date(params: &Params, now: i64) -> Result<i64, StripeError> {
    Ok(params.int("proration_date")?.unwrap_or(now))
}

/// Members that are set without billing anything.
fn set(call: &mut Call<'_>, subscription: &mut Value) -> Result<(), StripeError> {
    let now = call.now();
    let params = &call.params;
    if params.has("metadata") {
        subscription["metadata"] = params.metadata("metadata", at(subscription, "metadata"))?;
    }
    if let Some(percent) = fee_percent(params, &call.account)? {
        subscription["application_fee_percent"] = percent;
    } else if params.unsets("application_fee_percent") {
        subscription["application_fee_percent"] = Value::Null;
    }
    if let Some(settings) = trial_settings(params)? {
        subscription["trial_settings"] = settings;
    }
    if let Some(description) = params.text("description")? {
        subscription["description"] = json!(description);
    }
    if let Some(enabled) = params.flag("automatic_tax.enabled")? {
        subscription["automatic_tax"]["enabled"] = json!(enabled);
    }
    if let Some(method) = params.text("default_payment_method")? {
        let customer = text(subscription, "customer").to_owned();
        let found =
            super::payment_methods::of_customer(call.state, &call.account, &method, &customer)
                .ok_or_else(|| {
                    StripeError::missing("payment_method", &method)
                        .with_status(400)
                        .at("default_payment_method")
                })?;
        subscription["default_payment_method"] = found["id"].clone();
    }
    for name in ["comment", "feedback"] {
        if let Some(words) = params.text(&format!("cancellation_details.{name}"))? {
            subscription["cancellation_details"][name] = json!(words);
        }
    }
    cancellation(call, subscription, now)?;
    pause(call, subscription)?;
    set_discounts(call, subscription)
}

fn cancellation(
    call: &mut Call<'_>,
    subscription: &mut Value,
    now: i64,
) -> Result<(), StripeError> {
    let params = &call.params;
    if let Some(wanted) = params.flag("cancel_at_period_end")? {
        subscriptions::set_cancel_at_period_end(subscription, wanted, now);
    }
    if let Some(end) = params.int("cancel_at")? {
        if end <= now {
            return Err(params.refused("cancel_at", "`cancel_at` must be in the future."));
        }
        subscription["cancel_at"] = json!(end);
        subscription["canceled_at"] = json!(now);
        subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
        cycle::schedule_cancel(call.state, &call.account, subscription);
    } else if params.unsets("cancel_at") {
        subscriptions::set_cancel_at_period_end(subscription, false, now);
    }
    Ok(())
}

fn pause(call: &mut Call<'_>, subscription: &mut Value) -> Result<(), StripeError> {
    let params = &call.params;
    if params.unsets("pause_collection") {
        subscription["pause_collection"] = Value::Null;
        return Ok(());
    }
    if !params.has("pause_collection") {
        return Ok(());
    }
    let behavior = params
        .choice("pause_collection.behavior", &["keep_as_draft", "mark_uncollectible", "void"])?
        .ok_or_else(|| StripeError::required("pause_collection[behavior]"))?;
    let resumes = params.int("pause_collection.resumes_at")?;
    subscription["pause_collection"] = json!({"behavior": behavior, "resumes_at": resumes});
    if let Some(at) = resumes {
        let clock = text(subscription, "test_clock").to_owned();
        let due = Due::ResumeCollection(text(subscription, "id").to_owned());
        call.state.agenda.put(&clock, at, &call.account, due);
    }
    Ok(())
}

fn set_discounts(call: &mut Call<'_>, subscription: &mut Value) -> Result<(), StripeError> {
    if !call.params.has("discounts") {
        return Ok(());
    }
    let mut coupons = Vec::new();
    for entry in call.params.list("discounts")? {
        let found = discount(call, &entry)?;
        coupons.push((at(&found, "coupon").clone(), at(&found, "code").clone()));
    }
    let customer = text(subscription, "customer").to_owned();
    subscribe::set_discounts(call.state, &customer, &coupons, subscription);
    Ok(())
}

/// Sets another end of the trial; true if it ends now.
fn trial(call: &mut Call<'_>, subscription: &mut Value) -> Result<bool, StripeError> {
    let Some(given) = call.params.text("trial_end")? else { return Ok(false) };
    let now = call.now();
    let end = subscriptions::trial_end(&given, now).ok_or_else(|| {
        call.params.refused("trial_end", "Invalid timestamp: must be `now` or in the future")
    })?;
    if end <= now {
        return Ok(text(subscription, "status") == "trialing");
    }
    subscription["trial_end"] = json!(end);
    if at(subscription, "trial_start").is_null() {
        subscription["trial_start"] = json!(now);
    }
    subscription["status"] = json!("trialing");
    subscription["billing_cycle_anchor"] = json!(end);
    let start = subscribe::period_of(subscription).0;
    cycle::set_period(subscription, (start, end));
    Ok(false)
}

/// `POST /v1/invoices/create_preview`.
///
/// # Errors
/// What the change itself would refuse.
pub fn preview(call: &mut Call<'_>) -> Answer {
    let id = call.params.required("subscription")?;
    let subscription = call.state.named(&call.account, KIND, &id, "subscription")?;
    call.state.enter_clock_of(&call.account, text(&subscription, "customer"));
    let details = call.params.hash("subscription_details")?;
    let changes = item_changes(call, &details)?;
    let (proration, reset) = (proration(&details)?, resets(&details)?);
    details.flag("cancel_at_period_end")?;
    let when = proration_date(&details, call.now())?;
    let plan =
        change::plan(call.state, &call.account, &subscription, &changes, reset, proration, when)?;
    let draft = preview_draft(call, &subscription, plan.clone());
    Ok(invoicing::preview(call.state, &call.account, &plan.subscription, draft))
}

/// What would be billed at once, or else with the renewal that comes next.
fn preview_draft(call: &Call<'_>, subscription: &Value, plan: Plan) -> invoicing::Draft {
    let now = call.now();
    let mut lines = plan.lines;
    if plan.invoice_now {
        return invoicing::Draft {
            lines,
            reason: "subscription_update",
            period: (now, now),
            auto_advance: true,
            with_pending: true,
        };
    }
    let (start, end) = subscribe::period_of(subscription);
    let anchor = int(&plan.subscription, "billing_cycle_anchor");
    let next = subscribe::interval_of(&plan.subscription).next_after(anchor, end);
    let was_trial = text(subscription, "status") == "trialing";
    lines.extend(cycle::cycle_lines(
        call.state,
        &call.account,
        &plan.subscription,
        (start, end),
        (end, next),
        was_trial,
    ));
    invoicing::Draft {
        lines,
        reason: "upcoming",
        period: (start, end),
        auto_advance: true,
        with_pending: true,
    }
}
