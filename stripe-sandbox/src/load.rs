//! Many subscriptions at once, and what they cost.
//!
//! In: an account with a price. Out: subscriptions without a page to pay on; calls counted, times of answers.
//! Always holds: a subscription made here is one like any other: customer, card, invoice, charge, events.

use crate::api::customers;
use crate::engine::payments::{self, Card};
use crate::engine::subscribe::{self, FirstPayment, Spec};
use crate::error::StripeError;
use crate::faults::Load;
use crate::json::text;
use crate::sandbox::Sandbox;
use serde_json::{Value, json};
use std::time::Duration;

impl Sandbox {
    /// A new customer with a card that pays, and their subscription to a price; as the API shows it.
    ///
    /// # Errors
    /// No such account or price, or a full table.
    pub fn subscribe(&self, account: &str, price: &str) -> Result<Value, StripeError> {
        self.with(|state| {
            state.moment = state.library_now;
            let price = state.must(account, "price", price)?;
            let customer = customers::new(state);
            state.create(account, "customer.created", &customer)?;
            let id = text(&customer, "id");
            let card = payments::new_card(state, account, id, Card::Good)?;
            let spec = Spec {
                customer: id.to_owned(),
                items: vec![(price, Some(1), Value::Null)],
                trial_end: None,
                anchor: None,
                members: json!({ "default_payment_method": text(&card, "id") }),
                coupons: Vec::new(),
                payment: FirstPayment::Charge { method: card, authenticated: true },
            };
            let made = subscribe::subscribe(state, account, spec)?;
            Ok(state.shown(&made))
        })
    }

    /// Requests a second before 429 from now on; 0 for no limit.
    pub fn set_rate_limit(&self, per_s: u32) {
        self.shared.state.lock().config.rate_limit_per_s = per_s;
    }

    /// Calls since the start, or since this was asked last.
    pub fn take_load(&self) -> Load {
        std::mem::take(&mut self.shared.state.lock().faults.load)
    }

    /// How long deliveries took to be answered since the start, or since this was asked last, at most a million.
    pub fn take_answers(&self) -> Vec<Duration> {
        std::mem::take(&mut self.shared.state.lock().outbox.answers).into()
    }
}
