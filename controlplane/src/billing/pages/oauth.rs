//! Where an owner's browser connects a Stripe account that exists already: before Stripe, and back from it.
//!
//! In: a state of ours, this browser's cookie, what Stripe puts into the address. Out: pages; the way to Stripe.
//! Always holds: the cookie is of this host alone (`__Host-`), no script reads it, and no other site's form carries it (`SameSite=Lax`), so the
//! button must have been pressed on our own page; an address that was opened in another browser connects nothing.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{Markup, html};
use serde::Deserialize;

use super::view::Refresh;
use super::{Here, Trouble, form, later, returns, view};
use crate::billing::oauth::{self, OauthError, STATE_MS};
use crate::billing::{BillingError, connect};
use crate::ids::{is_id, new_id};

const COOKIE: &str = "__Host-payfence_oauth";
const PREFIX: &str = "browser";
/// When a browser that found Stripe away comes again, seconds.
const AGAIN_S: u32 = 5;

#[derive(Deserialize)]
pub(super) struct Begun {
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: String,
}

type Answer = Result<Response, Trouble>;

fn page(title: &'static str, refresh: Option<&Refresh>, body: &Markup) -> Html<String> {
    Html(view::page(title, refresh, body))
}

/// What this browser is known by.
fn browser_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|it| it.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim() == COOKIE)?;
    Some(value.trim()).filter(|value| is_id(value) && value.starts_with(PREFIX))
}

/// Says who asks, and gives this browser its cookie.
pub(super) async fn begin(
    State(pages): Here,
    headers: HeaderMap,
    Query(begun): Query<Begun>,
) -> Answer {
    pages.admit("oauth")?;
    let offer = oauth::offer(&pages.billing, &begun.state).await.map_err(trouble)?;
    let browser = match browser_of(&headers) {
        Some(browser) => browser.to_owned(),
        None => new_id(PREFIX, &**pages.billing.store.world()),
    };
    let age_s = STATE_MS / 1_000;
    let cookie =
        format!("{COOKIE}={browser}; Path=/; Max-Age={age_s}; Secure; HttpOnly; SameSite=Lax");
    let cookie = HeaderValue::from_str(&cookie)
        .map_err(|_| BillingError::Broken("a cookie that fits no header".to_owned()))?;
    let body = html! {
        p { strong { (offer.name) } " asks to sell through your Stripe account, in " (offer.mode.as_str()) " mode: payments of its buyers go to that account." }
        p { "Go on only if you asked for this yourself. Stripe asks you which account it is to be, and whether you agree." }
        form method="post" action="/stripe/oauth/begin" {
            input type="hidden" name="state" value=(begun.state);
            button type="submit" { "Go on to Stripe" }
        }
    };
    let page = page("Connect your Stripe account", None, &body);
    Ok(([(header::SET_COOKIE, cookie)], page).into_response())
}

/// A way to Stripe's page. A page between, since a form may lead to this site alone.
pub(super) async fn go_on(State(pages): Here, headers: HeaderMap, body: Bytes) -> Answer {
    pages.admit("oauth")?;
    let begun: Begun = form(&body)?;
    let browser = browser_of(&headers).unwrap_or_default();
    if browser.is_empty() {
        return Err(trouble(OauthError::OtherBrowser));
    }
    let url = oauth::go_on(&pages.billing, &begun.state, browser).await.map_err(trouble)?;
    let body = html! {
        p { "You are taken to Stripe." }
        p { a.button href=(url) { "Go to Stripe" } }
    };
    Ok(page("Stripe", Some(&Refresh { seconds: 0, url: url.clone() }), &body).into_response())
}

/// Back from Stripe.
pub(super) async fn back(
    State(pages): Here,
    headers: HeaderMap,
    Query(back): Query<Back>,
) -> Answer {
    pages.admit("oauth")?;
    let browser = browser_of(&headers).unwrap_or_default();
    if back.code.is_empty() {
        return refused(&pages, &back.state, browser).await;
    }
    match oauth::end(&pages.billing, &back.state, browser, &back.code).await {
        Ok(()) => Ok(returns::done().await?.into_response()),
        Err(OauthError::CodeSpent) => Ok(once_more(&back.state)),
        Err(OauthError::Billing(error)) if error.is_temporary() => {
            tracing::warn!(%error, "an account could not be connected yet");
            comes_again(&back)
        }
        Err(error) => Err(trouble(error)),
    }
}

/// The owner did not agree. What is not this browser's attempt stays as it is.
async fn refused(pages: &super::Pages, state: &str, browser: &str) -> Answer {
    match oauth::give_up(&pages.billing, state, browser).await {
        Ok(()) | Err(OauthError::Unknown | OauthError::OtherBrowser) => {}
        Err(error) => return Err(trouble(error)),
    }
    let body = html! { p { "Stripe did not connect the account. Begin again with POST /v1/stripe/oauth/authorize to try once more." } };
    Ok(page("Not connected", None, &body).into_response())
}

/// A code is good for five minutes at Stripe, and once.
fn once_more(state: &str) -> Response {
    let body = html! {
        p { "Stripe does not take this authorisation any more, and nothing is connected yet. Please agree once more." }
        form method="post" action="/stripe/oauth/begin" {
            input type="hidden" name="state" value=(state);
            button type="submit" { "Go on to Stripe" }
        }
    };
    (StatusCode::CONFLICT, page("Once more, please", None, &body)).into_response()
}

/// The browser comes again by itself.
fn comes_again(back: &Back) -> Answer {
    let query = [("code", back.code.as_str()), ("state", back.state.as_str())];
    let query = crate::billing::stripe::form(&std::collections::BTreeMap::from(query))
        .map_err(BillingError::from)?;
    let url = format!("/stripe/oauth/callback?{query}");
    let body = html! {
        p { "The account cannot be connected just now. This page tries again by itself; nothing is connected twice." }
        p { a.button href=(url) { "Try again" } }
    };
    let page = page("Please wait", Some(&Refresh { seconds: AGAIN_S, url: url.clone() }), &body);
    let wait = [(header::RETRY_AFTER, HeaderValue::from(AGAIN_S))];
    Ok((StatusCode::SERVICE_UNAVAILABLE, wait, page).into_response())
}

fn trouble(error: OauthError) -> Trouble {
    let said = |status, title, text: &str| Trouble::new(status, title, text);
    let again = "POST /v1/stripe/oauth/authorize makes another address, which is good for a quarter of an hour.";
    match error {
        OauthError::Unknown => {
            let text = format!("No attempt to connect a Stripe account is under way here. {again}");
            said(StatusCode::NOT_FOUND, "Please begin again", &text)
        }
        OauthError::OtherBrowser => {
            let text = format!(
                "This attempt to connect a Stripe account is another browser's. Go on in that one, which must take cookies. {again}"
            );
            said(StatusCode::FORBIDDEN, "Another browser's", &text)
        }
        OauthError::CodeSpent => {
            said(StatusCode::CONFLICT, "Once more, please", "Stripe asks you to agree once more.")
        }
        OauthError::Billing(error) => of_billing(&error),
    }
}

fn of_billing(error: &BillingError) -> Trouble {
    let status = connect::page_status(error);
    if status.is_server_error() {
        tracing::error!(%error, "a page of OAuth failed");
        return Trouble { status, ..later() };
    }
    tracing::info!(%error, "an account was not connected");
    Trouble::new(status, "Not connected", format!("Nothing was connected: {error}."))
}
