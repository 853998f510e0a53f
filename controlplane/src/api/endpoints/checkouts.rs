//! Checkouts: what their endpoints share.
//!
//! In: rows and drafts. Out: views.
//! Always holds: a session's id is shown to those alone who may write subscriptions, since whoever has it can redeem the key
//! within an hour of the payment.

pub mod create;
pub mod get;
pub mod list;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::gate::Caller;
use crate::api::time::{shown, shown_opt};
use crate::billing::BillingResult;
use crate::billing::checkout::{CheckoutSettings, CheckoutStatus};
use crate::billing::stripe::Mode;
use crate::domain::permission::Area;
use crate::storage::Checkout;

/// What can be said of a checkout.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckoutDraft {
    /// The site.
    pub site_id: String,
    /// A plan of that site, with a price.
    pub plan_id: String,
    /// `live` where it is left out.
    #[serde(default)]
    pub mode: Mode,
    /// A customer who is known; one is made at payment where it is left out.
    pub customer_id: Option<String>,
    /// The buyer's address, to fill in Stripe's form.
    #[schema(max_length = 254, pattern = "^[!-?A-~]+@[!-?A-~]+$")]
    pub email: Option<String>,
    /// Where the buyer comes afterwards, `{CHECKOUT_SESSION_ID}` in it filled in; our own page where it is left out.
    #[schema(max_length = 2000, pattern = "^https?://")]
    pub success_url: Option<String>,
    /// Where a buyer who turns back comes; the pricing page where it is left out.
    #[schema(max_length = 2000, pattern = "^https?://")]
    pub cancel_url: Option<String>,
    /// Whether the buyer may enter a promotion code.
    #[serde(default)]
    pub allow_promotion_codes: bool,
    /// Whether Stripe computes taxes; as the site's `automatic_tax` has it where it is left out. The Stripe account must be set
    /// up for it.
    pub automatic_tax: Option<bool>,
}

/// A checkout as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CheckoutView {
    /// Its id.
    id: String,
    /// The site.
    site_id: String,
    /// The plan.
    plan_id: String,
    /// Test or live.
    mode: Mode,
    /// Where it stands.
    status: CheckoutStatus,
    /// Where it is paid, for those alone who may write subscriptions.
    url: Option<String>,
    /// Stripe's session, for those alone who may write subscriptions.
    session_id: Option<String>,
    /// The subscription that was bought.
    subscription_id: Option<String>,
    /// Until when it can be paid.
    expires_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// A checkout as it is shown to this caller.
pub fn view_of(row: &Checkout, caller: &Caller) -> BillingResult<CheckoutView> {
    let is_writer = caller.may(Area::Subscriptions, true);
    Ok(CheckoutView {
        id: row.id.clone(),
        site_id: row.site_id.clone(),
        plan_id: row.plan_id.clone(),
        mode: Mode::of(&row.mode).unwrap_or_default(),
        status: CheckoutStatus::of(&row.status),
        url: CheckoutSettings::of(row)?.url.filter(|_| is_writer),
        session_id: row.session_id.clone().filter(|_| is_writer),
        subscription_id: row.subscription_id.clone(),
        expires_at: shown_opt(row.expires_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    })
}
