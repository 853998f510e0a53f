//! Subscriptions and invoices.
//!
//! In: requests. Out: objects as far as we use them.
//! Always holds: a period is read from the licensed item ([`Subscription::licensed`]), since subscriptions have none of their
//! own and a metered item's is another's business; a change names the item that it changes, or Stripe would add one.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::catalogue::{ListOf, Price};
use super::client::{Call, Scope, Stripe, segment};
use super::events::Created;
use super::form::form;
use super::{StripeError, id_of};

/// One part of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionItem {
    /// `si_…`.
    pub id: String,
    /// What it costs.
    pub price: Price,
    /// How many; none for what is metered.
    #[serde(default)]
    pub quantity: Option<i64>,
    /// Unix seconds.
    #[serde(default)]
    pub current_period_start: Option<i64>,
    /// Unix seconds.
    #[serde(default)]
    pub current_period_end: Option<i64>,
}

/// That invoices are held back, which leaves the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseCollection {
    /// `keep_as_draft`, `mark_uncollectible`, `void`.
    #[serde(default)]
    pub behavior: Option<String>,
    /// Unix seconds.
    #[serde(default)]
    pub resumes_at: Option<i64>,
}

/// A change that waits until its invoice, the subscription's newest, is paid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PendingUpdate {
    /// Unix seconds; when Stripe gives it up.
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// The parts as they would be.
    #[serde(default)]
    pub subscription_items: Option<Vec<Json>>,
}

impl PendingUpdate {
    /// What the parts would cost: prices, which stand there whole or by their ids.
    pub fn price_ids(&self) -> impl Iterator<Item = &str> {
        let prices = self.subscription_items.iter().flatten().map(|item| &item["price"]);
        prices.filter_map(|price| price.as_str().or_else(|| price["id"].as_str()))
    }
}

/// A subscription.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// `sub_…`.
    pub id: String,
    /// Stripe's word: `active`, `past_due`, …
    pub status: String,
    /// Whose.
    #[serde(default, deserialize_with = "id_of")]
    pub customer: Option<String>,
    /// Its parts.
    #[serde(default)]
    pub items: ListOf<SubscriptionItem>,
    /// Unix seconds; when it will be, or was to be, canceled.
    #[serde(default)]
    pub cancel_at: Option<i64>,
    /// Whether it ends with the period.
    #[serde(default)]
    pub cancel_at_period_end: bool,
    /// Unix seconds; when canceling was asked for.
    #[serde(default)]
    pub canceled_at: Option<i64>,
    /// Unix seconds; when it was over.
    #[serde(default)]
    pub ended_at: Option<i64>,
    /// Unix seconds.
    #[serde(default)]
    pub trial_end: Option<i64>,
    /// Unix seconds; what periods are counted from.
    #[serde(default)]
    pub billing_cycle_anchor: Option<i64>,
    /// Unix seconds.
    #[serde(default)]
    pub created: i64,
    /// Invoices that are held back.
    #[serde(default)]
    pub pause_collection: Option<PauseCollection>,
    /// The newest invoice.
    #[serde(default, deserialize_with = "id_of")]
    pub latest_invoice: Option<String>,
    /// A change that waits for its payment.
    #[serde(default)]
    pub pending_update: Option<PendingUpdate>,
    /// Ours.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Three letters, lower case.
    #[serde(default)]
    pub currency: Option<String>,
    /// Which world.
    #[serde(default)]
    pub livemode: bool,
}

impl Subscription {
    /// The part that is paid in advance, whose period is the subscription's.
    #[must_use]
    pub fn licensed(&self) -> Option<&SubscriptionItem> {
        self.items.data.iter().find(|item| !item.price.is_metered())
    }

    /// The part that overage is paid through.
    #[must_use]
    pub fn metered(&self) -> Option<&SubscriptionItem> {
        self.items.data.iter().find(|item| item.price.is_metered())
    }
}

/// `GET /v1/subscriptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SubscriptionQuery {
    /// A status, or `all`; without, canceled ones are left out.
    pub status: Option<String>,
    /// Of one customer.
    pub customer: Option<String>,
    /// With one price.
    pub price: Option<String>,
    /// Made within these.
    pub created: Option<Created>,
    /// Whose running period began within these.
    pub current_period_start: Option<Created>,
    /// 100 at most.
    pub limit: Option<u32>,
    /// The id to go on after.
    pub starting_after: Option<String>,
}

/// A change of one part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ItemChange {
    /// Which part; left out, one is added.
    pub id: Option<String>,
    /// What it costs from now on.
    pub price: Option<String>,
    /// How many.
    pub quantity: Option<u32>,
    /// Whether it goes.
    pub deleted: Option<bool>,
}

/// When periods begin after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Anchor {
    /// `now`, `unchanged`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `POST /v1/subscriptions/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SubscriptionUpdate {
    /// Changes of parts.
    pub items: Vec<ItemChange>,
    /// `always_invoice`, `create_prorations`, `none`.
    pub proration_behavior: Option<String>,
    /// From when on it is prorated, Unix seconds: what a preview said holds for the same moment.
    pub proration_date: Option<i64>,
    /// `pending_if_incomplete`, `error_if_incomplete`, `allow_incomplete`.
    pub payment_behavior: Option<String>,
    /// When periods begin.
    pub billing_cycle_anchor: Option<Anchor>,
    /// Whether it ends with the period.
    pub cancel_at_period_end: Option<bool>,
    /// Ours.
    pub metadata: BTreeMap<String, String>,
}

/// `DELETE /v1/subscriptions/{id}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cancellation {
    /// Whether what was used is invoiced at once.
    pub invoice_now: Option<bool>,
    /// Whether what was not used is credited.
    pub prorate: Option<bool>,
}

/// What of a subscription a preview changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PreviewDetails {
    /// Changes of parts.
    pub items: Vec<ItemChange>,
    /// As in an update.
    pub proration_behavior: Option<String>,
    /// Unix seconds.
    pub proration_date: Option<i64>,
}

/// `POST /v1/invoices/create_preview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PreviewRequest {
    /// Which subscription.
    pub subscription: String,
    /// How it would be changed.
    pub subscription_details: Option<PreviewDetails>,
}

/// A line of an invoice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// In the smallest unit.
    #[serde(default)]
    pub amount: i64,
    /// For a person.
    #[serde(default)]
    pub description: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub parent: Option<Json>,
}

/// When an invoice became what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceTimes {
    /// Unix seconds.
    #[serde(default)]
    pub paid_at: Option<i64>,
}

/// `GET /v1/invoices`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InvoiceQuery {
    /// Of one subscription.
    pub subscription: Option<String>,
    /// `draft`, `open`, `paid`, `uncollectible`, `void`.
    pub status: Option<String>,
    /// 100 at most.
    pub limit: Option<u32>,
}

/// An invoice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// `in_…`; a preview may have none.
    #[serde(default)]
    pub id: Option<String>,
    /// `draft`, `open`, `paid`, `uncollectible`, `void`.
    #[serde(default)]
    pub status: Option<String>,
    /// `subscription_create`, `subscription_cycle`, `subscription_update`, …
    #[serde(default)]
    pub billing_reason: Option<String>,
    /// Three letters, lower case.
    #[serde(default)]
    pub currency: String,
    /// In the smallest unit; so the ones below.
    #[serde(default)]
    pub amount_due: i64,
    /// What was paid.
    #[serde(default)]
    pub amount_paid: i64,
    /// Before taxes and discounts.
    #[serde(default)]
    pub subtotal: i64,
    /// After them.
    #[serde(default)]
    pub total: i64,
    /// What the buyer had before it: negative is a credit.
    #[serde(default)]
    pub starting_balance: i64,
    /// Whose.
    #[serde(default, deserialize_with = "id_of")]
    pub customer: Option<String>,
    /// Where the buyer can pay it.
    #[serde(default)]
    pub hosted_invoice_url: Option<String>,
    /// How often it was tried to be paid.
    #[serde(default)]
    pub attempt_count: i64,
    /// Unix seconds; when Stripe tries again.
    #[serde(default)]
    pub next_payment_attempt: Option<i64>,
    /// Unix seconds.
    #[serde(default)]
    pub created: i64,
    /// When it was paid.
    #[serde(default)]
    pub status_transitions: InvoiceTimes,
    /// What it is for.
    #[serde(default)]
    pub parent: Option<Json>,
    /// Its lines, the first of them.
    #[serde(default)]
    pub lines: ListOf<InvoiceLine>,
}

impl Invoice {
    /// Which subscription it is for: `parent.subscription_details.subscription`, an id or the whole object.
    #[must_use]
    pub fn subscription(&self) -> Option<&str> {
        let of = self.parent.as_ref()?.pointer("/subscription_details/subscription")?;
        of.as_str().or_else(|| of.get("id")?.as_str())
    }
}

impl Stripe {
    /// A subscription as it now is.
    ///
    /// # Errors
    /// As Stripe says; so for all below.
    pub async fn subscription(&self, scope: &Scope, id: &str) -> Result<Subscription, StripeError> {
        self.send(scope, Call::get(format!("/v1/subscriptions/{}", segment(id)?))).await
    }

    /// Subscriptions.
    pub async fn subscriptions(
        &self,
        scope: &Scope,
        query: &SubscriptionQuery,
    ) -> Result<ListOf<Subscription>, StripeError> {
        self.send(scope, Call::list("/v1/subscriptions", query)?).await
    }

    /// Changes a subscription.
    pub async fn update_subscription(
        &self,
        scope: &Scope,
        id: &str,
        request: &SubscriptionUpdate,
        key: &str,
    ) -> Result<Subscription, StripeError> {
        let path = format!("/v1/subscriptions/{}", segment(id)?);
        self.send(scope, Call::post(path, request, key)?).await
    }

    /// Ends a subscription at once.
    pub async fn cancel_subscription(
        &self,
        scope: &Scope,
        id: &str,
        request: Cancellation,
    ) -> Result<Subscription, StripeError> {
        let query = Some(form(&request)?);
        let path = format!("/v1/subscriptions/{}", segment(id)?);
        self.send(scope, Call { method: Method::DELETE, query, ..Call::get(path) }).await
    }

    /// An invoice as it now is.
    pub async fn invoice(&self, scope: &Scope, id: &str) -> Result<Invoice, StripeError> {
        self.send(scope, Call::get(format!("/v1/invoices/{}", segment(id)?))).await
    }

    /// Invoices, newest first.
    pub async fn invoices(
        &self,
        scope: &Scope,
        query: &InvoiceQuery,
    ) -> Result<ListOf<Invoice>, StripeError> {
        self.send(scope, Call::list("/v1/invoices", query)?).await
    }

    /// Makes an open invoice one that is not to be paid; a change that waits for it is given up with it.
    pub async fn void_invoice(
        &self,
        scope: &Scope,
        id: &str,
        key: &str,
    ) -> Result<Invoice, StripeError> {
        #[derive(Serialize)]
        struct Nothing {}
        let path = format!("/v1/invoices/{}/void", segment(id)?);
        self.send(scope, Call::post(path, &Nothing {}, key)?).await
    }

    /// What a change would cost. It makes nothing, so its key need not be stored.
    pub async fn preview_invoice(
        &self,
        scope: &Scope,
        request: &PreviewRequest,
        key: &str,
    ) -> Result<Invoice, StripeError> {
        self.send(scope, Call::post("/v1/invoices/create_preview", request, key)?).await
    }
}
