//! What can be typed about money.
//!
//! In: the command line. Out: commands and flags of billing.
//! Always holds: no secret is a flag's value; files hold them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use controlplane::billing::Percent;

use super::RestArgs;

/// What to do about money.
#[derive(Debug, Subcommand)]
pub enum BillingCommand {
    /// Make products and prices of plans, and print what becomes of each
    ///
    /// Lines begin with + for what is made, ~ for what gets another price or was mended, - for what can no longer be bought, ! for what was
    /// changed at Stripe by hand and stays so, x for what failed. Exit codes: 0 when it is done (with --dry-run: when all is as the plans
    /// say), 3 with --dry-run when something is otherwise, 1 when something failed (running it again goes on).
    Sync(BillingSyncArgs),
    /// List what Stripe told: when, id, state, type, object, attempts, note
    Events(BillingEventsArgs),
    /// Settle an event again, or all that were given up
    Replay(BillingReplayArgs),
    /// Compare with Stripe now, instead of when it is due
    Sweep(RestArgs),
}

/// Flags of `billing sync`.
#[derive(Debug, Args)]
pub struct BillingSyncArgs {
    /// Print what would be done and change nothing; ends with 3 where there is something
    #[arg(long)]
    pub dry_run: bool,
    /// Make what was changed at Stripe by hand what the plans say again
    #[arg(long, conflicts_with = "dry_run")]
    pub mend: bool,
    /// Stripe's test mode instead of live
    #[arg(long)]
    pub test: bool,
    /// Which control plane, and whose key
    #[command(flatten)]
    pub rest: RestArgs,
}

/// Flags of `billing events`.
#[derive(Debug, Args)]
pub struct BillingEventsArgs {
    /// In this state alone: waiting, done, ignored or dead
    #[arg(long, value_name = "STATE", value_parser = ["waiting", "done", "ignored", "dead"])]
    pub state: Option<String>,
    /// Which control plane, and whose key
    #[command(flatten)]
    pub rest: RestArgs,
}

/// Flags of `billing replay`.
#[derive(Debug, Args)]
pub struct BillingReplayArgs {
    /// The event, by its id here (sevt_…)
    #[arg(required_unless_present = "dead")]
    pub event: Option<String>,
    /// All that were given up
    #[arg(long, conflicts_with = "event")]
    pub dead: bool,
    /// Which control plane, and whose key
    #[command(flatten)]
    pub rest: RestArgs,
}

/// Flags of `controlplane` by which plans are sold through Stripe; without a key nothing is.
#[derive(Clone, Debug, Default, Args)]
pub struct BillingArgs {
    /// A file with the secret key of Stripe's test mode (sk_test_… or rk_test_…)
    #[arg(long, env = "PAYFENCE_STRIPE_SECRET_KEY_FILE", value_name = "FILE")]
    pub stripe_secret_key_file: Option<PathBuf>,
    /// A file with the secret key of Stripe's live mode (sk_live_… or rk_live_…)
    #[arg(long, env = "PAYFENCE_STRIPE_LIVE_SECRET_KEY_FILE", value_name = "FILE")]
    pub stripe_live_secret_key_file: Option<PathBuf>,
    /// What the platform is called by Stripe's OAuth in test mode (ca_…), to connect accounts that exist
    #[arg(long, env = "PAYFENCE_STRIPE_CLIENT_ID", value_name = "ID")]
    pub stripe_client_id: Option<String>,
    /// The same in live mode
    #[arg(long, env = "PAYFENCE_STRIPE_LIVE_CLIENT_ID", value_name = "ID")]
    pub stripe_live_client_id: Option<String>,
    /// Where a stand-in for Stripe is, instead of Stripe; with a key of test mode alone
    #[arg(long, env = "PAYFENCE_STRIPE_BASE_URL", value_name = "URL")]
    pub stripe_base_url: Option<String>,
    /// Where buyers reach this control plane's pages (https://pay.example.com)
    #[arg(long, env = "PAYFENCE_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// What the platform takes of each payment, in percent with at most two digits after the point (default 0)
    #[arg(long, env = "PAYFENCE_PLATFORM_FEE_PERCENT", value_name = "PERCENT")]
    pub platform_fee_percent: Option<Percent>,
}

/// Flags about the secrets of Stripe's webhooks.
#[derive(Clone, Debug, Default, Args)]
pub struct StripeWebhookArgs {
    /// The secrets that Stripe signs webhooks of its test mode with, one whsec_… a line; several while one is rotated out
    #[arg(long, env = "PAYFENCE_STRIPE_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub stripe_webhook_secret_file: Option<PathBuf>,
    /// The same of the live mode
    #[arg(long, env = "PAYFENCE_STRIPE_LIVE_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub stripe_live_webhook_secret_file: Option<PathBuf>,
}

/// Flags of `dev` by which plans are sold.
#[derive(Debug, Default, Args)]
pub struct DevSellingArgs {
    /// A file with the secret key of Stripe's test mode (sk_test_… or rk_test_…); without, a stand-in for Stripe is started
    #[arg(long, env = "PAYFENCE_STRIPE_SECRET_KEY_FILE", value_name = "FILE")]
    pub stripe_secret_key_file: Option<PathBuf>,
    /// A file with the secrets that Stripe signs test webhooks with (whsec_…, one a line), as `stripe listen` prints one
    #[arg(
        long,
        env = "PAYFENCE_STRIPE_WEBHOOK_SECRET_FILE",
        value_name = "FILE",
        requires = "stripe_secret_key_file"
    )]
    pub stripe_webhook_secret_file: Option<PathBuf>,
    /// Where buyers reach the control plane's pages (default: where it listens)
    #[arg(long, env = "PAYFENCE_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
}
