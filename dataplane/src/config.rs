//! What one node is told at its start.
//!
//! In: words from flags, environment and files, parsed by whoever reads those. Out: a [`Config`] of types in which
//! nonsense cannot be written.
//! Always holds: a value of these types is usable as it stands; every parse error says what is allowed.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use ipnet::IpNet;
pub use link::control::ControlUrl;
pub use link::sink::clickhouse::{ClickHouseConfig, Password};
pub use link::sink::ndjson::NdjsonConfig;

use crate::offcore::state::NodeState;

/// Where the gateway listens when nothing is said.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
/// Where the admin listener is when nothing is said.
pub const ADMIN_DEFAULT: &str = "127.0.0.1:8081";
/// How long a drain waits for what runs when nothing is said.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(30);
/// The longest drain that can be asked for: a day.
pub const DRAIN_MAX: Duration = Duration::from_secs(86_400);
/// The longest of a node's other deadlines that can be asked for: a day, in milliseconds.
pub const DEADLINE_MS_MAX: u64 = 86_400_000;
/// More shards than any machine has cores.
pub const SHARDS_MAX: usize = 1024;
/// More listeners than anybody needs; each costs every shard a socket.
pub const LISTENERS_MAX: usize = 64;

/// Everything one node needs to run.
pub struct Config {
    /// Addresses of the gateway; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Address of the admin listener; port 0 takes a free one.
    pub admin: SocketAddr,
    /// TLS with clients; none: plain HTTP alone.
    pub tls: Option<TlsConfig>,
    /// Where the policy comes from.
    pub policy: PolicyFrom,
    /// How many shards.
    pub shards: NonZeroUsize,
    /// The cores the shards are pinned to, in order; none: the cores this process may use.
    pub cpus: Option<CpuList>,
    /// The domain whose subdomains are site slugs.
    pub gateway_domain: GatewayDomain,
    /// Networks whose word on the client's address counts (`X-Forwarded-For`, PROXY protocol v2).
    pub trusted_proxies: Vec<IpNet>,
    /// How long requests that run may take once the node shuts down.
    pub drain: Duration,
    /// How long clients and bodies are waited for.
    pub deadlines: Deadlines,
    /// Where the node keeps what outlives it.
    pub data_dir: PathBuf,
    /// Where the decision rings are (a tmpfs); none: the node chooses.
    pub ring_dir: Option<PathBuf>,
    /// The decision journal; none: nothing is recorded, and a restart knows of no use.
    pub journal: Option<JournalConfig>,
    /// What happens to requests when decisions can no longer be logged.
    pub journal_full: JournalFull,
    /// How much of the client's address is logged.
    pub log_client: LogClient,
    /// Called once, when all listeners accept.
    pub on_ready: Option<OnReady>,
}

/// Where a node has its policy from, and what it leases units of.
#[derive(Clone, Debug)]
pub enum PolicyFrom {
    /// A file; the node keeps its own ledger.
    File(PathBuf),
    /// Control planes, which keep the ledger for all their nodes.
    Control(ControlFrom),
}

/// The control planes of a node, as told at the start.
#[derive(Clone, Debug)]
pub struct ControlFrom {
    /// Their addresses, at least one, tried in turn.
    pub urls: Vec<ControlUrl>,
    /// The file with the node's token.
    pub token_file: PathBuf,
    /// PEM with authorities besides the system's that their certificates may come from.
    pub ca_file: Option<PathBuf>,
    /// Origins may be at private, loopback, link-local and metadata addresses: whoever writes the policy may then reach what this
    /// machine reaches.
    pub allow_private_origins: bool,
}

/// The decision journal, as told at the start.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// The node's name in the log.
    pub node: String,
    /// Bytes that rows on disk may take; then the oldest go.
    pub spool_bytes: u64,
    /// Where rows go besides; none: they stay on disk.
    pub sinks: Sinks,
}

/// Where rows of the decision log go.
#[derive(Clone, Debug, Default)]
pub struct Sinks {
    /// A ClickHouse server.
    pub clickhouse: Option<ClickHouseConfig>,
    /// Files of JSON.
    pub ndjson: Option<NdjsonConfig>,
    /// The node's control planes; not where it has its policy from a file.
    pub control: bool,
}

/// TLS with clients, as told at the start.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Addresses that speak TLS; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Addresses that answer every request with a redirect to `https`; port 0 takes a free one.
    pub redirect_listen: Vec<SocketAddr>,
    /// Where certificates are.
    pub certificates: CertificateSources,
    /// How clients show who they are; none: they are not asked.
    pub client_auth: Option<ClientAuthConfig>,
}

/// Where certificates are; at least one place.
#[derive(Clone, Debug, Default)]
pub struct CertificateSources {
    /// A folder of pairs.
    pub folder: Option<PathBuf>,
    /// Pairs named one by one; the first is the default.
    pub pairs: Vec<PairFiles>,
}

/// A certificate chain and its key, both PEM; they may be one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Certificates of clients.
#[derive(Clone, Debug)]
pub struct ClientAuthConfig {
    /// PEM with the certificates of the authorities that issue them.
    pub authorities: PathBuf,
    /// Whether a client must show one.
    pub mode: ClientAuth,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It may; if it does, it must be a good one.
    Optional,
    /// It must.
    #[default]
    Required,
}

impl FromStr for ClientAuth {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err(ConfigError(format!("`{text}` is neither `optional` nor `required`"))),
        }
    }
}

/// What is called when a node is ready, with where it listens and what it says of itself; it may set that to draining.
pub type OnReady = Box<dyn FnOnce(&Ready, &Arc<NodeState>) + Send>;

/// A node that accepts.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where the gateway listens; ports that were 0 are the real ones.
    pub listen: Vec<SocketAddr>,
    /// The same for those that speak TLS.
    pub tls_listen: Vec<SocketAddr>,
    /// The same for those that redirect to `https`.
    pub redirect_listen: Vec<SocketAddr>,
    /// Where the admin listener is.
    pub admin: SocketAddr,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .field("tls", &self.tls)
            .field("policy", &self.policy)
            .field("shards", &self.shards)
            .field("cpus", &self.cpus)
            .field("gateway_domain", &self.gateway_domain)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("drain", &self.drain)
            .field("deadlines", &self.deadlines)
            .field("data_dir", &self.data_dir)
            .field("ring_dir", &self.ring_dir)
            .field("journal", &self.journal)
            .field("journal_full", &self.journal_full)
            .field("log_client", &self.log_client)
            .finish_non_exhaustive()
    }
}

/// How long a node waits for clients, and for bodies to move, before it gives them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between two requests, and before the first.
    pub idle: Duration,
    /// Without any progress in a body, either way.
    pub stall: Duration,
    /// Without a byte of an event stream or a tunnel.
    pub quiet: Duration,
    /// For a client that is silent after an answer that ends its connection.
    pub linger: Duration,
    /// For a client that goes on sending after such an answer.
    pub linger_max: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(20),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(60),
            quiet: Duration::from_secs(3600),
            linger: Duration::from_secs(2),
            linger_max: Duration::from_secs(30),
        }
    }
}

/// A word that is not what was asked for. Its text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// What to do with requests when the decision ring is full and cannot be emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalFull {
    /// Serve on; rows are lost from the log and counted as lost.
    #[default]
    Continue,
    /// Answer 503 `journal_full`.
    Refuse,
}

impl FromStr for JournalFull {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "continue" => Ok(Self::Continue),
            "refuse" => Ok(Self::Refuse),
            _ => Err(ConfigError(format!("`{text}` is neither `continue` nor `refuse`"))),
        }
    }
}

/// How much of the client's address the decision log has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogClient {
    /// Nothing.
    #[default]
    Off,
    /// Its network: the first 24 bits, of IPv6 the first 48.
    Network,
    /// All of it.
    Whole,
}

impl FromStr for LogClient {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "off" => Ok(Self::Off),
            "network" => Ok(Self::Network),
            "whole" => Ok(Self::Whole),
            _ => Err(ConfigError(format!("`{text}` is none of `off`, `network` and `whole`"))),
        }
    }
}

/// A domain name in lower case, without port and trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayDomain(Box<str>);

impl GatewayDomain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for GatewayDomain {
    fn default() -> Self {
        Self("localhost".into())
    }
}

impl FromStr for GatewayDomain {
    type Err = ConfigError;

    /// Labels of letters, digits and inner hyphens, up to 63 each and 253 together (RFC 1123 section 2.1).
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label_holds = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        // An address is all digits and dots; as a domain it would have no subdomains.
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        if name.len() > 253 || is_address || !name.split('.').all(label_holds) {
            return Err(ConfigError(format!(
                "`{text}` is no domain name; give one such as `gateway.example.com`, without scheme and port"
            )));
        }
        Ok(Self(name.into_boxed_str()))
    }
}

/// Core numbers, each once, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// The numbers, in the order given.
    #[must_use]
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for CpuList {
    type Err = ConfigError;

    /// Numbers and ranges with commas, as `taskset -c` takes them: `0,2-3`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError(format!(
                "`{text}` is no list of cores; give numbers below {SHARDS_MAX} and ranges, each core once, such as `0,2-3`"
            ))
        };
        let number = |word: &str| {
            word.parse::<usize>().ok().filter(|number| *number < SHARDS_MAX).ok_or_else(wrong)
        };
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.trim().split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part.trim())?, number(part.trim())?),
            };
            if first > last {
                return Err(wrong());
            }
            for core in first..=last {
                if numbers.contains(&core) {
                    return Err(wrong());
                }
                numbers.push(core);
            }
        }
        Ok(Self(numbers))
    }
}

/// An IP address with a port.
///
/// # Errors
/// When the text is none.
pub fn parse_address(text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        ConfigError(format!(
            "`{text}` is no address with port; give one such as 127.0.0.1:8080 or [::]:8080"
        ))
    })
}

/// A deadline of so many milliseconds.
///
/// # Errors
/// When it is none or longer than [`DEADLINE_MS_MAX`].
pub fn deadline(ms: u64) -> Result<Duration, ConfigError> {
    if (1..=DEADLINE_MS_MAX).contains(&ms) {
        return Ok(Duration::from_millis(ms));
    }
    Err(ConfigError(format!(
        "{ms} is no deadline; give milliseconds, a number from 1 to {DEADLINE_MS_MAX}"
    )))
}

/// A deadline written as a number of milliseconds.
///
/// # Errors
/// When the text is no number, or as [`deadline`].
pub fn parse_deadline(text: &str) -> Result<Duration, ConfigError> {
    text.parse().map_or_else(
        |_| {
            Err(ConfigError(format!(
                "`{text}` is no deadline; give milliseconds, a number from 1 to {DEADLINE_MS_MAX}"
            )))
        },
        deadline,
    )
}

/// A network or a single address.
///
/// # Errors
/// When the text is neither.
pub fn parse_network(text: &str) -> Result<IpNet, ConfigError> {
    text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)).map_err(
        |_| {
            ConfigError(format!(
                "`{text}` is no network; give one such as `10.0.0.0/8`, `fd00::/8` or `192.0.2.7`"
            ))
        },
    )
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
