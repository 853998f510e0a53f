//! From a payment to a key: the success page, the e-mailed link, and the POST that shows the key.
//!
//! In: a session's id, or a link's secret. Out: a button; the key, once.
//! Always holds: a GET makes no key; an id or a secret that is guessed, over or used shows none, and does not tell which. Each page that
//! offers a key has a word of its own, with which its browser may send the form again where no answer came; once an answer went out
//! to its last byte, it is worth nothing.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse as _, Response};
use futures_lite::{StreamExt as _, stream};
use maud::html;
use serde::Deserialize;

use super::view::Refresh;
use super::{Here, Page, Pages, Trouble, form, missing, name_of, shown};
use crate::billing::checkout;
use crate::billing::claims::{self, Key, Offered, Proof, Redeemed};
use crate::billing::settle::checkout::Paid;
use crate::storage::{Site, Store, Token};

const NOTHING: &str = "There is no key to be had with this link: it may have been used, or be too old. If you have just asked for your key and the page did not come, reload it and let your browser send the form again. If you paid and have no key, use the link in your e-mail, or ask whoever offers the API.";
/// How long the end of an answer waits until it is kept that it went out.
const KEPT_WITHIN: Duration = Duration::from_secs(2);
/// The longest id of a session.
const SESSION_CHARS_MAX: usize = 255;
/// Most payments are confirmed within the second: so often a page that waits looks again after one, then after five.
const LOOKS_AT_ONCE: u8 = 5;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    session_id: String,
    /// Whether the page is to stand still while it waits.
    #[serde(default)]
    still: Option<String>,
    /// How often it has looked by itself while it waited.
    #[serde(default)]
    looks: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Shown {
    #[serde(default)]
    session_id: String,
    #[serde(default)]
    link: String,
    /// The word of the page that the form is of.
    #[serde(default)]
    once: String,
}

/// Whether it has the form of a session's id, so that nothing else costs the database a look.
fn is_session(id: &str) -> bool {
    id.starts_with("cs_")
        && id.len() <= SESSION_CHARS_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What a proof is good for. Those who guess share what all of them may ask; who has a claim has their own, so that nobody is kept
/// from a key by strangers.
async fn claimed(pages: &Pages, proof: Proof<'_>) -> Result<Offered, Trouble> {
    let found = claims::offered(&pages.billing.store, proof).await?;
    pages.admit(found.as_ref().map_or("guesses", |found| found.id.as_str()))?;
    found.ok_or_else(|| missing(NOTHING))
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
            input type="hidden" name="once" value=(claims::new_once(&**store.world()));
            button type="submit" { "Show my key" }
        }
    };
    shown(&format!("You have a plan for {}", name_of(&site)), None, &body)
}

/// It looks again by itself, unless somebody wants to read in peace (WCAG 2.2, 2.2.1 and F41).
fn waits(slug: &str, asked: &Asked) -> Page {
    let again = format!("/pay/{slug}/success?session_id={}", asked.session_id);
    let looks: u8 = asked.looks.as_deref().map_or(0, |looks| looks.parse().unwrap_or(u8::MAX));
    let seconds = if looks < LOOKS_AT_ONCE { 1 } else { 5 };
    let next = looks.saturating_add(1);
    let refresh =
        asked.still.is_none().then(|| Refresh { seconds, url: format!("{again}&looks={next}") });
    let body = html! {
        p role="status" { "The payment is being confirmed." }
        p {
            @if refresh.is_some() {
                "This page looks again by itself. "
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
    if claimed(&pages, Proof::Link(&secret)).await?.is_redeemed {
        return Err(missing(NOTHING));
    }
    let body = html! {
        p { "Your key is shown once, so have a safe place for it at hand." }
        form method="post" action="/claim" {
            input type="hidden" name="link" value=(secret);
            input type="hidden" name="once" value=(claims::new_once(&**pages.billing.store.world()));
            button type="submit" { "Show my key" }
        }
    };
    shown("Your key", None, &body)
}

/// Makes the key and shows it.
pub(super) async fn redeem(State(pages): Here, body: Bytes) -> Result<Response, Trouble> {
    let asked: Shown = form(&body)?;
    let proof = match (is_session(&asked.session_id), asked.link.is_empty()) {
        (true, true) => Proof::Session(&asked.session_id),
        (false, false) => Proof::Link(&asked.link),
        _ => return Err(missing(NOTHING)),
    };
    claimed(&pages, proof).await?;
    match claims::redeem(&pages.billing, proof, Some(&asked.once)).await? {
        Redeemed::Key(key) => {
            let store = pages.billing.store.clone();
            let tenant = store.tenant(&key.token.account_id);
            let site = tenant.get::<Site>(&key.token.site_id).await?;
            let page = show_key(&site.unwrap_or_default(), &key)?;
            Ok(kept_once_out(page, store, key.token))
        }
        Redeemed::Nothing | Redeemed::Already => Err(missing(NOTHING)),
    }
}

/// A page with a key. When all of it has gone out, it is kept that it was shown; one that is broken off before may be asked for again.
fn kept_once_out(page: Html<String>, store: Store, token: Token) -> Response {
    let Html(text) = page;
    let whole = stream::once(Ok::<_, Infallible>(Bytes::from(text)));
    let end = stream::once_future(async move {
        match tokio::time::timeout(KEPT_WITHIN, claims::shown(&store, &token)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "it is not kept that a key was shown"),
            Err(_) => tracing::warn!("it is not kept in time that a key was shown"),
        }
    });
    let end = end.filter_map(|()| None);
    Html(Body::from_stream(whole.chain(end))).into_response()
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
