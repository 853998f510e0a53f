//! Events, and what refunds and disputes are found by.
//!
//! In: queries. Out: objects as far as we use them.
//! Always holds: of an event's object only what names it is read: an event is a hint, the object is fetched.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::catalogue::ListOf;
use super::client::{Call, Scope, Stripe, segment};
use super::{StripeError, id_of};

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventData {
    /// The object as it was then.
    #[serde(default)]
    pub object: Json,
}

/// An event's envelope.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `evt_…`.
    pub id: String,
    /// `customer.subscription.updated`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose; none for the platform's own.
    #[serde(default)]
    pub account: Option<String>,
    /// Which world.
    #[serde(default)]
    pub livemode: bool,
    /// Unix seconds.
    #[serde(default)]
    pub created: i64,
    /// What it is about.
    #[serde(default)]
    pub data: EventData,
}

impl Event {
    /// The id of what it is about.
    #[must_use]
    pub fn object_id(&self) -> Option<&str> {
        self.data.object.get("id")?.as_str()
    }
}

/// A bound of times, Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Created {
    /// From then on.
    pub gte: Option<i64>,
    /// Until then.
    pub lte: Option<i64>,
}

/// `GET /v1/events`: newest first, 30 days back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventQuery {
    /// 20 at most.
    pub types: Vec<String>,
    /// When they were made.
    pub created: Option<Created>,
    /// Those that no endpoint took yet, or those that all took.
    pub delivery_success: Option<bool>,
    /// 100 at most.
    pub limit: Option<u32>,
    /// The id to go on after (to older ones).
    pub starting_after: Option<String>,
    /// The id to go on before (to newer ones).
    pub ending_before: Option<String>,
}

/// Which payment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PaymentQuery {
    /// `payment_intent`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `pi_…`.
    pub payment_intent: Option<String>,
}

#[derive(Serialize)]
struct InvoicePaymentQuery<'a> {
    payment: &'a PaymentQuery,
    limit: u32,
}

/// What a payment of an invoice was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoicePaymentOf {
    /// `payment_intent`, `charge`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// `pi_…`.
    #[serde(default, deserialize_with = "id_of")]
    pub payment_intent: Option<String>,
    /// `ch_…`.
    #[serde(default, deserialize_with = "id_of")]
    pub charge: Option<String>,
}

/// A payment of an invoice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoicePayment {
    /// `inpay_…`.
    pub id: String,
    /// Of which invoice.
    #[serde(default, deserialize_with = "id_of")]
    pub invoice: Option<String>,
    /// In the smallest unit.
    #[serde(default)]
    pub amount_paid: Option<i64>,
    /// `open`, `paid`, `canceled`.
    #[serde(default)]
    pub status: Option<String>,
    /// What it was made with.
    #[serde(default)]
    pub payment: InvoicePaymentOf,
}

/// Money given back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// `re_…`.
    pub id: String,
    /// In the smallest unit.
    #[serde(default)]
    pub amount: i64,
    /// Three letters, lower case.
    #[serde(default)]
    pub currency: String,
    /// `pending`, `succeeded`, `failed`, `canceled`, `requires_action`.
    #[serde(default)]
    pub status: Option<String>,
    /// Of what.
    #[serde(default, deserialize_with = "id_of")]
    pub charge: Option<String>,
    /// Of what.
    #[serde(default, deserialize_with = "id_of")]
    pub payment_intent: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Money taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// `ch_…`.
    pub id: String,
    /// In the smallest unit; so the one below.
    #[serde(default)]
    pub amount: i64,
    /// What was given back of it.
    #[serde(default)]
    pub amount_refunded: i64,
    /// Whether all was.
    #[serde(default)]
    pub refunded: bool,
    /// Whether it is or was disputed.
    #[serde(default)]
    pub disputed: bool,
    /// Three letters, lower case.
    #[serde(default)]
    pub currency: String,
    /// Through what.
    #[serde(default, deserialize_with = "id_of")]
    pub payment_intent: Option<String>,
    /// Whose.
    #[serde(default, deserialize_with = "id_of")]
    pub customer: Option<String>,
}

/// A charge that its payer disputes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// `du_…`.
    pub id: String,
    /// In the smallest unit.
    #[serde(default)]
    pub amount: i64,
    /// Three letters, lower case.
    #[serde(default)]
    pub currency: String,
    /// `needs_response`, `under_review`, `won`, `lost`, `warning_…`, `prevented`.
    #[serde(default)]
    pub status: String,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// Unix seconds.
    #[serde(default)]
    pub created: i64,
    /// Of what.
    #[serde(default, deserialize_with = "id_of")]
    pub charge: Option<String>,
    /// Of what.
    #[serde(default, deserialize_with = "id_of")]
    pub payment_intent: Option<String>,
}

impl Stripe {
    /// Events.
    ///
    /// # Errors
    /// As Stripe says; so for all below.
    pub async fn events(
        &self,
        scope: &Scope,
        query: &EventQuery,
    ) -> Result<ListOf<Event>, StripeError> {
        self.send(scope, Call::list("/v1/events", query)?).await
    }

    /// Payments of invoices that were made through a payment intent.
    pub async fn invoice_payments(
        &self,
        scope: &Scope,
        payment_intent: &str,
    ) -> Result<ListOf<InvoicePayment>, StripeError> {
        let payment = PaymentQuery {
            kind: "payment_intent".to_owned(),
            payment_intent: Some(payment_intent.to_owned()),
        };
        let query = InvoicePaymentQuery { payment: &payment, limit: 100 };
        self.send(scope, Call::list("/v1/invoice_payments", &query)?).await
    }

    /// A refund as it now is.
    pub async fn refund(&self, scope: &Scope, id: &str) -> Result<Refund, StripeError> {
        self.send(scope, Call::get(format!("/v1/refunds/{}", segment(id)?))).await
    }

    /// A charge as it now is.
    pub async fn charge(&self, scope: &Scope, id: &str) -> Result<Charge, StripeError> {
        self.send(scope, Call::get(format!("/v1/charges/{}", segment(id)?))).await
    }

    /// A dispute as it now is.
    pub async fn dispute(&self, scope: &Scope, id: &str) -> Result<Dispute, StripeError> {
        self.send(scope, Call::get(format!("/v1/disputes/{}", segment(id)?))).await
    }
}
