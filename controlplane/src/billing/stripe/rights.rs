//! What a restricted key has to be allowed.
//!
//! In: nothing. Out: each right, what is asked for with it, and how to find out whether a key has it.
//! Always holds: each path that the client asks for is below a path of one of the rights, and `docs/OPERATIONS.md` names the same ones;
//! tests hold them to both.

use super::client::{Call, Scope, Stripe};
use super::{Mode, StripeError};
use serde::Deserialize;
use serde_json::{Value as Json, json};

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read it.
    Read,
    /// To make and change it, too, which includes reading.
    Write,
}

impl Access {
    /// As the Stripe dashboard writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
        }
    }
}

/// One right.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// What Stripe calls it, in the dashboard's form for restricted keys.
    pub resource: &'static str,
    /// How much of it.
    pub access: Access,
    /// Beginnings of the paths that are asked for with it.
    pub paths: &'static [&'static str],
    /// A list that can be read with it; `None` where there is none that costs nothing.
    pub probe: Option<&'static str>,
}

const fn right(
    resource: &'static str,
    access: Access,
    paths: &'static [&'static str],
    probe: Option<&'static str>,
) -> Right {
    Right { resource, access, paths, probe }
}

/// All of them, in the order of the dashboard's form.
pub const RIGHTS: &[Right] = &[
    right(
        "Charges and Refunds",
        Access::Read,
        &["/v1/charges", "/v1/refunds"],
        Some("/v1/charges"),
    ),
    right("Customers", Access::Write, &["/v1/customers"], Some("/v1/customers")),
    right("Disputes", Access::Read, &["/v1/disputes"], Some("/v1/disputes")),
    right("Events", Access::Read, &["/v1/events"], Some("/v1/events")),
    right("Products", Access::Write, &["/v1/products"], Some("/v1/products")),
    right(
        "Checkout Sessions",
        Access::Write,
        &["/v1/checkout/sessions"],
        Some("/v1/checkout/sessions"),
    ),
    right("Customer portal", Access::Write, &["/v1/billing_portal/sessions"], None),
    right(
        "Invoices",
        Access::Write,
        &["/v1/invoices", "/v1/invoice_payments"],
        Some("/v1/invoices"),
    ),
    right("Meters", Access::Write, &["/v1/billing/meters"], Some("/v1/billing/meters")),
    right("Meter events", Access::Write, &["/v1/billing/meter_events"], None),
    right("Prices", Access::Write, &["/v1/prices"], Some("/v1/prices")),
    right("Subscriptions", Access::Write, &["/v1/subscriptions"], Some("/v1/subscriptions")),
    right(
        "Accounts",
        Access::Write,
        &["/v2/core/accounts", "/v1/account", "/v1/accounts", "/oauth/token", "/oauth/deauthorize"],
        Some("/v1/accounts"),
    ),
    right("Account Links", Access::Write, &["/v2/core/account_links", "/v1/account_links"], None),
    // `payfence doctor` alone reads them, and says so where it may not.
    right("Webhook Endpoints", Access::Read, &["/v1/webhook_endpoints"], None),
];

/// Where Stripe sends events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct WebhookEndpoint {
    /// Its address.
    pub url: String,
    /// `enabled` or `disabled`.
    #[serde(default)]
    pub status: String,
    /// The version that its events are written in; the account's own where there is none.
    #[serde(default)]
    pub api_version: Option<String>,
    /// The Connect application that it is of, where it is sent events of connected accounts and Stripe shows that; no other field does.
    #[serde(default)]
    pub application: Option<String>,
    /// Types, or `*`.
    #[serde(default)]
    pub enabled_events: Vec<String>,
}

impl Stripe {
    /// Whether the key may list what is at a path.
    ///
    /// # Errors
    /// As Stripe says, but for a right that is missing; so for all below.
    pub async fn may_list(&self, mode: Mode, path: &str) -> Result<bool, StripeError> {
        let call = Call::list(path, &json!({ "limit": 1 }))?;
        match self.send::<Json>(&Scope::platform(mode), call).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_forbidden() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The platform's endpoints: there are at most sixteen of a mode.
    pub async fn webhook_endpoints(&self, mode: Mode) -> Result<Vec<WebhookEndpoint>, StripeError> {
        let call = Call::list("/v1/webhook_endpoints", &json!({ "limit": 100 }))?;
        let list: super::ListOf<WebhookEndpoint> = self.send(&Scope::platform(mode), call).await?;
        Ok(list.data)
    }
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;
