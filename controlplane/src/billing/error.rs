//! Why something of billing was not done.
//!
//! In: errors of storage, of Stripe, our own. Out: [`BillingError`], and problems of the API.
//! Always holds: whoever can do something about it is told what; a call that may have been done is told apart from one that was
//! refused, since the first goes on by itself when it is sent again.

use http::StatusCode;

use super::calls::CallError;
use super::settle::SettleError;
use super::stripe::{Mode, StripeError};
use crate::api::problem::Problem;
use crate::storage::StorageError;

/// After how long a call that found Stripe away is sent again, seconds.
pub const RETRY_AFTER_S: u64 = 5;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum BillingError {
    /// The control plane has no keys, or no address for buyers.
    #[error("billing is not set up: {0}")]
    NotSetUp(&'static str),
    /// The account has no Stripe account of this mode.
    #[error("no Stripe account is connected in {0} mode; connect one with POST /v1/stripe/account")]
    NotConnected(Mode),
    /// Not as things are.
    #[error("{0}")]
    Conflict(String),
    /// What it costs was not paid.
    #[error("{0}")]
    PaymentRefused(String),
    /// Too much was asked for at once.
    #[error("{text}")]
    TooMany {
        /// What of.
        text: String,
        /// When it may be asked for again, seconds.
        retry_after_s: u64,
    },
    /// Not now, and later the same may be done.
    #[error("{text}")]
    NotNow {
        /// What it waits for.
        text: String,
        /// When it may be asked for again, seconds.
        retry_after_s: u64,
    },
    /// There is none.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// A field is wrong.
    #[error("{0}: {1}")]
    Field(&'static str, String),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Stripe.
    #[error(transparent)]
    Stripe(#[from] StripeError),
    /// A row or an answer that cannot be read.
    #[error("{0}")]
    Broken(String),
}

/// What billing returns.
pub type BillingResult<T> = Result<T, BillingError>;

impl From<CallError> for BillingError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Storage(error) => Self::Storage(error),
            CallError::Stripe(error) => Self::Stripe(error),
            CallError::Changed(purpose) => {
                Self::Broken(format!("the call `{purpose}` was begun with other parameters"))
            }
        }
    }
}

impl From<SettleError> for BillingError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Storage(error) => Self::Storage(error),
            SettleError::Stripe(error) => Self::Stripe(error),
            SettleError::Busy | SettleError::TooEarly | SettleError::Untold(_) => {
                Self::NotNow { text: error.to_string(), retry_after_s: RETRY_AFTER_S }
            }
            SettleError::Permanent(text) => Self::Broken(text),
        }
    }
}

impl BillingError {
    /// A row that cannot be read.
    pub fn damaged(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }

    /// Whether the same may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NotNow { .. } => true,
            Self::Stripe(error) => error.is_temporary(),
            Self::Storage(error) => {
                matches!(error, StorageError::Unavailable(_) | StorageError::Stale)
            }
            _ => false,
        }
    }
}

impl From<BillingError> for Problem {
    fn from(error: BillingError) -> Self {
        match error {
            BillingError::NotSetUp(_) | BillingError::Stripe(StripeError::NotSetUp(_)) => {
                Self::new(StatusCode::CONFLICT, "billing_not_set_up", error.to_string())
            }
            BillingError::NotConnected(_) => {
                Self::new(StatusCode::CONFLICT, "stripe_not_connected", error.to_string())
            }
            BillingError::Conflict(detail) => Self::conflict(detail),
            BillingError::PaymentRefused(detail) => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "payment_refused", detail)
            }
            BillingError::TooMany { text, retry_after_s } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", text)
                    .retry_after(retry_after_s)
            }
            BillingError::NotNow { text, retry_after_s } => {
                tracing::info!(text, "a request has to come again");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
                    .retry_after(retry_after_s)
            }
            BillingError::NotFound(what) => Self::not_found(what),
            BillingError::Field(field, message) => Self::field(field, message),
            BillingError::Storage(error) => error.into(),
            BillingError::Stripe(error) if error.is_temporary() => {
                tracing::warn!(%error, "a request found Stripe away");
                let detail = "Stripe cannot be asked now; send the request again, with the same Idempotency-Key if it has one";
                let wait_s = error.retry_after_s().unwrap_or_default().max(RETRY_AFTER_S);
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "stripe_unavailable", detail)
                    .retry_after(wait_s)
            }
            // What Stripe says of the key is for whoever runs the control plane, and not for its tenants; OAuth's 401 is about a client id.
            BillingError::Stripe(StripeError::Refused(refusal))
                if refusal.status == 401 && refusal.kind != "oauth_error" =>
            {
                tracing::error!(
                    message = refusal.message,
                    "Stripe does not take the control plane's key"
                );
                let detail = "Stripe does not take the control plane's key; whoever runs it is to give it another one (`payfence doctor`)";
                Self::new(StatusCode::CONFLICT, "billing_not_set_up", detail)
            }
            BillingError::Stripe(StripeError::Refused(refusal)) => Self::new(
                StatusCode::CONFLICT,
                "stripe_refused",
                format!("Stripe: {}", refusal.message),
            ),
            BillingError::Stripe(error) => StorageError::Broken(error.to_string()).into(),
            BillingError::Broken(text) => StorageError::Broken(text).into(),
        }
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
