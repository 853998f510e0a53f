//! Where Stripe sends owners back to: after onboarding, after OAuth.
//!
//! In: what Stripe puts into the address. Out: a page that says how to go on.
//! Always holds: nothing is believed of an address but a state of OAuth that we made.

use axum::extract::{Query, State};
use maud::html;
use serde::Deserialize;

use super::{Here, Page, shown};
use crate::billing::connect;

#[derive(Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: String,
}

/// After OAuth.
pub(super) async fn oauth(State(pages): Here, Query(back): Query<Back>) -> Page {
    pages.admit("oauth")?;
    if back.code.is_empty() {
        let body =
            html! { p { "Stripe did not connect the account. Begin again to try once more." } };
        return shown("Not connected", None, &body);
    }
    connect::oauth_end(&pages.billing, &back.state, &back.code).await?;
    done().await
}

/// After onboarding.
pub(super) async fn done() -> Page {
    let body = html! {
        p { "Stripe has what you entered. Whether the account can take payments is shown by GET /v1/stripe/account." }
        p { "You can close this page." }
    };
    shown("Stripe account", None, &body)
}

/// A link that was used or is too old.
pub(super) async fn again() -> Page {
    let body =
        html! { p { "This link was used or is too old. POST /v1/stripe/account makes another." } };
    shown("Please begin again", None, &body)
}
