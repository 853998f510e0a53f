//! Flags by which a control plane tells owners and buyers, and by which `reconcile` looks.
//!
//! In: the command line, environment. Out: plain structs.
//! Always holds: user and password of a mail server are in a file, never among the flags.

use std::path::PathBuf;

use clap::Args;

/// Flags of `controlplane` by which people and programs are told of what happens.
#[derive(Debug, Default, Args)]
pub struct NotifyArgs {
    /// Where mails go: smtp:FILE (a file with smtp://USER:PASSWORD@HOST:PORT?tls=required or smtps://…), file:DIR or log;
    /// without, none are sent
    #[arg(long, env = "PAYFENCE_MAIL", value_name = "SINK")]
    pub mail: Option<String>,
    /// Whom mails are from (default PayFence <payfence@localhost>)
    #[arg(long, env = "PAYFENCE_MAIL_FROM", value_name = "NAME <ADDRESS>")]
    pub mail_from: Option<String>,
    /// Let webhooks go to private, loopback, link-local and metadata addresses, and over plain HTTP
    #[arg(long, env = "PAYFENCE_ALLOW_PRIVATE_WEBHOOKS")]
    pub allow_private_webhooks: bool,
}

/// Past a day nothing is on its way that arrives by itself.
const SETTLED_S_MAX: i64 = 86_400;

/// Flags of `reconcile`.
#[derive(Debug, Default, Args)]
pub struct ReconcileArgs {
    /// The database: postgres://USER@HOST/NAME or sqlite://FILE (default: controlplane.db in the data directory)
    #[arg(long, env = "PAYFENCE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Where the control plane keeps what is its own (default payfence-data)
    #[arg(long, env = "PAYFENCE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// One site alone, by id or slug
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
    /// One period alone, by its id
    #[arg(long, value_name = "ID")]
    pub period: Option<i64>,
    /// What changed within so many seconds is still on its way and is not compared (default 120)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=SETTLED_S_MAX))]
    pub settled: Option<u32>,
    /// How Stripe is asked; without a key it is not
    #[command(flatten)]
    pub billing: super::BillingArgs,
    /// Where the decision log is, when nodes export it
    #[command(flatten)]
    pub clickhouse: super::ClickHouseArgs,
    /// What is kept of it, when they send it to the control plane
    #[command(flatten)]
    pub kept: super::KeptArgs,
}

/// Flags of `doctor`.
#[derive(Debug, Default, Args)]
pub struct DoctorArgs {
    /// What a node needs
    #[command(flatten)]
    pub node: super::NodeArgs,
    /// A control plane's database: postgres://USER@HOST/NAME or sqlite://FILE; without, none is asked
    #[arg(long, env = "PAYFENCE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// What a control plane needs of Stripe
    #[command(flatten)]
    pub billing: super::BillingArgs,
    /// What Stripe signs webhooks with
    #[command(flatten)]
    pub webhook_secrets: super::StripeWebhookArgs,
}
