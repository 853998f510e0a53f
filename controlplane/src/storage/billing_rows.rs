//! The rows of billing as types, through the same macro as all others.
//!
//! In: what the database holds. Out: plain structs.
//! Always holds: each row that names something of Stripe carries its mode, `test` or `live`, and, where that may be replaced by
//! another, the connected account that has it; what opens a claim is kept as a hash and left out of the audit log, as is the page on
//! which an invoice is paid. Times are Unix milliseconds, `settings`, `terms`, `drift`, `facts` and `unpaid_invoice` are JSON text.

use sea_orm::ActiveModelBehavior;
use serde_json::Value as Json;

use super::rows::{Columns, Stamp, TenantRow, rows, unfold};

rows! {
    /// An account of Stripe that the owner of an account connected.
    stripe_account StripeAccount "stripe_accounts" "sacct" {
        mode: String,
        stripe_id: String,
        status: String,
        settings: String,
        lost_at_ms: Option<i64>,
    }
    /// What a plan is in Stripe; a changed price is another row.
    plan_price PlanPrice "plan_prices" "price" {
        site_id: String,
        plan_id: String,
        mode: String,
        stripe_account: String,
        product_id: String,
        price_id: Option<String>,
        metered_price_id: Option<String>,
        meter_id: Option<String>,
        meter_event_name: Option<String>,
        terms: String,
        drift: Option<String>,
        retired_at_ms: Option<i64>,
    }
    /// A customer as Stripe knows them.
    stripe_customer StripeCustomer "stripe_customers" "scus" {
        customer_id: String,
        mode: String,
        stripe_account: String,
        stripe_id: String,
        email: Option<String>,
    }
    /// A subscription as Stripe said it was when last asked.
    stripe_subscription StripeSubscription "stripe_subscriptions" "ssub" {
        subscription_id: String,
        mode: String,
        stripe_account: String,
        stripe_id: String,
        stripe_status: String,
        item_id: Option<String>,
        price_id: Option<String>,
        metered_item_id: Option<String>,
        period_start_ms: Option<i64>,
        period_end_ms: Option<i64>,
        cancel_at_ms: Option<i64>,
        pending_plan_id: Option<String>,
        upgrade_plan_id: Option<String>,
        upgrade_until_ms: Option<i64>,
        #[serde(skip)]
        unpaid_invoice: Option<String>,
        mailed_attempt: Option<String>,
        facts: String,
        fetched_at_ms: i64,
    }
    /// A checkout session that was made for a buyer.
    checkout Checkout "checkouts" "chk" {
        site_id: String,
        plan_id: String,
        mode: String,
        session_id: Option<String>,
        status: String,
        settings: String,
        subscription_id: Option<String>,
        expires_at_ms: Option<i64>,
    }
    /// The right to one key, made at payment and redeemed once.
    claim KeyClaim "claims" "claim" {
        subscription_id: String,
        checkout_id: Option<String>,
        #[serde(skip)]
        link_hash: Option<Vec<u8>>,
        session_until_ms: Option<i64>,
        link_until_ms: Option<i64>,
        redeemed_at_ms: Option<i64>,
        token_id: Option<String>,
        #[serde(skip)]
        once_hash: Option<Vec<u8>>,
        shown_at_ms: Option<i64>,
    }
}
