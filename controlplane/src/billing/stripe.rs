//! A thin, typed client of Stripe's API.
//!
//! In: a [`Scope`] (mode and whose account), a typed request, an idempotency key. Out: a typed answer or a [`StripeError`].
//! Always holds: the version is pinned in every request; keys and bodies are never logged; every call has a time-out, a
//! bounded number of tries and a bounded wait for the account's rate limit; an answer's fields that we do not use are not
//! required to be there.
//!
//! Why our own: `docs/decisions/0017-stripe-client-and-catalogue.md`.

mod accounts;
mod accounts_v1;
mod bucket;
mod catalogue;
mod checkout;
mod client;
mod error;
mod events;
mod form;
mod meters;
mod retry;
mod rights;
mod secret;
mod subscriptions;
mod suspects;

pub use accounts::{
    AccountLink, AccountRequest, OauthToken, OwnAccount, StripeAccountObject, account_configuration,
};
pub use bucket::BucketLimit;
pub use catalogue::{
    ListOf, Price, PriceQuery, PriceRecurring, PriceRequest, PriceUpdate, Product, ProductRequest,
    ProductUpdate, Recurring, TransformQuantity,
};
pub use checkout::{
    AutomaticTax, CheckoutSession, Customer, CustomerDetails, CustomerRequest, CustomerUpdate,
    LineItem, PortalFlow, PortalRequest, PortalSession, SessionRequest, SubscriptionData, TrialEnd,
    TrialSettings,
};
pub use client::{Addresses, Scope, Stripe, StripeSettings};
pub use error::{Refusal, StripeError};
pub use events::{
    Charge, Created, Dispute, Event, EventData, EventQuery, InvoicePayment, InvoicePaymentOf,
    PaymentQuery, Refund,
};
pub use form::{Body, form};
pub use meters::{
    Aggregation, CustomerMapping, EventSummary, Meter, MeterEvent, MeterEventRequest,
    MeterReactivation, MeterRequest, SummaryQuery, ValueSettings,
};
pub use retry::RetryRules;
pub use rights::{Access, RIGHTS, Right, WebhookEndpoint};
pub use secret::{KeyError, SecretKey, SecretKeys};
pub use subscriptions::{
    Anchor, Cancellation, Invoice, InvoiceLine, InvoiceQuery, ItemChange, PauseCollection,
    PendingUpdate, PreviewDetails, PreviewRequest, Subscription, SubscriptionItem,
    SubscriptionQuery, SubscriptionUpdate,
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use crate::storage::{StorageError, StorageResult};

/// The version of the API that every request and every webhook endpoint asks for.
pub const VERSION: &str = "2026-10-28.endive";

/// Which of Stripe's two worlds.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No money moves.
    Test,
    /// Money moves.
    #[default]
    Live,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Test, Self::Live];

    /// Its word, as rows have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }

    /// From its word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }

    /// From the word in a row.
    ///
    /// # Errors
    /// When it is neither: a damaged row is taken for no mode, least of all for the one in which money moves.
    pub fn stored(word: &str) -> StorageResult<Self> {
        Self::of(word).ok_or_else(|| StorageError::Broken(format!("{word:?} is no mode of Stripe")))
    }

    /// From `livemode`.
    #[must_use]
    pub const fn of_livemode(is_live: bool) -> Self {
        if is_live { Self::Live } else { Self::Test }
    }

    /// Whether it is live.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Live)
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An id where Stripe gives either the id or the whole object.
fn id_of<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Option::<Json>::deserialize(deserializer)?;
    Ok(value.and_then(|value| match value {
        Json::String(id) => Some(id),
        Json::Object(object) => object.get("id").and_then(Json::as_str).map(ToOwned::to_owned),
        _ => None,
    }))
}

#[cfg(test)]
#[path = "stripe/client_tests.rs"]
mod client_tests;
#[cfg(test)]
#[path = "stripe/log_tests.rs"]
mod log_tests;
#[cfg(test)]
#[path = "stripe/scripted_tests.rs"]
pub(crate) mod scripted;
