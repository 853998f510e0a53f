//! The customer's own page: cancel, resume, another card.
//!
//! In: a portal session. Out: changes of that customer's subscriptions and cards.
//! Always holds: only the session's customer's subscriptions are touched; a subscription of several items can be
//! canceled there and not changed.

use super::{Page, html};
use crate::api::subscriptions::{has_ended, set_cancel_at_period_end};
use crate::engine::payments::{self, Card};
use crate::engine::subscribe;
use crate::error::StripeError;
use crate::json::{at, flag, text};
use crate::params::Params;
use crate::state::State;
use jiff::Timestamp;
use serde_json::Value;

const KIND: &str = "billing_portal.session";

/// `/pages/portal/{session}`.
pub fn serve(state: &mut State, id: &str, posted: bool, params: &Params) -> Page {
    let Some(account) = state.account_of(KIND, id) else {
        return Page::Show(404, html::page("Not found", "<p>There is no such session.</p>"));
    };
    let session = state.get(&account, KIND, id).unwrap_or_default();
    let customer = text(&session, "customer").to_owned();
    let mut alert = String::new();
    if posted {
        state.enter_clock_of(&account, &customer);
        let read = |name: &str| params.text(name).ok().flatten().unwrap_or_default();
        match act(state, &account, &customer, &read("choice"), &read("subscription")) {
            Ok(()) => {
                let next = text(&session, "flow.after_completion.redirect.return_url");
                if !next.is_empty() {
                    return Page::Go(next.to_owned());
                }
            }
            Err(error) => alert = error.message,
        }
    }
    Page::Show(200, show(state, &account, &customer, &session, &alert))
}

fn act(
    state: &mut State,
    account: &str,
    customer: &str,
    choice: &str,
    id: &str,
) -> Result<(), StripeError> {
    if let Some(card) = match choice {
        "good_card" => Some(Card::Good),
        "bad_card" => Some(Card::Declined),
        _ => None,
    } {
        return new_card(state, account, customer, card);
    }
    let mut subscription = state.must(account, "subscription", id)?;
    if text(&subscription, "customer") != customer || has_ended(&subscription) {
        return Err(StripeError::missing("subscription", id));
    }
    let cancel = match choice {
        "cancel" => true,
        "resume" => false,
        _ => return Err(StripeError::invalid("Nothing was chosen.")),
    };
    let now = state.moment;
    set_cancel_at_period_end(&mut subscription, cancel, now);
    state.change(account, "customer.subscription.updated", &subscription)
}

/// Another card for the customer and all their subscriptions.
fn new_card(
    state: &mut State,
    account: &str,
    customer: &str,
    card: Card,
) -> Result<(), StripeError> {
    let method = payments::new_card(state, account, customer, card)?;
    let mut object = state.must(account, "customer", customer)?;
    object["invoice_settings"]["default_payment_method"] = at(&method, "id").clone();
    state.change(account, "customer.updated", &object)?;
    for mut subscription in subscriptions(state, account, customer) {
        subscription["default_payment_method"] = at(&method, "id").clone();
        state.change(account, "customer.subscription.updated", &subscription)?;
    }
    Ok(())
}

fn subscriptions(state: &State, account: &str, customer: &str) -> Vec<Value> {
    let rows =
        state.table(account, "subscription").into_iter().flat_map(|table| table.newest(None));
    let running = |row: &&Value| text(row, "customer") == customer && !has_ended(row);
    rows.filter(running).cloned().collect()
}

fn show(state: &State, account: &str, customer: &str, session: &Value, alert: &str) -> String {
    let mut body = String::new();
    if !alert.is_empty() {
        body.push_str(&format!("<p role=\"alert\">{}</p>", html::escape(alert)));
    }
    for subscription in subscriptions(state, account, customer) {
        let product = text(&subscription, "items.data.0.price.product").to_owned();
        let product = state.get(account, "product", &product).unwrap_or_default();
        let end =
            Timestamp::from_second(subscribe::period_of(&subscription).1).map(|at| at.to_string());
        let canceled = flag(&subscription, "cancel_at_period_end");
        body.push_str(&format!(
            "<p>{}: {}, {} {}</p><form method=\"post\"><input type=\"hidden\" name=\"subscription\" value=\"{}\">{}</form>",
            html::escape(text(&product, "name")),
            html::escape(text(&subscription, "status")),
            if canceled { "ends" } else { "renews" },
            end.unwrap_or_default(),
            html::escape(text(&subscription, "id")),
            if canceled { html::button("resume", "Keep it") } else { html::button("cancel", "Cancel at the period's end") },
        ));
    }
    body.push_str(&format!(
        "<form method=\"post\">{}{}</form>",
        html::button("good_card", "Use a card that pays"),
        html::button("bad_card", "Use a card that is declined"),
    ));
    let back = text(session, "return_url");
    if !back.is_empty() {
        body.push_str(&format!("<p><a href=\"{}\">Return</a></p>", html::escape(back)));
    }
    html::page("Your subscriptions", &body)
}
