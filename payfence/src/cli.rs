//! What can be typed: commands, flags, environment.
//!
//! In: the command line. Out: [`Cli`], in which every value given is already of its own type.
//! Always holds: a flag comes before its `PAYFENCE_*` variable; what is left open here comes from `payfence.toml` or
//! has a default, which [`crate::settings`] decides.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use dataplane::config::{
    ClientAuth, ControlUrl, CpuList, Deadlines, GatewayDomain, IpNet, JournalFull, LogClient,
    SHARDS_MAX, parse_address, parse_deadline, parse_network,
};

use jiff::{SignedDuration, Timestamp};
use policy::decision::Reason;

use crate::logging::LogFormat;

mod billing;
mod controlplane;
mod notify;
mod webhooks;

pub use billing::{
    BillingArgs, BillingCommand, BillingEventsArgs, BillingReplayArgs, BillingSyncArgs,
    DevSellingArgs, StripeWebhookArgs,
};
pub use controlplane::{ControlplaneArgs, ControlplaneCommand, ControlplaneInitArgs, KeptArgs};
pub use notify::{DoctorArgs, NotifyArgs, ReconcileArgs};
pub use webhooks::{WebhooksCommand, WebhooksReplayArgs};

/// The longest name of a node.
const NODE_NAME_BYTES_MAX: usize = 128;
/// The least that segments can be kept in.
pub const JOURNAL_MIB_MIN: u64 = 16;
/// A TiB.
pub const JOURNAL_MIB_MAX: u64 = 1 << 20;

/// A paywall in front of an HTTP API or an MCP tool server.
#[derive(Debug, Parser)]
#[command(name = "payfence", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to log: a level, or levels by module (`info,dataplane=debug`)
    #[arg(
        long,
        global = true,
        env = "PAYFENCE_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// How to log: `text` or `json`
    #[arg(
        long,
        global = true,
        env = "PAYFENCE_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine and print three requests to try
    Dev(DevArgs),
    /// Run one node
    Dataplane(NodeArgs),
    /// Run the control plane, or make its first account
    Controlplane(ControlplaneArgs),
    /// Check or explain a policy file
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Make the sites of a control plane as a policy file says, and print the difference first
    ///
    /// Sites that the file does not name are left as they are. Lines begin with + for what is made, ~ for what is changed, - for what is
    /// archived or revoked. Exit codes: 0 when the control plane is as the file says (with --dry-run: when nothing would change), 3 with
    /// --dry-run when something would, 1 when it failed (running it again goes on), 2 for a wrong file or wrong use.
    Apply(ApplyArgs),
    /// Print what a control plane has as a policy file
    Export(RestArgs),
    /// Make a token, or verify one's form
    #[command(subcommand)]
    Token(TokenCommand),
    /// Read the decision log that a node has on disk
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Bring what plans cost to Stripe, look at what Stripe told
    #[command(subcommand)]
    Billing(BillingCommand),
    /// Send again what owners' programs did not take
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Say whether this machine can run a node, and what to do where not
    Doctor(Box<DoctorArgs>),
    /// Compare decision log, ledger, entitlements and Stripe; ends with 1 where they do not agree
    Reconcile(ReconcileArgs),
}

/// Flags of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// The API to put behind the fence; a sample API when none is given
    #[arg(long, env = "PAYFENCE_ORIGIN", value_name = "URL")]
    pub origin: Option<String>,
    /// Where the gateway listens (default 127.0.0.1:8080)
    #[arg(long, env = "PAYFENCE_LISTEN", value_name = "ADDR", value_parser = parse_address)]
    pub listen: Option<SocketAddr>,
    /// Speak TLS too, with a certificate made for this machine
    #[arg(long)]
    pub tls: bool,
    /// Where it speaks TLS, if it does: then --tls is meant (default 127.0.0.1:8443)
    #[arg(long, env = "PAYFENCE_TLS_LISTEN", value_name = "ADDR", value_parser = parse_address)]
    pub tls_listen: Option<SocketAddr>,
    /// Where the admin listener is (default 127.0.0.1:8081)
    #[arg(long, env = "PAYFENCE_ADMIN", value_name = "ADDR", value_parser = parse_address)]
    pub admin: Option<SocketAddr>,
    /// Where the control plane listens (default 127.0.0.1:8082, or another port where that is taken)
    #[arg(long, env = "PAYFENCE_CONTROL_LISTEN", value_name = "ADDR", value_parser = parse_address)]
    pub control_listen: Option<SocketAddr>,
    /// The policy file, written if it is missing (default payfence-dev.toml)
    #[arg(long, env = "PAYFENCE_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// How many shards (default: one a core)
    #[arg(long, env = "PAYFENCE_SHARDS", value_name = "N", value_parser = shards)]
    pub shards: Option<NonZeroUsize>,
    /// How plans are sold; through a stand-in for Stripe where no key is given
    #[command(flatten)]
    pub selling: DevSellingArgs,
}

/// Flags of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The policy file
    pub file: PathBuf,
    /// Print the difference and change nothing; ends with 3 where there is one
    #[arg(long)]
    pub dry_run: bool,
    /// Send the values of origin_headers even where their names are the same: the control plane shows them to nobody, so that they differ
    /// cannot be seen
    #[arg(long)]
    pub set_origin_headers: bool,
    /// Which control plane, and whose key
    #[command(flatten)]
    pub rest: RestArgs,
}

/// A control plane as an administrator reaches it. The key itself is no flag, since every user of a machine can read those: it is in a file, or
/// in `PAYFENCE_ADMIN_KEY`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Control plane")]
pub struct RestArgs {
    /// The control plane: https://HOST:PORT, or http:// on this machine
    #[arg(
        long,
        env = "PAYFENCE_CONTROL_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8082"
    )]
    pub control_url: ControlUrl,
    /// A file whose first line is an admin key of role owner or admin (or the variable PAYFENCE_ADMIN_KEY)
    #[arg(long, env = "PAYFENCE_ADMIN_KEY_FILE", value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// PEM with authorities besides the system's that the control plane's certificate may come from
    #[arg(long, env = "PAYFENCE_CONTROL_CA", value_name = "FILE")]
    pub control_ca: Option<PathBuf>,
}

/// Flags of a node.
#[derive(Debug, Default, Args)]
pub struct NodeArgs {
    /// The policy file
    #[arg(long, env = "PAYFENCE_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The control plane that it has its policy from and leases units of
    #[command(flatten)]
    pub control: ControlArgs,
    /// Where the gateway listens; may be given more than once (default 127.0.0.1:8080)
    #[arg(long, env = "PAYFENCE_LISTEN", value_name = "ADDR", value_delimiter = ',', num_args = 1.., value_parser = parse_address)]
    pub listen: Vec<SocketAddr>,
    /// What the gateway does with TLS
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Where the admin listener is (default 127.0.0.1:8081)
    #[arg(long, env = "PAYFENCE_ADMIN", value_name = "ADDR", value_parser = parse_address)]
    pub admin: Option<SocketAddr>,
    /// Where the node keeps what outlives it (default: payfence-data beside the policy file)
    #[arg(long, env = "PAYFENCE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where decision rings are: a directory on a tmpfs
    #[arg(long, env = "PAYFENCE_RING_DIR", value_name = "DIR")]
    pub ring_dir: Option<PathBuf>,
    /// How many shards (default: one a core)
    #[arg(long, env = "PAYFENCE_SHARDS", value_name = "N", value_parser = shards)]
    pub shards: Option<NonZeroUsize>,
    /// The cores to pin shards to, such as 0,2-3
    #[arg(long, env = "PAYFENCE_CPUS", value_name = "LIST")]
    pub cpus: Option<CpuList>,
    /// The domain whose subdomains are site slugs (default localhost)
    #[arg(long, env = "PAYFENCE_GATEWAY_DOMAIN", value_name = "DOMAIN")]
    pub gateway_domain: Option<GatewayDomain>,
    /// A network whose word on the client's address counts; may be given more than once
    #[arg(
        long = "trusted-proxy",
        env = "PAYFENCE_TRUSTED_PROXY",
        value_name = "NET",
        value_delimiter = ',',
        num_args = 1..,
        value_parser = parse_network
    )]
    pub trusted_proxies: Vec<IpNet>,
    /// How long a drain waits for what runs (default 30)
    #[arg(
        long,
        env = "PAYFENCE_DRAIN_SECONDS",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(0..=DRAIN_SECONDS_MAX)
    )]
    pub drain_seconds: Option<u64>,
    /// How decisions are recorded
    #[command(flatten)]
    pub journal: JournalArgs,
    /// How long it waits for others
    #[command(flatten)]
    pub deadlines: DeadlineArgs,
}

/// What to do with a decision log.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Print decisions as JSON, one a line
    Cat(JournalCatArgs),
    /// Say whether decisions are missing, damaged or there twice
    Verify(JournalVerifyArgs),
}

/// Flags of `journal cat`.
#[derive(Debug, Args)]
pub struct JournalCatArgs {
    /// The node's data directory (default: as for `dataplane`)
    #[arg(long, env = "PAYFENCE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Go on with what comes
    #[arg(long)]
    pub follow: bool,
    /// Only decisions of this site
    #[arg(long, value_name = "SLUG")]
    pub site: Option<String>,
    /// Only decisions of this reason
    #[arg(long, value_name = "REASON", value_parser = reason)]
    pub reason: Option<Reason>,
    /// Only decisions since then: a time (RFC 3339), or how long ago (`90s`, `15m`, `2h`)
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Since>,
}

/// Flags of `journal verify`.
#[derive(Debug, Args)]
pub struct JournalVerifyArgs {
    /// The node's data directory (default: as for `dataplane`)
    #[arg(long, env = "PAYFENCE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What is compared besides: what the server has of the decisions that were shipped
    #[command(flatten)]
    pub clickhouse: ClickHouseArgs,
}

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This time.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse() {
        return Ok(Since::At(at));
    }
    match text.parse::<SignedDuration>().map(Duration::try_from) {
        Ok(Ok(ago)) => Ok(Since::Ago(ago)),
        _ => Err(format!(
            "`{text}` is neither a time such as 2026-11-24T10:00:00Z nor a duration such as 15m"
        )),
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == text).ok_or_else(|| {
        let all: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("`{text}` is no reason; there are {}", all.join(", "))
    })
}

/// The control plane of a node.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Control plane")]
pub struct ControlArgs {
    /// A control plane instead of a policy file: https://HOST:PORT; may be given more than once, the first that answers is used
    #[arg(long, env = "PAYFENCE_CONTROL_URL", value_name = "URL", value_delimiter = ',', num_args = 1..)]
    pub control_url: Vec<ControlUrl>,
    /// The file with this node's token (POST /v1/nodes/{node_id}/tokens)
    #[arg(long, env = "PAYFENCE_NODE_TOKEN_FILE", value_name = "FILE")]
    pub node_token_file: Option<PathBuf>,
    /// PEM with authorities besides the system's that the control plane's certificate may come from
    #[arg(long, env = "PAYFENCE_CONTROL_CA", value_name = "FILE")]
    pub control_ca: Option<PathBuf>,
    /// Origins may be at private addresses: whoever writes the policy may then reach what this machine reaches
    #[arg(long, env = "PAYFENCE_ALLOW_PRIVATE_ORIGINS", value_name = "SWITCH", num_args = 0..=1, default_missing_value = "on")]
    pub allow_private_origins: Option<Switch>,
}

/// The decision journal of a node.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Decision journal")]
pub struct JournalArgs {
    /// The node's name in the decision log (default: this machine's)
    #[arg(long, env = "PAYFENCE_NODE_NAME", value_name = "NAME", value_parser = node_name)]
    pub node_name: Option<String>,
    /// on, or off: nothing is recorded, and a restart gives every quota away again (default on)
    #[arg(long, env = "PAYFENCE_JOURNAL", value_name = "SWITCH")]
    pub journal: Option<Switch>,
    /// MiB that decisions may take on disk; then the oldest go (default 1024)
    #[arg(long, env = "PAYFENCE_JOURNAL_MAX_MIB", value_name = "N", value_parser = clap::value_parser!(u64).range(JOURNAL_MIB_MIN..=JOURNAL_MIB_MAX))]
    pub journal_max_mib: Option<u64>,
    /// What to do when decisions can no longer be logged: continue or refuse (default continue)
    #[arg(long, env = "PAYFENCE_JOURNAL_FULL", value_name = "WHAT")]
    pub journal_full: Option<JournalFull>,
    /// How much of the client's address is logged: off, network (/24, /48) or whole (default off)
    #[arg(long, env = "PAYFENCE_LOG_CLIENT", value_name = "WHAT")]
    pub log_client: Option<LogClient>,
    /// Where decisions go besides
    #[command(flatten)]
    pub sinks: SinkArgs,
}

/// Where rows of the decision log go.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Where decisions go besides this node's disk")]
pub struct SinkArgs {
    /// A ClickHouse server.
    #[command(flatten)]
    pub clickhouse: ClickHouseArgs,
    /// Days after which ClickHouse drops decisions, where it knows how (default: it keeps them)
    #[arg(long, env = "PAYFENCE_CLICKHOUSE_TTL_DAYS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub clickhouse_ttl_days: Option<u16>,
    /// A folder that decisions are written to as NDJSON files
    #[arg(long, env = "PAYFENCE_NDJSON_DIR", value_name = "DIR")]
    pub ndjson_dir: Option<PathBuf>,
    /// Whether decisions go to the control plane (default: on with --control-url, unless they go to ClickHouse)
    #[arg(long, env = "PAYFENCE_CONTROL_DECISIONS", value_name = "SWITCH")]
    pub control_decisions: Option<Switch>,
}

/// Where a ClickHouse server is and who asks.
#[derive(Clone, Debug, Default, Args)]
pub struct ClickHouseArgs {
    /// A ClickHouse server: http:// or https://, host and port
    #[arg(long, env = "PAYFENCE_CLICKHOUSE_URL", value_name = "URL")]
    pub clickhouse_url: Option<String>,
    /// The database there (default payfence)
    #[arg(long, env = "PAYFENCE_CLICKHOUSE_DATABASE", value_name = "NAME")]
    pub clickhouse_database: Option<String>,
    /// The user there (default default)
    #[arg(long, env = "PAYFENCE_CLICKHOUSE_USER", value_name = "NAME")]
    pub clickhouse_user: Option<String>,
    /// A file whose first line is the user's password (or the variable PAYFENCE_CLICKHOUSE_PASSWORD)
    #[arg(long, env = "PAYFENCE_CLICKHOUSE_PASSWORD_FILE", value_name = "FILE")]
    pub clickhouse_password_file: Option<PathBuf>,
    /// Certificates (PEM) of authorities to trust besides the system's
    #[arg(long, env = "PAYFENCE_CLICKHOUSE_CA", value_name = "FILE")]
    pub clickhouse_ca: Option<PathBuf>,
}

/// On or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// On.
    #[default]
    On,
    /// Off.
    Off,
}

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(format!("`{text}` is neither `on` nor `off`")),
        }
    }
}

/// A node's name: it stands in every row.
pub fn node_name(text: &str) -> Result<String, String> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if text.is_empty() || text.len() > NODE_NAME_BYTES_MAX || !text.chars().all(is_name) {
        return Err(format!(
            "`{text}` is no name: 1 to {NODE_NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"
        ));
    }
    Ok(text.to_owned())
}

/// Deadlines of a node, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Deadlines, in milliseconds")]
pub struct DeadlineArgs {
    /// From a head's first byte to its last (default 20000)
    #[arg(long = "head-timeout-ms", env = "PAYFENCE_HEAD_TIMEOUT_MS", value_name = "N", value_parser = parse_deadline)]
    pub head: Option<Duration>,
    /// Between two requests, and before the first (default 75000)
    #[arg(long = "idle-timeout-ms", env = "PAYFENCE_IDLE_TIMEOUT_MS", value_name = "N", value_parser = parse_deadline)]
    pub idle: Option<Duration>,
    /// Without progress in a body, either way (default 60000)
    #[arg(long = "stall-timeout-ms", env = "PAYFENCE_STALL_TIMEOUT_MS", value_name = "N", value_parser = parse_deadline)]
    pub stall: Option<Duration>,
    /// Without a byte of an event stream or a tunnel (default 3600000)
    #[arg(long = "quiet-timeout-ms", env = "PAYFENCE_QUIET_TIMEOUT_MS", value_name = "N", value_parser = parse_deadline)]
    pub quiet: Option<Duration>,
    /// After an answer that ends the connection, for a client that is silent (default 2000)
    #[arg(long = "linger-ms", env = "PAYFENCE_LINGER_MS", value_name = "N", value_parser = parse_deadline)]
    pub linger: Option<Duration>,
    /// The same for a client that goes on sending (default 30000)
    #[arg(long = "linger-max-ms", env = "PAYFENCE_LINGER_MAX_MS", value_name = "N", value_parser = parse_deadline)]
    pub linger_max: Option<Duration>,
}

impl DeadlineArgs {
    /// These, and those of `others` where none is given here.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            head: self.head.or(others.head),
            idle: self.idle.or(others.idle),
            stall: self.stall.or(others.stall),
            quiet: self.quiet.or(others.quiet),
            linger: self.linger.or(others.linger),
            linger_max: self.linger_max.or(others.linger_max),
        }
    }

    /// With defaults where none is given.
    #[must_use]
    pub fn or_default(self) -> Deadlines {
        let default = Deadlines::default();
        Deadlines {
            head: self.head.unwrap_or(default.head),
            idle: self.idle.unwrap_or(default.idle),
            stall: self.stall.unwrap_or(default.stall),
            quiet: self.quiet.unwrap_or(default.quiet),
            linger: self.linger.unwrap_or(default.linger),
            linger_max: self.linger_max.unwrap_or(default.linger_max),
        }
    }
}

/// Flags of a node about TLS.
#[derive(Debug, Default, Args)]
pub struct TlsArgs {
    /// Where the gateway speaks TLS; may be given more than once. Without --listen nothing is then served in the clear
    #[arg(long, env = "PAYFENCE_TLS_LISTEN", value_name = "ADDR", value_delimiter = ',', num_args = 1.., value_parser = parse_address)]
    pub tls_listen: Vec<SocketAddr>,
    /// A folder of certificates: NAME.crt with NAME.key, NAME.pem, or NAME/fullchain.pem with NAME/privkey.pem
    #[arg(long, env = "PAYFENCE_TLS_CERTIFICATES", value_name = "DIR")]
    pub tls_certificates: Option<PathBuf>,
    /// The certificate chain (PEM) for clients that ask for no name or an unknown one
    #[arg(long, env = "PAYFENCE_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, env = "PAYFENCE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The authorities (PEM) that certificates of clients are verified by
    #[arg(long, env = "PAYFENCE_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether a client must show a certificate: optional or required (default required)
    #[arg(long, env = "PAYFENCE_TLS_CLIENT_AUTH", value_name = "WHAT")]
    pub tls_client_auth: Option<ClientAuth>,
    /// Where every request is answered with a redirect to https; may be given more than once
    #[arg(long, env = "PAYFENCE_HTTPS_REDIRECT_LISTEN", value_name = "ADDR", value_delimiter = ',', num_args = 1.., value_parser = parse_address)]
    pub https_redirect_listen: Vec<SocketAddr>,
}

/// The longest drain, in seconds.
pub const DRAIN_SECONDS_MAX: u64 = dataplane::config::DRAIN_MAX.as_secs();

fn shards(text: &str) -> Result<NonZeroUsize, String> {
    text.parse::<NonZeroUsize>()
        .ok()
        .filter(|number| number.get() <= SHARDS_MAX)
        .ok_or_else(|| format!("expected a number from 1 to {SHARDS_MAX}"))
}

/// What to do with a policy file.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say whether a policy file is valid, and if not, where and why
    Check {
        /// The policy file
        file: PathBuf,
    },
    /// Print as JSON what would be decided on a request, by which rule, in which spellings
    Explain(ExplainArgs),
}

/// What to explain.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The policy file
    pub file: PathBuf,
    /// The request's method
    pub method: String,
    /// The request's URL, or its path on the gateway's own domain
    pub url: String,
    /// A token that the request carries
    #[arg(long, value_name = "T")]
    pub token: Option<String>,
    /// The domain whose subdomains are site slugs (default localhost)
    #[arg(long, env = "PAYFENCE_GATEWAY_DOMAIN", value_name = "DOMAIN")]
    pub gateway_domain: Option<GatewayDomain>,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a new token
    New {
        /// Make it a test token (pf_test_…)
        #[arg(long)]
        test: bool,
    },
    /// Say whether a token has the right form and checksum
    Check {
        /// The token
        token: String,
    },
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
