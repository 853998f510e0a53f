//! Checkout sessions, customers, sessions of the customer portal.
//!
//! In: requests. Out: objects as far as we use them.
//! Always holds: what is paid is judged by `payment_status`, never by `status` alone ([`CheckoutSession::is_paid`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::client::{Call, Scope, Stripe, segment};
use super::{StripeError, id_of};

/// What is bought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LineItem {
    /// The price.
    pub price: String,
    /// How many; left out for what is metered.
    pub quantity: Option<u32>,
}

/// What ends a trial that has no means of payment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrialEnd {
    /// `cancel`, `create_invoice`, `pause`.
    pub missing_payment_method: String,
}

/// How a trial ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrialSettings {
    /// What ends it.
    pub end_behavior: TrialEnd,
}

/// Of the subscription that a session makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SubscriptionData {
    /// What the platform takes, percent, 0 to 100 with at most two digits after the point.
    pub application_fee_percent: Option<f64>,
    /// Days before the first payment.
    pub trial_period_days: Option<u32>,
    /// How a trial ends.
    pub trial_settings: Option<TrialSettings>,
    /// Ours, found in the subscription again.
    pub metadata: BTreeMap<String, String>,
}

/// Whether Stripe computes taxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AutomaticTax {
    /// Whether it does.
    pub enabled: bool,
}

/// What of a known customer is written over with what the buyer enters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CustomerUpdate {
    /// `auto`, `never`: their address, which taxes depend on.
    pub address: Option<String>,
    /// `auto`, `never`: their name.
    pub name: Option<String>,
}

/// `POST /v1/checkout/sessions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SessionRequest {
    /// `subscription`.
    pub mode: String,
    /// `hosted_page`, Stripe's default.
    pub ui_mode: Option<String>,
    /// What is bought.
    pub line_items: Vec<LineItem>,
    /// Of the subscription that is made.
    pub subscription_data: Option<SubscriptionData>,
    /// A customer who is known; otherwise Stripe makes one.
    pub customer: Option<String>,
    /// Fills the form in for one who is not.
    pub customer_email: Option<String>,
    /// What of a known customer changes; not for one who is not known.
    pub customer_update: Option<CustomerUpdate>,
    /// Ours.
    pub client_reference_id: Option<String>,
    /// Ours.
    pub metadata: BTreeMap<String, String>,
    /// Whether the buyer may enter a code.
    pub allow_promotion_codes: Option<bool>,
    /// Whether Stripe computes taxes.
    pub automatic_tax: Option<AutomaticTax>,
    /// `always`, or `if_required`.
    pub payment_method_collection: Option<String>,
    /// Where the buyer comes afterwards; `{CHECKOUT_SESSION_ID}` in it is filled in.
    pub success_url: String,
    /// Where one who turns back comes.
    pub cancel_url: Option<String>,
    /// Until when it can be paid, Unix seconds, half an hour to a day from now.
    pub expires_at: Option<i64>,
    /// The language.
    pub locale: Option<String>,
}

/// What the buyer entered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerDetails {
    /// Their address.
    #[serde(default)]
    pub email: Option<String>,
    /// Their name.
    #[serde(default)]
    pub name: Option<String>,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutSession {
    /// `cs_…`.
    pub id: String,
    /// Where it is paid; none once it is over.
    #[serde(default)]
    pub url: Option<String>,
    /// `open`, `complete`, `expired`.
    #[serde(default)]
    pub status: Option<String>,
    /// `paid`, `unpaid`, `no_payment_required`.
    #[serde(default)]
    pub payment_status: Option<String>,
    /// The customer.
    #[serde(default, deserialize_with = "id_of")]
    pub customer: Option<String>,
    /// The subscription that was made.
    #[serde(default, deserialize_with = "id_of")]
    pub subscription: Option<String>,
    /// Its first invoice.
    #[serde(default, deserialize_with = "id_of")]
    pub invoice: Option<String>,
    /// Ours.
    #[serde(default)]
    pub client_reference_id: Option<String>,
    /// Ours.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Unix seconds.
    #[serde(default)]
    pub expires_at: Option<i64>,
    /// What the buyer entered.
    #[serde(default)]
    pub customer_details: Option<CustomerDetails>,
    /// In the smallest unit.
    #[serde(default)]
    pub amount_total: Option<i64>,
    /// Three letters, lower case.
    #[serde(default)]
    pub currency: Option<String>,
    /// Which world.
    #[serde(default)]
    pub livemode: bool,
}

impl CheckoutSession {
    /// Whether what it sells is to be given.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.status.as_deref() == Some("complete")
            && matches!(self.payment_status.as_deref(), Some("paid" | "no_payment_required"))
    }
}

/// `POST /v1/customers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CustomerRequest {
    /// Their address.
    pub email: Option<String>,
    /// Their name.
    pub name: Option<String>,
    /// Ours.
    pub metadata: BTreeMap<String, String>,
}

/// A customer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// `cus_…`.
    pub id: String,
    /// Their address.
    #[serde(default)]
    pub email: Option<String>,
    /// Their name.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether they were deleted.
    #[serde(default)]
    pub deleted: bool,
    /// Ours.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// What the portal opens with.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PortalFlow {
    /// `payment_method_update`, `subscription_cancel`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// What that flow needs, under its own name.
    pub subscription_cancel: Option<Json>,
}

/// `POST /v1/billing_portal/sessions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PortalRequest {
    /// Whose portal.
    pub customer: String,
    /// Where they come back to.
    pub return_url: Option<String>,
    /// What it opens with.
    pub flow_data: Option<PortalFlow>,
}

/// A way into the portal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalSession {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub url: String,
}

impl Stripe {
    /// Makes a session.
    ///
    /// # Errors
    /// As Stripe says; so for all below.
    pub async fn create_session(
        &self,
        scope: &Scope,
        request: &SessionRequest,
        key: &str,
    ) -> Result<CheckoutSession, StripeError> {
        self.send(scope, Call::post("/v1/checkout/sessions", request, key)?).await
    }

    /// A session as it now is.
    pub async fn session(&self, scope: &Scope, id: &str) -> Result<CheckoutSession, StripeError> {
        self.send(scope, Call::get(format!("/v1/checkout/sessions/{}", segment(id)?))).await
    }

    /// Makes a customer.
    pub async fn create_customer(
        &self,
        scope: &Scope,
        request: &CustomerRequest,
        key: &str,
    ) -> Result<Customer, StripeError> {
        self.send(scope, Call::post("/v1/customers", request, key)?).await
    }

    /// A customer as they now are.
    pub async fn customer(&self, scope: &Scope, id: &str) -> Result<Customer, StripeError> {
        self.send(scope, Call::get(format!("/v1/customers/{}", segment(id)?))).await
    }

    /// Makes a way into the customer portal.
    pub async fn create_portal_session(
        &self,
        scope: &Scope,
        request: &PortalRequest,
        key: &str,
    ) -> Result<PortalSession, StripeError> {
        self.send(scope, Call::post("/v1/billing_portal/sessions", request, key)?).await
    }
}
