//! What falls due, done in order.
//!
//! In: a clock that moved. Out: all dues up to its time acted on, each at its own moment.
//! Always holds: while a due is worked on, the sandbox's time is the due's; a due whose object no longer wants it does
//! nothing.

use super::{change, cycle, invoicing, settle, subscribe};
use crate::agenda::Due;
use crate::error::StripeError;
use crate::json::{at, flag, int, text};
use crate::state::State;
use serde_json::{Value, json};

impl State {
    /// Does what is due by the sandbox's own clock.
    pub(crate) fn run_due(&mut self) {
        let now = self.clock.now();
        while let Some((at, account, due)) = self.agenda.pop("", now) {
            self.library_now = self.library_now.max(at);
            self.moment = self.library_now;
            self.work_on(&account, due);
        }
        self.library_now = self.library_now.max(now);
        self.moment = self.library_now;
    }

    /// Moves a test clock and does what is due by it.
    pub(crate) fn run_test_clock(&mut self, clock: &str, from: i64, until: i64) {
        let mut latest = from;
        while let Some((at, account, due)) = self.agenda.pop(clock, until) {
            latest = latest.max(at);
            self.moment = latest;
            self.work_on(&account, due);
        }
        self.moment = until;
    }

    fn work_on(&mut self, account: &str, due: Due) {
        let request = std::mem::take(&mut self.request);
        // A due that cannot be worked on (its table is full, its object in another state) has nobody to tell.
        let _ = act(self, account, due);
        self.request = request;
    }
}

fn act(state: &mut State, account: &str, due: Due) -> Result<(), StripeError> {
    match due {
        Due::Upcoming(id) => upcoming(state, account, &id),
        Due::PeriodEnd(id) => cycle::period_end(state, account, &id),
        Due::TrialWillEnd(id) => match state.get(account, "subscription", &id) {
            Some(subscription)
                if text(&subscription, "status") == "trialing"
                    && int(&subscription, "trial_end") - 3 * 86_400 <= state.moment =>
            {
                state.emit(account, "customer.subscription.trial_will_end", &subscription)
            }
            _ => Ok(()),
        },
        Due::CancelAt(id) => cancel_at(state, account, &id),
        Due::ResumeCollection(id) => resume_collection(state, account, &id),
        Due::PendingUpdateExpires(id) => change::pending_expires(state, account, &id),
        Due::IncompleteExpires(id) => cycle::incomplete_expires(state, account, &id),
        Due::Finalize(id) => finalize(state, account, &id),
        Due::RetryPayment(id) => retry(state, account, &id),
        Due::SessionExpires(id) => crate::api::checkout_sessions::expire_due(state, account, &id),
        Due::Deliver(number) => {
            state.deliver_due(number);
            Ok(())
        }
    }
}

fn upcoming(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let Some(subscription) = state.get(account, "subscription", id) else { return Ok(()) };
    let (start, end) = subscribe::period_of(&subscription);
    let due = end - state.config.upcoming_days * 86_400;
    let going_on = matches!(text(&subscription, "status"), "active" | "trialing" | "past_due");
    if !going_on
        || flag(&subscription, "cancel_at_period_end")
        || state.moment < due
        || state.moment >= end
    {
        return Ok(());
    }
    let next = subscribe::interval_of(&subscription)
        .next_after(int(&subscription, "billing_cycle_anchor"), end);
    let was_trial = text(&subscription, "status") == "trialing";
    let lines =
        cycle::cycle_lines(state, account, &subscription, (start, end), (end, next), was_trial);
    let draft = invoicing::Draft {
        lines,
        reason: "upcoming",
        period: (start, end),
        auto_advance: true,
        with_pending: true,
    };
    let mut invoice = invoicing::preview(state, account, &subscription, draft);
    // An invoice that is yet to come has no id.
    if let Some(invoice) = invoice.as_object_mut() {
        invoice.remove("id");
    }
    state.emit(account, "invoice.upcoming", &invoice)
}

fn cancel_at(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let Some(subscription) = state.get(account, "subscription", id) else { return Ok(()) };
    match at(&subscription, "cancel_at").as_i64() {
        Some(end) if end <= state.moment => {
            cycle::cancel(state, account, &subscription, "cancellation_requested").map(drop)
        }
        _ => Ok(()),
    }
}

fn resume_collection(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let Some(mut subscription) = state.get(account, "subscription", id) else { return Ok(()) };
    match at(&subscription, "pause_collection.resumes_at").as_i64() {
        Some(at) if at <= state.moment => {
            subscription["pause_collection"] = Value::Null;
            state.change(account, "customer.subscription.updated", &subscription)
        }
        _ => Ok(()),
    }
}

fn finalize(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let Some(invoice) = state.get(account, "invoice", id) else { return Ok(()) };
    if text(&invoice, "status") != "draft" || !flag(&invoice, "auto_advance") {
        return Ok(());
    }
    let invoice = invoicing::finalize(state, account, id)?;
    if text(&invoice, "status") == "open" {
        settle::collect(state, account, id)?;
    }
    Ok(())
}

fn retry(state: &mut State, account: &str, id: &str) -> Result<(), StripeError> {
    let Some(mut invoice) = state.get(account, "invoice", id) else { return Ok(()) };
    let planned = at(&invoice, "next_payment_attempt").as_i64();
    if text(&invoice, "status") != "open" || planned.is_none_or(|planned| planned > state.moment) {
        return Ok(());
    }
    invoice["next_payment_attempt"] = json!(null);
    state.put(account, &invoice)?;
    settle::collect(state, account, id).map(drop)
}
