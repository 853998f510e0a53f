//! From a payment to a key: the success page, the e-mailed link, and the POST that shows the key.
//!
//! In: a session's id, or a link's secret. Out: a button; the key, once.
//! Always holds: a GET makes no key; an id or a secret that is guessed, over or used shows none, and does not tell which.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use maud::html;
use serde::Deserialize;

use super::view::Refresh;
use super::{Here, Page, form, missing, name_of, shown};
use crate::billing::checkout;
use crate::billing::claims::{self, Key, Proof, Redeemed};
use crate::billing::settle::checkout::Paid;
use crate::storage::Site;

const NOTHING: &str = "There is no key to be had with this link: it may have been used, or be too old. If you paid and have no key, use the link in your e-mail, or ask whoever offers the API.";
/// The longest id of a session.
const SESSION_CHARS_MAX: usize = 255;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    session_id: String,
    /// Whether the page is to stand still while it waits.
    #[serde(default)]
    still: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Shown {
    #[serde(default)]
    session_id: String,
    #[serde(default)]
    link: String,
}

/// Whether it has the form of a session's id, so that nothing else costs the database a look.
fn is_session(id: &str) -> bool {
    id.starts_with("cs_")
        && id.len() <= SESSION_CHARS_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Where Stripe sends a buyer after the payment.
pub(super) async fn success(
    State(pages): Here,
    Path(slug): Path<String>,
    Query(asked): Query<Asked>,
) -> Page {
    let site = pages.site(&slug).await?;
    let (store, id) = (&pages.billing.store, asked.session_id.as_str());
    if !is_session(id) {
        return Err(missing(NOTHING));
    }
    let checkout = store.checkout_of_session(id).await?.filter(|row| row.site_id == site.id);
    let checkout = checkout.ok_or_else(|| missing(NOTHING))?;
    let mut claim = claims::find(store, Proof::Session(id)).await?;
    if claim.is_none() && checkout.subscription_id.is_none() {
        // The webhook may come later than the buyer.
        match checkout::look(&pages.billing, &checkout).await? {
            Paid::Given { .. } => claim = claims::find(store, Proof::Session(id)).await?,
            Paid::Waits => return waits(&slug, &asked),
            Paid::Over => {
                let again = html! {
                    p { "The payment was not completed, and nothing was charged." }
                    p { a.button href=(format!("/pay/{slug}")) { "Back to the plans" } }
                };
                return shown("Not paid", None, &again);
            }
            Paid::Unknown => {}
        }
    }
    let Some(claim) = claim.filter(|claim| claim.redeemed_at_ms.is_none()) else {
        return Err(missing(NOTHING));
    };
    tracing::debug!(claim = claim.id, "a claim is offered");
    let body = html! {
        p { "Thank you. Your key is ready. It is shown once, so have a safe place for it at hand." }
        form method="post" action="/claim" {
            input type="hidden" name="session_id" value=(id);
            button type="submit" { "Show my key" }
        }
    };
    shown(&format!("You have a plan for {}", name_of(&site)), None, &body)
}

/// It looks again by itself, unless somebody wants to read in peace (WCAG 2.2, 2.2.1 and F41).
fn waits(slug: &str, asked: &Asked) -> Page {
    let again = format!("/pay/{slug}/success?session_id={}", asked.session_id);
    let refresh = asked.still.is_none().then(|| Refresh { seconds: 5, url: again.clone() });
    let body = html! {
        p role="status" { "The payment is being confirmed." }
        p {
            @if refresh.is_some() {
                "This page looks again every five seconds. "
                a href=(format!("{again}&still=1")) { "Do not look again by itself" } " "
            }
            a href=(again) { "Look again" }
        }
        p { "Some ways of paying take days; you will get an e-mail with a link to your key then, and can close this page." }
    };
    shown("Almost there", refresh.as_ref(), &body)
}

/// Where the e-mailed link leads.
pub(super) async fn link(State(pages): Here, Path(secret): Path<String>) -> Page {
    pages.admit("claim")?;
    let claim = claims::find(&pages.billing.store, Proof::Link(&secret)).await?;
    if claim.is_none_or(|claim| claim.redeemed_at_ms.is_some()) {
        return Err(missing(NOTHING));
    }
    let body = html! {
        p { "Your key is shown once, so have a safe place for it at hand." }
        form method="post" action="/claim" {
            input type="hidden" name="link" value=(secret);
            button type="submit" { "Show my key" }
        }
    };
    shown("Your key", None, &body)
}

/// Makes the key and shows it.
pub(super) async fn redeem(State(pages): Here, body: Bytes) -> Page {
    let shown: Shown = form(&body)?;
    pages.admit("claim")?;
    let proof = match (is_session(&shown.session_id), shown.link.is_empty()) {
        (true, true) => Proof::Session(&shown.session_id),
        (false, false) => Proof::Link(&shown.link),
        _ => return Err(missing(NOTHING)),
    };
    match claims::redeem(&pages.billing, proof).await? {
        Redeemed::Key(key) => {
            let tenant = pages.billing.store.tenant(&key.token.account_id);
            let site = tenant.get::<Site>(&key.token.site_id).await?;
            show_key(&site.unwrap_or_default(), &key)
        }
        Redeemed::Nothing | Redeemed::Already => Err(missing(NOTHING)),
    }
}

/// A key, once.
pub(super) fn show_key(site: &Site, key: &Key) -> Page {
    let body = html! {
        p { strong { "Keep this key now: it is not shown again." } }
        pre { code id="key" { (key.text) } }
        @if !key.is_acknowledged {
            p role="status" { "It works in a few seconds." }
        }
        h2 { "How to use it" }
        p { "Send it with each request:" }
        pre { code { "Authorization: Bearer " (key.text) } }
    };
    shown(&format!("Your key for {}", name_of(site)), None, &body)
}
