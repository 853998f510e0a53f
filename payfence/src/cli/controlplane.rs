//! Flags of `payfence controlplane`.
//!
//! In: flags and variables. Out: [`ControlplaneArgs`]. Always holds: what is not given stays `None`, so that defaults are in one
//! place; secrets come by files.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use dataplane::config::parse_address;

use super::{BillingArgs, ClickHouseArgs, NotifyArgs, StripeWebhookArgs};

/// Flags of `controlplane`.
#[derive(Debug, Default, Args)]
pub struct ControlplaneArgs {
    /// The database: postgres://USER@HOST/NAME or sqlite://FILE (default: controlplane.db in the data directory)
    #[arg(
        long,
        global = true,
        env = "PAYFENCE_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<String>,
    /// Where it keeps what is its own (default payfence-data)
    #[arg(long, global = true, env = "PAYFENCE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The keys that secrets in the database are encrypted with (default: secrets.key in the data directory, made when it
    /// is missing); PAYFENCE_SECRET_KEYS may hold them instead
    #[arg(long, global = true, env = "PAYFENCE_SECRET_KEYS_FILE", value_name = "FILE")]
    pub secret_keys_file: Option<PathBuf>,
    /// Where it listens (default 127.0.0.1:8082)
    #[arg(long, env = "PAYFENCE_CONTROL_LISTEN", value_name = "ADDR", value_parser = parse_address)]
    pub listen: Option<SocketAddr>,
    /// A certificate chain to speak TLS with, PEM; read again when it is replaced
    #[arg(long, env = "PAYFENCE_CONTROL_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "PAYFENCE_CONTROL_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let origins be at private, loopback, link-local and metadata addresses
    #[arg(long, env = "PAYFENCE_ALLOW_PRIVATE_ORIGINS")]
    pub allow_private_origins: bool,
    /// What Stripe signs webhooks with
    #[command(flatten)]
    pub webhook_secrets: StripeWebhookArgs,
    /// What is needed to sell plans
    #[command(flatten)]
    pub billing: BillingArgs,
    /// How people and programs are told of what happens
    #[command(flatten)]
    pub notify: NotifyArgs,
    /// How many days entries of the audit log are kept, 0 for ever (default 400)
    #[arg(long, env = "PAYFENCE_AUDIT_DAYS", value_name = "N")]
    pub audit_days: Option<u32>,
    /// What is kept of decisions
    #[command(flatten)]
    pub kept: KeptArgs,
    /// Where they are asked for instead, when nodes export to it
    #[command(flatten)]
    pub clickhouse: ClickHouseArgs,
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<ControlplaneCommand>,
}

/// What `controlplane` can do besides serving.
#[derive(Debug, Subcommand)]
pub enum ControlplaneCommand {
    /// Make the first account, its owner and an admin key, and print the key
    Init(ControlplaneInitArgs),
    /// Encrypt all secrets in the database anew with the first of the keys
    Rekey,
}

/// Flags of `controlplane init`.
#[derive(Debug, Args)]
pub struct ControlplaneInitArgs {
    /// What the account is called
    #[arg(long, default_value = "First account", value_name = "NAME")]
    pub account: String,
    /// Who owns it
    #[arg(long, default_value = "owner@localhost", value_name = "EMAIL")]
    pub email: String,
}

/// More recent decisions of a site than this are for ClickHouse.
const DECISIONS_KEPT_MAX: u64 = 100_000_000;

/// What a control plane keeps of decisions that nodes ship to it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Decisions and usage")]
pub struct KeptArgs {
    /// Decisions kept of each site, the newest (default 100000)
    #[arg(long, env = "PAYFENCE_DECISIONS_KEPT", value_name = "N", value_parser = clap::value_parser!(u64).range(..=DECISIONS_KEPT_MAX))]
    pub decisions_kept: Option<u64>,
    /// Days after which they go in any case (default 7)
    #[arg(long, env = "PAYFENCE_DECISIONS_KEPT_DAYS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub decisions_kept_days: Option<u16>,
    /// Days that use is kept by the minute (default 3)
    #[arg(long, env = "PAYFENCE_USAGE_MINUTES_KEPT_DAYS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub usage_minutes_kept_days: Option<u16>,
    /// Days that use is kept by the day (default 400)
    #[arg(long, env = "PAYFENCE_USAGE_DAYS_KEPT_DAYS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub usage_days_kept_days: Option<u16>,
}
