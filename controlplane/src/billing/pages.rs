//! Pages for people who have no key yet: prices, what follows a payment, a claim; and where Stripe sends owners back to.
//!
//! In: requests of browsers. Out: plain pages, rendered here, that need no script.
//! Always holds: every text goes through the template library, which escapes it; nothing is loaded from elsewhere; a key is
//! shown in the answer to a POST alone, so no link that a mail scanner follows shows one; nothing is kept in caches or told to
//! the next site in `Referer`.

mod claim;
mod oauth;
mod pricing;
mod returns;
mod view;

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderName, HeaderValue, StatusCode, header};
use maud::{Markup, html};
use serde::de::DeserializeOwned;

use super::{Billing, BillingError, connect};
use crate::api::rate::{Limiter, RateLimit};
use crate::storage::Site;

/// Of a form: names of plans, an address, a session's id.
const FORM_BYTES_MAX: usize = 8_192;
/// How long a page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// What a site's buyers may ask of Stripe and of the database, together.
const LIMIT: RateLimit = RateLimit { per_second: 10, burst: 50 };
/// When whoever was turned away may come again, seconds.
const RETRY_AFTER_S: u64 = 5;
/// Everything comes from here, and forms go here.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What pages are given.
#[derive(Clone, Debug)]
struct Pages {
    billing: Billing,
    limiter: Limiter,
}

/// The pages' routes.
pub fn router(billing: Billing) -> Router {
    let pages = Pages { billing, limiter: Limiter::new(LIMIT) };
    Router::new()
        .route("/pay/style.css", get(view::style))
        .route("/pay/{site}", get(pricing::show))
        .route("/pay/{site}/checkout", post(pricing::buy))
        .route("/pay/{site}/free", post(pricing::take_free))
        .route("/pay/{site}/success", get(claim::success))
        .route("/claim/{secret}", get(claim::link))
        .route("/claim", post(claim::redeem))
        .route("/stripe/oauth/begin", get(oauth::begin).post(oauth::go_on))
        .route("/stripe/oauth/callback", get(oauth::back))
        .route("/stripe/onboarding/done", get(returns::done))
        .route("/stripe/onboarding/again", get(returns::again))
        .layer(axum::middleware::from_fn(frame))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(pages)
}

/// Bounds a page's time and says what browsers may do with it.
async fn frame(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(PAGE_TIMEOUT, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| later().into_response());
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A page with another status than 200.
#[derive(Debug)]
struct Trouble {
    status: StatusCode,
    title: &'static str,
    text: String,
    retry_after_s: u64,
}

impl Trouble {
    fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self { status, title, text: text.into(), retry_after_s: RETRY_AFTER_S }
    }
}

impl axum::response::IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let body = html! { p { (self.text) } };
        let page = Html(view::page(self.title, None, &body));
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let headers = [(header::RETRY_AFTER, self.retry_after_s.to_string())];
            return (self.status, headers, page).into_response();
        }
        (self.status, page).into_response()
    }
}

fn later() -> Trouble {
    let text = "This cannot be done just now. Please try again in a moment; nothing is paid twice.";
    Trouble::new(StatusCode::SERVICE_UNAVAILABLE, "Please try again", text)
}

fn missing(text: &str) -> Trouble {
    Trouble::new(StatusCode::NOT_FOUND, "Not found", text)
}

impl From<BillingError> for Trouble {
    fn from(error: BillingError) -> Self {
        if error.is_temporary() {
            tracing::warn!(%error, "a page found Stripe or the database away");
            return later();
        }
        let status = connect::page_status(&error);
        if status.is_server_error() {
            tracing::error!(%error, "a page failed");
            return later();
        }
        // What is wrong with an owner's set-up is the owner's to read, not the buyer's.
        tracing::info!(%error, "a page could not do what it was asked for");
        match error {
            BillingError::NotFound(_) => missing("There is nothing here."),
            BillingError::Field(field, text) => {
                let text = format!("Your {}: {text}. Go back and enter it again.", word_of(field));
                Self::new(status, "Please check", text)
            }
            BillingError::TooMany { retry_after_s, .. } => {
                let text =
                    "Very many have asked for this plan within the hour. Please come again later.";
                Self { retry_after_s, ..Self::new(status, "Please come again", text) }
            }
            _ => {
                let text =
                    "This plan cannot be bought at the moment. Please ask whoever offers it.";
                Self::new(status, "Not for sale", text)
            }
        }
    }
}

/// What a form's field is called on its page.
fn word_of(field: &'static str) -> &'static str {
    if field == "email" { "e-mail address" } else { field }
}

impl From<crate::storage::StorageError> for Trouble {
    fn from(error: crate::storage::StorageError) -> Self {
        BillingError::from(error).into()
    }
}

type Page = Result<Html<String>, Trouble>;

fn shown(title: &str, refresh: Option<&view::Refresh>, body: &Markup) -> Page {
    Ok(Html(view::page(title, refresh, body)))
}

/// The fields of a form.
fn form<T: DeserializeOwned>(body: &Bytes) -> Result<T, Trouble> {
    let text = "The form was not filled in as it should be.";
    serde_qs::from_bytes(body)
        .map_err(|_| Trouble::new(StatusCode::UNPROCESSABLE_ENTITY, "Please check", text))
}

impl Pages {
    /// The site of a path, if so much may be asked of it now.
    async fn site(&self, slug: &str) -> Result<Site, Trouble> {
        let site = self.billing.store.site_of_slug(slug).await?;
        let site = site.ok_or_else(|| missing("Nothing is sold here."))?;
        self.admit(&site.id)?;
        Ok(site)
    }

    fn admit(&self, key: &str) -> Result<(), Trouble> {
        let now_ms = self.billing.store.world().now_ms();
        self.limiter
            .take(key, now_ms)
            .map_err(|_| Trouble { status: StatusCode::TOO_MANY_REQUESTS, ..later() })
    }
}

/// What a site is called.
fn name_of(site: &Site) -> String {
    let settings: serde_json::Value = serde_json::from_str(&site.settings).unwrap_or_default();
    settings.get("name").and_then(|name| name.as_str()).unwrap_or(&site.slug).to_owned()
}

type Here = State<Pages>;
