//! The rows of what Stripe told as types, through the same macro as all others.
//!
//! In: what the database holds. Out: plain structs.
//! Always holds: of an event only its envelope is kept, never its body; each row carries its mode, `test` or `live`. Times are
//! Unix milliseconds but for those that Stripe gave, which are seconds.

use sea_orm::ActiveModelBehavior;
use serde_json::Value as Json;

use super::rows::{Columns, Stamp, TenantRow, rows, unfold};

rows! {
    /// An event of Stripe's: a hint that something should be asked for again.
    stripe_event StripeEvent "stripe_events" "sevt" {
        mode: String,
        stripe_account: String,
        event_id: String,
        kind: String,
        livemode: bool,
        event_at_s: i64,
        object_id: Option<String>,
        object_kind: Option<String>,
        subject: Option<String>,
        state: String,
        attempts: i64,
        due_at_ms: i64,
        error: Option<String>,
        settled_at_ms: Option<i64>,
    }
    /// Money that went back: a refund or a dispute, as it was when last fetched.
    stripe_reversal StripeReversal "stripe_reversals" "rev" {
        mode: String,
        stripe_id: String,
        kind: String,
        status: String,
        amount: i64,
        currency: String,
        charge_id: Option<String>,
        invoice_id: Option<String>,
        subscription_id: Option<String>,
        opened_at_s: Option<i64>,
        repaid_at_ms: Option<i64>,
    }
    /// How far a connected account was compared with what is known here.
    stripe_sweep StripeSweep "stripe_sweeps" "swp" {
        mode: String,
        stripe_account: String,
        kind: String,
        cursor: Option<String>,
        covered_until_s: i64,
        began_at_ms: Option<i64>,
        finished_at_ms: Option<i64>,
        asked_at_ms: Option<i64>,
        seen: i64,
        repaired: i64,
        error: Option<String>,
    }
}
