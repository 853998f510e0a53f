//! Events: what kinds there are, and what each says.
//!
//! In: rows as they are after a change. Out: an [`Event`], plain data.
//! Always holds: what is said of a row is what REST says of it, less what is secret; amounts are integers in minor
//! units with their currency; times are RFC 3339.

use serde_json::{Map, Value as Json, json};

use crate::api::endpoints::subscriptions::view::plain_view_of;
use crate::api::time::{shown, shown_opt};
use crate::storage::{Plan, Subscription, Token};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $word:literal,)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EventKind {
            $($(#[$doc])* $name,)*
        }

        impl EventKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

kinds! {
    /// A subscription was made.
    SubscriptionCreated "subscription.created",
    /// Its plan, status or period changed.
    SubscriptionUpdated "subscription.updated",
    /// It gives nothing any more.
    SubscriptionEnded "subscription.ended",
    /// 80 % of the quota of a period are used.
    Quota80 "quota.80_percent",
    /// All of the quota of a period is used.
    Quota100 "quota.100_percent",
    /// A token can be used.
    TokenIssued "token.issued",
    /// A token cannot be used any more.
    TokenRevoked "token.revoked",
    /// A payment did not come through.
    PaymentFailed "payment.failed",
    /// A payment waits for its payer to confirm it.
    PaymentActionRequired "payment.action_required",
    /// A trial ends in a few days.
    TrialEnding "trial.ending",
    /// A buyer may fetch the key that was paid for.
    KeyReady "key.ready",
    /// Somebody asked for a free plan's key with an address.
    KeyRequested "key.requested",
    /// A webhook endpoint is told nothing any more.
    EndpointDisabled "webhook_endpoint.disabled",
}

impl EventKind {
    /// From its word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == word)
    }

    /// The mail to the subscription's customer that goes with it.
    #[must_use]
    pub(super) const fn template(self) -> Option<&'static str> {
        match self {
            Self::Quota80 => Some("quota_80"),
            Self::Quota100 => Some("quota_100"),
            Self::PaymentFailed => Some("payment_failed"),
            Self::PaymentActionRequired => Some("payment_action_required"),
            Self::TrialEnding => Some("trial_ending"),
            Self::KeyReady => Some("key_link"),
            _ => None,
        }
    }

    /// Whether webhook endpoints are told of it. A claim is its buyer's alone, and of a request anybody may be the author.
    #[must_use]
    pub const fn is_sent(self) -> bool {
        !matches!(self, Self::KeyReady | Self::KeyRequested)
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// To which subscription, where to one.
    pub subscription_id: Option<String>,
    /// What is said of it: an object.
    pub data: Json,
}

/// What is said of an invoice of the payment provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invoice {
    /// Its id there.
    pub id: String,
    /// What is due, in minor units.
    pub amount_minor: i64,
    /// Of this currency, three letters in lower case.
    pub currency: String,
    /// Where its payer can pay it.
    pub hosted_invoice_url: Option<String>,
    /// When it is tried again, Unix milliseconds.
    pub next_attempt_at_ms: Option<i64>,
}

impl Invoice {
    fn facts(&self) -> Json {
        json!({
            "id": self.id,
            "amount": self.amount_minor,
            "currency": self.currency,
            "hosted_invoice_url": self.hosted_invoice_url,
            "next_attempt_at": shown_opt(self.next_attempt_at_ms),
        })
    }
}

impl Event {
    /// What is to be told of a change of a subscription's row; none where nothing changed that concerns others.
    #[must_use]
    pub fn of_subscription(before: Option<&Subscription>, after: &Subscription) -> Option<Self> {
        let kind = match before {
            None => EventKind::SubscriptionCreated,
            Some(before) if is_over(after) => {
                if is_over(before) {
                    return None;
                }
                EventKind::SubscriptionEnded
            }
            Some(before) if terms(before) == terms(after) => return None,
            Some(_) => EventKind::SubscriptionUpdated,
        };
        Some(Self::about(kind, after, Map::new()))
    }

    /// A token that can be used from now on. It may be a second one in place of `rotated_from`.
    #[must_use]
    pub fn token_issued(token: &Token, rotated_from: Option<&str>) -> Self {
        let mut event = Self::token(EventKind::TokenIssued, token);
        if let Some(data) = event.data.as_object_mut() {
            data.insert("rotated_from".to_owned(), rotated_from.into());
        }
        event
    }

    /// A token that cannot be used any more.
    #[must_use]
    pub fn token_revoked(token: &Token) -> Self {
        Self::token(EventKind::TokenRevoked, token)
    }

    fn token(kind: EventKind, token: &Token) -> Self {
        let data = json!({ "token": {
            "id": token.id,
            "site_id": token.site_id,
            "subscription_id": token.subscription_id,
            "reference": token.reference,
            "prefix": token.prefix,
            "last_four": token.last_four,
            "label": token.label,
            "expires_at": shown_opt(token.expires_at_ms),
            "revoked_at": shown_opt(token.revoked_at_ms),
        }});
        Self { kind, subscription_id: Some(token.subscription_id.clone()), data }
    }

    /// A payment that did not come through.
    #[must_use]
    pub fn payment_failed(subscription: &Subscription, invoice: &Invoice) -> Self {
        let more = object([("invoice", invoice.facts())]);
        Self::about(EventKind::PaymentFailed, subscription, more)
    }

    /// A payment that its payer has to confirm.
    #[must_use]
    pub fn payment_action_required(subscription: &Subscription, invoice: &Invoice) -> Self {
        let more = object([("invoice", invoice.facts())]);
        Self::about(EventKind::PaymentActionRequired, subscription, more)
    }

    /// A trial that ends at a time, Unix milliseconds.
    #[must_use]
    pub fn trial_ending(subscription: &Subscription, ends_at_ms: i64) -> Self {
        let more = object([("trial_ends_at", shown(ends_at_ms).into())]);
        Self::about(EventKind::TrialEnding, subscription, more)
    }

    /// A claim that a buyer may redeem. The link's secret is made when the mail is sent, so it is nowhere kept.
    #[must_use]
    pub fn key_ready(subscription: &Subscription, claim_id: &str) -> Self {
        let more = object([("claim_id", claim_id.into())]);
        Self::about(EventKind::KeyReady, subscription, more)
    }

    /// A request for a free plan's key. Its address is the mail's alone.
    #[must_use]
    pub fn key_requested(plan: &Plan) -> Self {
        let data = json!({ "requested": { "site_id": plan.site_id, "plan_id": plan.id } });
        Self { kind: EventKind::KeyRequested, subscription_id: None, data }
    }

    /// Something of a subscription, with what else is said.
    #[must_use]
    pub(super) fn about(kind: EventKind, row: &Subscription, more: Map<String, Json>) -> Self {
        let mut data = more;
        let view = plain_view_of(row);
        data.insert("subscription".to_owned(), view);
        Self { kind, subscription_id: Some(row.id.clone()), data: Json::Object(data) }
    }
}

/// Fields by name.
pub(super) fn object<const N: usize>(fields: [(&str, Json); N]) -> Map<String, Json> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether a subscription gives nothing any more, for good.
fn is_over(row: &Subscription) -> bool {
    row.archived_at_ms.is_some()
        || matches!(row.status.as_str(), "canceled" | "unpaid" | "incomplete_expired")
}

/// What others are told changes of.
fn terms(row: &Subscription) -> (&str, &str, Option<i64>, Option<i64>) {
    (&row.plan_id, &row.status, row.past_due_since_ms, row.period_anchor_ms)
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
