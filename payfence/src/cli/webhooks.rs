//! Flags of `payfence webhooks`.
//!
//! In: the command line, environment. Out: plain structs.
//! Always holds: which control plane and whose key is said as for all commands that use REST.

use clap::{Args, Subcommand};

use super::RestArgs;

/// What can be done with webhooks to owners.
#[derive(Debug, Subcommand)]
pub enum WebhooksCommand {
    /// Send all deliveries of an endpoint again that were given up
    Replay(WebhooksReplayArgs),
}

/// Flags of `webhooks replay`.
#[derive(Debug, Args)]
pub struct WebhooksReplayArgs {
    /// The webhook endpoint, by its id (whe_…)
    pub endpoint: String,
    /// Those of events from then on, such as 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: String,
    /// Which control plane, and whose key
    #[command(flatten)]
    pub rest: RestArgs,
}
