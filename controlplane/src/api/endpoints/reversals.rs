//! Money that went back, as the ledger has it: what its endpoints share.
//!
//! In: rows. Out: views.
//! Always holds: one entry a charge that was refunded, as far as it was, and one a dispute, each as Stripe said last; nothing is made or
//! changed here.

pub mod list;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::time::{shown, shown_opt};
use crate::billing::money;
use crate::billing::stripe::Mode;
use crate::storage::StripeReversal;

/// How money went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReversalKind {
    /// It was given back.
    Refund,
    /// The buyer's bank asks for it back, or asks about it.
    Dispute,
}

impl ReversalKind {
    /// Its word, as storage has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::Dispute => "dispute",
        }
    }
}

/// Money that went back, as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReversalView {
    /// Its id here.
    id: String,
    /// `refund` or `dispute`.
    kind: String,
    /// Test or live.
    mode: Mode,
    /// Of a refund `partial`, `full`, or `none` where it failed; of a dispute Stripe's own word.
    #[schema(example = "needs_response")]
    status: String,
    /// In the currency's smallest unit.
    amount: i64,
    /// Three letters.
    currency: String,
    /// The same for people.
    amount_shown: String,
    /// The subscription that was paid for.
    subscription_id: Option<String>,
    /// Its id at Stripe: the charge's of a refund, the dispute's.
    stripe_id: String,
    /// The charge.
    charge_id: Option<String>,
    /// The invoice that was paid by it.
    invoice_id: Option<String>,
    /// When the dispute began.
    #[schema(format = DateTime)]
    opened_at: Option<String>,
    /// When an invoice was seen to be paid since the dispute began, after which it holds nothing any more.
    #[schema(format = DateTime)]
    repaid_at: Option<String>,
    /// Grows with every change.
    version: i64,
    /// When it was written down first.
    created_at: String,
    /// When it was changed last.
    updated_at: String,
}

/// Money that went back, as it is shown.
#[must_use]
pub fn view_of(row: &StripeReversal) -> ReversalView {
    ReversalView {
        id: row.id.clone(),
        kind: row.kind.clone(),
        mode: Mode::of(&row.mode).unwrap_or_default(),
        status: row.status.clone(),
        amount: row.amount,
        amount_shown: money::shown(row.amount, &row.currency),
        currency: row.currency.clone(),
        subscription_id: row.subscription_id.clone(),
        stripe_id: row.stripe_id.clone(),
        charge_id: row.charge_id.clone(),
        invoice_id: row.invoice_id.clone(),
        opened_at: shown_opt(row.opened_at_s.map(|at_s| at_s.saturating_mul(1_000))),
        repaid_at: shown_opt(row.repaid_at_ms),
        version: row.version,
        created_at: shown(row.created_at_ms),
        updated_at: shown(row.updated_at_ms),
    }
}
