//! What can go wrong with a call to Stripe, sorted by what the caller can do about it.
//!
//! In: answers and failures. Out: [`StripeError`].
//! Always holds: no error holds a key or a request's body.

use serde::Deserialize;

use super::Mode;

/// What Stripe said when it refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: u16,
    /// `invalid_request_error`, `card_error`, `idempotency_error`, …
    pub kind: String,
    /// `resource_missing`, `lock_timeout`, …
    pub code: Option<String>,
    /// The parameter that is wrong.
    pub param: Option<String>,
    /// For a person.
    pub message: String,
    /// What Stripe knows the request by.
    pub request_id: Option<String>,
    /// How long Stripe says to wait (`Retry-After`), seconds.
    pub retry_after_s: Option<u64>,
    /// Whether it is the stored answer to an earlier request with the same idempotency key: trying again with that key
    /// gives it again.
    pub is_replayed: bool,
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StripeError {
    /// There is no key of this mode.
    #[error("Stripe is not set up in {0} mode")]
    NotSetUp(Mode),
    /// Stripe answered with an error.
    #[error("Stripe refused with {}: {}{}", .0.status, .0.message, .0.request_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default())]
    Refused(Box<Refusal>),
    /// The idempotency key was used with other parameters: a fault of ours.
    #[error("the call's idempotency key was used for other parameters before: {}", .0.message)]
    IdempotencyMismatch(Box<Refusal>),
    /// No answer came; whether the call was done is not known.
    #[error("Stripe cannot be reached: {0}")]
    Unreachable(String),
    /// An answer that is none of Stripe's.
    #[error("Stripe's answer with {status} cannot be read: {reason}")]
    Unreadable {
        /// The answer's status.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// The account's rate limit leaves no room soon enough; nothing was sent.
    #[error("too many calls for this account are waiting")]
    Busy,
    /// A request that cannot be written down, or an id that is none.
    #[error("the request cannot be made: {0}")]
    Malformed(String),
}

impl StripeError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Busy => true,
            Self::Refused(refusal) => matches!(refusal.status, 409 | 429) || refusal.status >= 500,
            Self::Unreadable { status, .. } => *status >= 500,
            Self::NotSetUp(_) | Self::IdempotencyMismatch(_) | Self::Malformed(_) => false,
        }
    }

    /// Whether it is not known if the call was done: it may have been.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unreadable { .. } => true,
            Self::Refused(refusal) => refusal.status >= 500,
            _ => false,
        }
    }

    /// How long Stripe said to wait before anything is sent again, seconds.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Refused(refusal) => refusal.retry_after_s,
            _ => None,
        }
    }

    /// Stripe's code.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => refusal.code.as_deref(),
            _ => None,
        }
    }

    /// Whether what was asked for is not there (any more).
    #[must_use]
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                refusal.status == 404 || refusal.code.as_deref() == Some("resource_missing")
            }
            _ => false,
        }
    }

    /// Whether what should be made is there already.
    #[must_use]
    pub fn is_there_already(&self) -> bool {
        self.code() == Some("resource_already_exists")
    }

    /// Whether it is what Stripe keeps for the idempotency key: nothing else comes with that key for a day.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_replayed)
    }

    /// Whether the key may not do this, as where a restricted one lacks the right.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 403)
    }

    /// Whether it is for the key: there is none, Stripe does not know it, or it may not do this. Whoever runs the control plane, or the
    /// owner who lets it act for their account, can mend that, and the same call is done then.
    #[must_use]
    pub fn is_for_the_key(&self) -> bool {
        match self {
            Self::NotSetUp(_) => true,
            Self::Refused(refusal) => matches!(refusal.status, 401 | 403),
            _ => false,
        }
    }

    /// Whether Stripe has not enabled Accounts v2 for the platform. It says so in words of several forms; the code may be left out.
    #[must_use]
    pub fn is_without_v2(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                self.code() == Some("accounts_v2_access_blocked")
                    || refusal.message.starts_with("Accounts v2 is not enabled")
            }
            _ => false,
        }
    }

    /// Whether it is an account that our key may not act for (any more).
    #[must_use]
    pub fn is_not_ours(&self) -> bool {
        self.code() == Some("account_invalid")
    }

    /// Whether the owner's account is not ours to call any more.
    #[must_use]
    pub fn is_access_lost(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                self.is_not_ours() || (refusal.status == 403 && refusal.kind != "rate_limit_error")
            }
            _ => false,
        }
    }
}

/// `{"error": {…}}`, and OAuth's `{"error": "…", "error_description": "…"}`.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: ErrorPart,
    #[serde(default)]
    error_description: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ErrorPart {
    Named(ErrorFields),
    Word(String),
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorFields {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    param: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

impl ErrorBody {
    /// The refusal that this body says, without what the head says.
    pub(super) fn refusal(self) -> Refusal {
        match self.error {
            ErrorPart::Named(fields) => Refusal {
                kind: fields.kind.unwrap_or_default(),
                code: fields.code,
                param: fields.param,
                message: fields.message.unwrap_or_default(),
                ..Refusal::default()
            },
            ErrorPart::Word(word) => Refusal {
                kind: "oauth_error".to_owned(),
                message: self.error_description.unwrap_or_default(),
                code: Some(word),
                ..Refusal::default()
            },
        }
    }
}
