//! Where Stripe sends owners back to after onboarding.
//!
//! In: nothing. Out: a page that says how to go on.
//! Always holds: nothing is believed of an address: what an account can do is asked of Stripe.

use maud::html;

use super::{Page, shown};

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
