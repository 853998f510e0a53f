//! Connected Stripe accounts: what their endpoints share.
//!
//! In: rows. Out: views.
//! Always holds: whether an account can take payments is what Stripe said last; no key and no token of Stripe's is shown.

pub mod authorize;
pub mod connect;
pub mod disconnect;
pub mod fee;
pub mod get;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::time::{shown, shown_opt};
use crate::billing::connect::AccountSettings;
use crate::billing::stripe::Mode;
use crate::billing::{Billing, connect as accounts};
use crate::storage::StripeAccount;

/// Where a connected account stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StripeAccountStatus {
    /// Stripe waits for its owner.
    Pending,
    /// It takes payments.
    Ready,
    /// Stripe lets it take none.
    Restricted,
    /// It is not connected any more.
    Lost,
}

/// A connected account as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StripeAccountView {
    /// Its id.
    id: String,
    /// Test or live.
    mode: Mode,
    /// Its id at Stripe.
    stripe_id: String,
    /// Where it stands.
    status: StripeAccountStatus,
    /// What Stripe waits for, in its words.
    awaited: Vec<String>,
    /// What the platform takes of each payment, percent.
    fee_percent: String,
    /// Since when it is not connected any more.
    lost_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was connected.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
    /// Where its owner sets it up: a page of Stripe's that can be used once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    onboarding_url: Option<String>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ModeQuery {
    /// `live` where it is left out.
    #[param(inline)]
    pub mode: Mode,
}

/// An account as it is shown.
#[must_use]
pub fn view_of(row: &StripeAccount, billing: &Billing, url: Option<String>) -> StripeAccountView {
    let status = match row.status.as_str() {
        "ready" => StripeAccountStatus::Ready,
        "restricted" => StripeAccountStatus::Restricted,
        "lost" => StripeAccountStatus::Lost,
        _ => StripeAccountStatus::Pending,
    };
    StripeAccountView {
        id: row.id.clone(),
        mode: Mode::of(&row.mode).unwrap_or_default(),
        stripe_id: row.stripe_id.clone(),
        status,
        awaited: AccountSettings::of(row).awaited,
        fee_percent: accounts::fee(billing, row, "").to_string(),
        lost_at: shown_opt(row.lost_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
        onboarding_url: url,
    }
}
