//! The page to pay on, and the page of an invoice that was not paid.
//!
//! In: a session and how its payment goes. Out: customer, subscription, invoice, charge; the session complete.
//! Always holds: a session is paid once; a declined card leaves it open; what waits for the buyer or for a bank is
//! resolved once.

use super::{Page, html};
use crate::api::checkout_sessions::KIND;
use crate::api::customers;
use crate::engine::payments::{self, Card};
use crate::engine::subscribe::{self, FirstPayment, Spec};
use crate::engine::{checkout as bank, money, settle, tax};
use crate::error::StripeError;
use crate::json::{at, entries, flag, int, text};
use crate::params::Params;
use crate::state::State;
use serde_json::{Value, json};

/// How a payment on the page goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The card pays.
    Paid,
    /// The card is declined; the session stays open.
    Declined,
    /// The card wants its holder to authenticate: see [`crate::Sandbox::resolve`].
    NeedsAction,
    /// The payment is under way at a bank, whose word comes later: see [`crate::Sandbox::resolve`].
    Asynchronous,
    /// It pays now with a card that is declined when it is charged again.
    PaidOnce,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The account the session belongs to; empty for the platform.
    pub account: String,
    /// The session.
    pub session: String,
    /// Its customer, or empty.
    pub customer: String,
    /// Its subscription, or empty while it waits for the buyer.
    pub subscription: String,
    /// Where the buyer is sent, `{CHECKOUT_SESSION_ID}` filled in.
    pub success_url: String,
}

/// Pays a session.
///
/// # Errors
/// A declined card, or a session that is not open.
pub fn pay(state: &mut State, id: &str, outcome: Outcome) -> Result<Payment, StripeError> {
    pay_as(state, id, outcome, None, None)
}

fn pay_as(
    state: &mut State,
    id: &str,
    outcome: Outcome,
    email: Option<&str>,
    code: Option<&str>,
) -> Result<Payment, StripeError> {
    let account = state.account_of(KIND, id).ok_or_else(|| StripeError::missing(KIND, id))?;
    let mut session = state.must(&account, KIND, id)?;
    state.enter_clock_of(&account, text(&session, "customer"));
    if text(&session, "status") != "open" {
        return Err(StripeError::invalid(format!("This session is {}", text(&session, "status"))));
    }
    if let Some(code) = code {
        promotion(state, &account, &mut session, code)?;
    }
    match outcome {
        Outcome::Declined => {
            return Err(StripeError::card(
                "card_declined",
                "Your card was declined.",
                json!({"decline_code": "generic_decline"}),
            ));
        }
        Outcome::NeedsAction => {
            session["_waits"] = json!("authentication");
            state.put(&account, &session)?;
            return Ok(payment(&account, &session));
        }
        Outcome::Paid | Outcome::Asynchronous | Outcome::PaidOnce => {}
    }
    complete(state, &account, session, outcome, email)
}

/// The buyer's authentication, or the bank's word.
///
/// # Errors
/// A session that waits for neither, or an authentication that failed.
pub fn resolve(state: &mut State, id: &str, success: bool) -> Result<Payment, StripeError> {
    let account = state.account_of(KIND, id).ok_or_else(|| StripeError::missing(KIND, id))?;
    let mut session = state.must(&account, KIND, id)?;
    state.enter_clock_of(&account, text(&session, "customer"));
    let waits = text(&session, "_waits").to_owned();
    session["_waits"] = Value::Null;
    state.put(&account, &session)?;
    match (waits.as_str(), success) {
        ("authentication", true) => complete(state, &account, session, Outcome::Paid, None),
        ("authentication", false) => Err(StripeError::card(
            "payment_intent_authentication_failure",
            "We are unable to authenticate your payment method.",
            json!({}),
        )),
        ("bank", _) => {
            let method = state.must(&account, "payment_method", text(&session, "_method"))?;
            let invoice = text(&session, "invoice").to_owned();
            bank::bank_says(state, &account, &invoice, &method, success)?;
            let event = if success {
                session["payment_status"] = json!("paid");
                "checkout.session.async_payment_succeeded"
            } else {
                "checkout.session.async_payment_failed"
            };
            state.put(&account, &session)?;
            state.emit(&account, event, &session)?;
            Ok(payment(&account, &session))
        }
        _ => Err(StripeError::invalid("This session waits for nothing")),
    }
}

fn complete(
    state: &mut State,
    account: &str,
    mut session: Value,
    outcome: Outcome,
    email: Option<&str>,
) -> Result<Payment, StripeError> {
    let customer = customer(state, account, &session, email)?;
    tax::write_session(&mut session);
    let customer_id = text(&customer, "id").to_owned();
    let wants_card = int(&session, "amount_total") > 0
        || text(&session, "payment_method_collection") == "always";
    let method = match (wants_card, outcome) {
        (false, _) => Value::Null,
        (true, Outcome::PaidOnce) => {
            payments::new_card(state, account, &customer_id, Card::Declined)?
        }
        (true, _) => payments::new_card(state, account, &customer_id, Card::Good)?,
    };
    let waits = outcome == Outcome::Asynchronous && int(&session, "amount_total") > 0;
    let spec = spec(state, &session, &customer_id, &method, waits);
    let subscription = subscribe::subscribe(state, account, spec)?;
    session["status"] = json!("complete");
    session["customer"] = json!(customer_id);
    session["customer_details"] = json!({
        "address": at(&customer, "address"), "business_name": null, "email": at(&customer, "email"),
        "individual_name": null, "name": at(&customer, "name"), "phone": null, "tax_exempt": "none", "tax_ids": [],
    });
    session["subscription"] = at(&subscription, "id").clone();
    session["invoice"] = at(&subscription, "latest_invoice").clone();
    session["payment_status"] = json!(match (waits, wants_card) {
        (true, _) => "unpaid",
        (_, true) => "paid",
        (_, false) => "no_payment_required",
    });
    session["url"] = Value::Null;
    session["_method"] = at(&method, "id").clone();
    if waits {
        session["_waits"] = json!("bank");
    }
    state.put(account, &session)?;
    state.emit(account, "checkout.session.completed", &session)?;
    Ok(payment(account, &session))
}

fn customer(
    state: &mut State,
    account: &str,
    session: &Value,
    email: Option<&str>,
) -> Result<Value, StripeError> {
    // Where the buyer lives is asked for where taxes depend on it.
    let address = json!({"city": null, "country": "DE", "line1": null, "line2": null, "postal_code": "10115", "state": null});
    let is_asked = flag(session, "automatic_tax.enabled");
    if let Some(mut customer) = state.get(account, "customer", text(session, "customer")) {
        if is_asked && flag(session, "_keeps_address") {
            customer["address"] = address;
            state.change(account, "customer.updated", &customer)?;
        }
        return Ok(customer);
    }
    let mut customer = customers::new(state);
    if is_asked {
        customer["address"] = address;
    }
    let given =
        email.filter(|email| !email.is_empty()).or_else(|| at(session, "customer_email").as_str());
    customer["email"] = json!(given.unwrap_or("buyer@example.com"));
    customer["name"] = json!("A Buyer");
    state.create(account, "customer.created", &customer)?;
    Ok(customer)
}

fn spec(state: &State, session: &Value, customer: &str, method: &Value, waits: bool) -> Spec {
    let data = at(session, "_subscription");
    let mut members = at(data, "members").clone();
    members["default_payment_method"] = at(method, "id").clone();
    let days = at(data, "trial_days").as_i64().map(|days| state.moment + days * 86_400);
    let lines = entries(session, "_line_items.data").iter();
    Spec {
        customer: customer.to_owned(),
        items: lines
            .map(|line| (at(line, "price").clone(), at(line, "quantity").as_i64(), Value::Null))
            .collect(),
        trial_end: at(data, "trial_end").as_i64().or(days),
        anchor: at(data, "anchor").as_i64(),
        members,
        coupons: entries(session, "_coupons")
            .iter()
            .map(|found| (at(found, "coupon").clone(), at(found, "code").clone()))
            .collect(),
        payment: if waits {
            FirstPayment::Processing
        } else {
            // The card pays while its holder is there, whatever it does later.
            let mut now = method.clone();
            if !now.is_null() {
                now["_card"] = json!("good");
            }
            FirstPayment::Charge { method: now, authenticated: true }
        },
    }
}

fn payment(account: &str, session: &Value) -> Payment {
    let id = text(session, "id");
    Payment {
        account: account.to_owned(),
        session: id.to_owned(),
        customer: text(session, "customer").to_owned(),
        subscription: text(session, "subscription").to_owned(),
        success_url: text(session, "success_url").replace("{CHECKOUT_SESSION_ID}", id),
    }
}

/// Applies a code that the buyer typed.
fn promotion(
    state: &mut State,
    account: &str,
    session: &mut Value,
    code: &str,
) -> Result<(), StripeError> {
    let refused = || StripeError::invalid("This code is invalid.");
    if !flag(session, "allow_promotion_codes") {
        return Err(refused());
    }
    let rows =
        state.table(account, "promotion_code").into_iter().flat_map(|table| table.newest(None));
    let active = |row: &&Value| flag(row, "active") && text(row, "code").eq_ignore_ascii_case(code);
    let mut found = rows.into_iter().find(active).cloned().ok_or_else(refused)?;
    let coupon =
        state.get(account, "coupon", text(&found, "promotion.coupon")).ok_or_else(refused)?;
    found["times_redeemed"] = json!(int(&found, "times_redeemed") + 1);
    if at(&found, "max_redemptions")
        .as_i64()
        .is_some_and(|max| max <= int(&found, "times_redeemed"))
    {
        found["active"] = json!(false);
    }
    state.put(account, &found)?;
    let total = int(session, "amount_total");
    let off = match at(&coupon, "percent_off") {
        Value::Null => int(&coupon, "amount_off").min(total),
        percent => money::percent_of(total, percent),
    };
    session["amount_total"] = json!(total - off);
    session["total_details"]["amount_discount"] = json!(off);
    session["discounts"] = json!([{"coupon": null, "promotion_code": at(&found, "id")}]);
    session["_coupons"] = json!([{"coupon": coupon, "code": at(&found, "id")}]);
    Ok(())
}

/// `/pages/checkout/{session}`.
pub fn serve(state: &mut State, id: &str, posted: bool, params: &Params) -> Page {
    let Some(session) =
        state.account_of(KIND, id).and_then(|account| state.get(&account, KIND, id))
    else {
        return Page::Show(404, html::page("Not found", "<p>There is no such session.</p>"));
    };
    if !posted {
        return Page::Show(200, form(&session, ""));
    }
    let read = |name: &str| params.text(name).ok().flatten();
    let (email, code) = (read("email"), read("promotion_code"));
    let mut attempt = |outcome| pay_as(state, id, outcome, email.as_deref(), code.as_deref());
    let done = match read("choice").as_deref() {
        Some("pay") => attempt(Outcome::Paid),
        Some("declined") => attempt(Outcome::Declined),
        Some("authenticate") => attempt(Outcome::NeedsAction),
        Some("bank") => attempt(Outcome::Asynchronous),
        Some("once") => attempt(Outcome::PaidOnce),
        Some("succeeds") => resolve(state, id, true),
        Some("fails") => resolve(state, id, false),
        Some("cancel") => return Page::Go(text(&session, "cancel_url").to_owned()),
        _ => Err(StripeError::invalid("Nothing was chosen.")),
    };
    let account = state.account_of(KIND, id).unwrap_or_default();
    let session = state.get(&account, KIND, id).unwrap_or_default();
    match done {
        Ok(payment) if text(&session, "status") == "complete" => Page::Go(payment.success_url),
        Ok(_) => Page::Show(200, form(&session, "")),
        Err(error) => Page::Show(error.status, form(&session, &error.message)),
    }
}

fn form(session: &Value, alert: &str) -> String {
    let currency = text(session, "currency");
    let mut body = String::new();
    if !alert.is_empty() {
        body.push_str(&format!("<p role=\"alert\">{}</p>", html::escape(alert)));
    }
    for line in entries(session, "_line_items.data") {
        let words = format!(
            "{} — {}",
            text(line, "description"),
            html::amount(int(line, "amount_total"), currency)
        );
        body.push_str(&format!("<p>{}</p>", html::escape(&words)));
    }
    body.push_str(&format!(
        "<p><strong>Due today: {}</strong></p>",
        html::amount(int(session, "amount_total"), currency)
    ));
    let buttons = match (text(session, "status"), text(session, "_waits")) {
        ("complete", "bank") => vec![("succeeds", "The bank pays"), ("fails", "The bank refuses")],
        ("complete" | "expired", _) => {
            body.push_str(&format!(
                "<p>This session is {}.</p>",
                html::escape(text(session, "status"))
            ));
            vec![]
        }
        (_, "authentication") => {
            vec![("succeeds", "Complete authentication"), ("fails", "Fail authentication")]
        }
        _ => vec![
            ("pay", "Pay by card"),
            ("declined", "Pay by a card that is declined"),
            ("authenticate", "Pay by a card that wants authentication"),
            ("once", "Pay by a card that is declined at the renewal"),
            ("bank", "Pay by bank debit (its word comes later)"),
        ],
    };
    let open = text(session, "status") == "open" && text(session, "_waits").is_empty();
    body.push_str("<form method=\"post\">");
    if open && at(session, "customer").is_null() {
        let email = html::escape(text(session, "customer_email"));
        body.push_str(&format!(
            "<p><label>E-mail <input type=\"email\" name=\"email\" value=\"{email}\"></label></p>"
        ));
    }
    if open && flag(session, "allow_promotion_codes") {
        body.push_str("<p><label>Promotion code <input name=\"promotion_code\"></label></p>");
    }
    for (choice, words) in buttons {
        body.push_str(&html::button(choice, words));
    }
    if open && !text(session, "cancel_url").is_empty() {
        body.push_str(&html::button("cancel", "Go back"));
    }
    body.push_str("</form>");
    html::page("Pay", &body)
}

/// `/pages/invoice/{invoice}`: pays one whose card was refused.
pub fn invoice(state: &mut State, id: &str, posted: bool, params: &Params) -> Page {
    let Some(account) = state.account_of("invoice", id) else {
        return Page::Show(404, html::page("Not found", "<p>There is no such invoice.</p>"));
    };
    let mut alert = String::new();
    if posted {
        let choice = params.text("choice").ok().flatten();
        let card = if choice.as_deref() == Some("pay") { Card::Good } else { Card::Declined };
        if let Err(error) = pay_invoice(state, &account, id, card) {
            alert = error.message;
        }
    }
    let invoice = state.get(&account, "invoice", id).unwrap_or_default();
    let mut body = format!(
        "<p role=\"alert\">{}</p><p>{} of {}: <strong>{}</strong></p>",
        html::escape(&alert),
        html::escape(text(&invoice, "number")),
        html::escape(text(&invoice, "customer_email")),
        html::amount(int(&invoice, "amount_remaining"), text(&invoice, "currency")),
    );
    if text(&invoice, "status") == "open" {
        let buttons = html::button("pay", "Pay by another card")
            + &html::button("declined", "Pay by a card that is declined");
        body.push_str(&format!("<form method=\"post\">{buttons}</form>"));
    } else {
        body.push_str(&format!(
            "<p>This invoice is {}.</p>",
            html::escape(text(&invoice, "status"))
        ));
    }
    Page::Show(200, html::page("Invoice", &body))
}

/// Pays an open invoice by a new card, which becomes the customer's.
fn pay_invoice(state: &mut State, account: &str, id: &str, card: Card) -> Result<(), StripeError> {
    let invoice = state.must(account, "invoice", id)?;
    let customer = text(&invoice, "customer").to_owned();
    state.enter_clock_of(account, &customer);
    if text(&invoice, "status") != "open" {
        return Err(StripeError::invalid("This invoice is not open."));
    }
    let method = payments::new_card(state, account, &customer, card)?;
    if settle::collect_with(state, account, id, &method, true)? != payments::Attempt::Paid {
        return Err(StripeError::invalid("Your card was declined."));
    }
    let mut subscription = crate::engine::invoicing::subscription_of(state, account, &invoice);
    if !subscription.is_null() {
        subscription["default_payment_method"] = at(&method, "id").clone();
        state.change(account, "customer.subscription.updated", &subscription)?;
    }
    Ok(())
}
