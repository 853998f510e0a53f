//! What a node is told, from all the places that may tell it.
//!
//! In: flags and environment (as parsed by [`crate::cli`]), `payfence.toml` of the working directory. Out: a
//! [`Config`].
//! Always holds: flags over environment over file over defaults, key by key; an unknown key or a bad value in the file
//! is an error that names it.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use dataplane::config::{
    ADMIN_DEFAULT, ClientAuth, Config, ControlFrom, ControlUrl, CpuList, DRAIN_DEFAULT,
    GatewayDomain, IpNet, JournalFull, LISTEN_DEFAULT, LISTENERS_MAX, LogClient, OnReady,
    PolicyFrom, SHARDS_MAX, TlsConfig, deadline, parse_address, parse_network,
};
use serde::{Deserialize, Deserializer};

use crate::cli::{
    ClickHouseArgs, ControlArgs, DRAIN_SECONDS_MAX, DeadlineArgs, JOURNAL_MIB_MAX, JOURNAL_MIB_MIN,
    JournalArgs, NodeArgs, SinkArgs, Switch, TlsArgs, node_name,
};
use crate::failure::Failure;
use file::FILE;

pub mod billing;
pub mod controlplane;
pub mod file;
pub mod journal;
pub mod mail;
pub mod tls;

/// The data directory's name beside the policy file.
pub const DATA_DIR: &str = "payfence-data";

/// The keys of `payfence.toml` that are a node's: the flags' names with `_` for `-`. Those of other commands are passed over here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FileKeys {
    policy: Option<PathBuf>,
    #[serde(deserialize_with = "control_urls")]
    control_url: Vec<ControlUrl>,
    node_token_file: Option<PathBuf>,
    control_ca: Option<PathBuf>,
    #[serde(deserialize_with = "from_text")]
    allow_private_origins: Option<Switch>,
    #[serde(deserialize_with = "one_or_more")]
    listen: Vec<SocketAddr>,
    #[serde(deserialize_with = "one_or_more")]
    tls_listen: Vec<SocketAddr>,
    tls_certificates: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    #[serde(deserialize_with = "from_text")]
    tls_client_auth: Option<ClientAuth>,
    #[serde(deserialize_with = "one_or_more")]
    https_redirect_listen: Vec<SocketAddr>,
    #[serde(deserialize_with = "from_address")]
    admin: Option<SocketAddr>,
    data_dir: Option<PathBuf>,
    ring_dir: Option<PathBuf>,
    shards: Option<NonZeroUsize>,
    #[serde(deserialize_with = "from_text")]
    cpus: Option<CpuList>,
    #[serde(deserialize_with = "from_text")]
    gateway_domain: Option<GatewayDomain>,
    #[serde(deserialize_with = "networks")]
    trusted_proxy: Vec<IpNet>,
    drain_seconds: Option<u64>,
    #[serde(deserialize_with = "named")]
    node_name: Option<String>,
    #[serde(deserialize_with = "from_text")]
    journal: Option<Switch>,
    #[serde(deserialize_with = "mebibytes")]
    journal_max_mib: Option<u64>,
    #[serde(deserialize_with = "from_text")]
    journal_full: Option<JournalFull>,
    #[serde(deserialize_with = "from_text")]
    log_client: Option<LogClient>,
    clickhouse_url: Option<String>,
    clickhouse_database: Option<String>,
    clickhouse_user: Option<String>,
    clickhouse_password_file: Option<PathBuf>,
    clickhouse_ca: Option<PathBuf>,
    clickhouse_ttl_days: Option<u16>,
    ndjson_dir: Option<PathBuf>,
    #[serde(deserialize_with = "from_text")]
    control_decisions: Option<Switch>,
    #[serde(deserialize_with = "milliseconds")]
    head_timeout_ms: Option<Duration>,
    #[serde(deserialize_with = "milliseconds")]
    idle_timeout_ms: Option<Duration>,
    #[serde(deserialize_with = "milliseconds")]
    stall_timeout_ms: Option<Duration>,
    #[serde(deserialize_with = "milliseconds")]
    quiet_timeout_ms: Option<Duration>,
    #[serde(deserialize_with = "milliseconds")]
    linger_ms: Option<Duration>,
    #[serde(deserialize_with = "milliseconds")]
    linger_max_ms: Option<Duration>,
}

impl FileKeys {
    fn deadlines(&self) -> DeadlineArgs {
        DeadlineArgs {
            head: self.head_timeout_ms,
            idle: self.idle_timeout_ms,
            stall: self.stall_timeout_ms,
            quiet: self.quiet_timeout_ms,
            linger: self.linger_ms,
            linger_max: self.linger_max_ms,
        }
    }
}

fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    node_name(&String::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

fn mebibytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let mib = u64::deserialize(deserializer)?;
    if (JOURNAL_MIB_MIN..=JOURNAL_MIB_MAX).contains(&mib) {
        return Ok(Some(mib));
    }
    Err(serde::de::Error::custom(format!(
        "{mib} is not within {JOURNAL_MIB_MIN} to {JOURNAL_MIB_MAX}"
    )))
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deadline(u64::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

fn from_text<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

fn from_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_address(&text).map(Some).map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = OneOrMore::deserialize(deserializer)?.into_vec();
    texts.iter().map(|text| parse_address(text).map_err(serde::de::Error::custom)).collect()
}

fn control_urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ControlUrl>, D::Error> {
    let texts = OneOrMore::deserialize(deserializer)?.into_vec();
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = OneOrMore::deserialize(deserializer)?.into_vec();
    texts.iter().map(|text| parse_network(text).map_err(serde::de::Error::custom)).collect()
}

/// Flags and environment, completed by `payfence.toml` in `directory`.
///
/// # Errors
/// When the file is wrong.
pub fn with_file(args: NodeArgs, directory: &Path) -> Result<NodeArgs, Failure> {
    let Some((path, text)) = file::read(directory)? else { return Ok(args) };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::configuration(format!("{}: {error}", path.display()))
    };
    let file: FileKeys = toml::from_str(&text).map_err(|error| wrong(&error))?;
    file::check_keys(&text).map_err(|error| wrong(&error))?;
    if file.shards.is_some_and(|shards| shards.get() > SHARDS_MAX) {
        return Err(wrong(&format_args!("shards: expected a number from 1 to {SHARDS_MAX}")));
    }
    if file.drain_seconds.is_some_and(|seconds| seconds > DRAIN_SECONDS_MAX) {
        return Err(wrong(&format_args!(
            "drain_seconds: expected a number from 0 to {DRAIN_SECONDS_MAX}"
        )));
    }
    let or = |given: Vec<SocketAddr>, file| if given.is_empty() { file } else { given };
    let deadlines = args.deadlines.or(file.deadlines());
    let sinks = sinks(args.journal.sinks, &file);
    let (policy, control) = source(args.policy, args.control, &file);
    Ok(NodeArgs {
        policy,
        control,
        listen: or(args.listen, file.listen),
        tls: TlsArgs {
            tls_listen: or(args.tls.tls_listen, file.tls_listen),
            tls_certificates: args.tls.tls_certificates.or(file.tls_certificates),
            tls_cert: args.tls.tls_cert.or(file.tls_cert),
            tls_key: args.tls.tls_key.or(file.tls_key),
            tls_client_ca: args.tls.tls_client_ca.or(file.tls_client_ca),
            tls_client_auth: args.tls.tls_client_auth.or(file.tls_client_auth),
            https_redirect_listen: or(args.tls.https_redirect_listen, file.https_redirect_listen),
        },
        admin: args.admin.or(file.admin),
        data_dir: args.data_dir.or(file.data_dir),
        ring_dir: args.ring_dir.or(file.ring_dir),
        shards: args.shards.or(file.shards),
        cpus: args.cpus.or(file.cpus),
        gateway_domain: args.gateway_domain.or(file.gateway_domain),
        trusted_proxies: if args.trusted_proxies.is_empty() {
            file.trusted_proxy
        } else {
            args.trusted_proxies
        },
        drain_seconds: args.drain_seconds.or(file.drain_seconds),
        journal: JournalArgs {
            node_name: args.journal.node_name.or(file.node_name),
            journal: args.journal.journal.or(file.journal),
            journal_max_mib: args.journal.journal_max_mib.or(file.journal_max_mib),
            journal_full: args.journal.journal_full.or(file.journal_full),
            log_client: args.journal.log_client.or(file.log_client),
            sinks,
        },
        deadlines,
    })
}

/// Whether a node's keys have one of this name: no key of theirs is a table.
#[cfg(test)]
pub(crate) fn is_node_key(name: &str) -> bool {
    toml::from_str::<FileKeys>(&format!("{name} = {{ no = 1 }}")).is_err()
}

/// Where the policy comes from: of the two places one that was given keeps the file's other one out.
fn source(
    policy: Option<PathBuf>,
    given: ControlArgs,
    file: &FileKeys,
) -> (Option<PathBuf>, ControlArgs) {
    let has_control = !given.control_url.is_empty();
    let control_url = match has_control || policy.is_some() {
        true => given.control_url,
        false => file.control_url.clone(),
    };
    let control = ControlArgs {
        control_url,
        node_token_file: given.node_token_file.or_else(|| file.node_token_file.clone()),
        control_ca: given.control_ca.or_else(|| file.control_ca.clone()),
        allow_private_origins: given.allow_private_origins.or(file.allow_private_origins),
    };
    let of_file = || file.policy.clone().filter(|_| !has_control);
    (policy.or_else(of_file), control)
}

/// Where decisions go: what was given, and else what the file says.
fn sinks(given: SinkArgs, file: &FileKeys) -> SinkArgs {
    let or = |given: Option<String>, file: &Option<String>| given.or_else(|| file.clone());
    let or_path = |given: Option<PathBuf>, file: &Option<PathBuf>| given.or_else(|| file.clone());
    let to = given.clickhouse;
    SinkArgs {
        clickhouse: ClickHouseArgs {
            clickhouse_url: or(to.clickhouse_url, &file.clickhouse_url),
            clickhouse_database: or(to.clickhouse_database, &file.clickhouse_database),
            clickhouse_user: or(to.clickhouse_user, &file.clickhouse_user),
            clickhouse_password_file: or_path(
                to.clickhouse_password_file,
                &file.clickhouse_password_file,
            ),
            clickhouse_ca: or_path(to.clickhouse_ca, &file.clickhouse_ca),
        },
        clickhouse_ttl_days: given.clickhouse_ttl_days.or(file.clickhouse_ttl_days),
        ndjson_dir: or_path(given.ndjson_dir, &file.ndjson_dir),
        control_decisions: given.control_decisions.or(file.control_decisions),
    }
}

/// The data directory that a node started here would use.
///
/// # Errors
/// When `payfence.toml` is wrong.
pub fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(given);
    }
    let args = with_file(NodeArgs::default(), Path::new("."))?;
    let beside_policy = || args.policy.as_deref().map(|policy| beside(policy).join(DATA_DIR));
    Ok(args.data_dir.clone().or_else(beside_policy).unwrap_or_else(|| PathBuf::from(DATA_DIR)))
}

/// The gateway's addresses for plain HTTP, the default where none is given and nothing is served over TLS.
pub fn listen(args: &NodeArgs) -> Vec<SocketAddr> {
    if args.listen.is_empty() && args.tls.tls_listen.is_empty() {
        return vec![address(LISTEN_DEFAULT)];
    }
    args.listen.clone()
}

/// The admin listener's address, the default where none is given.
pub fn admin(args: &NodeArgs) -> SocketAddr {
    args.admin.unwrap_or_else(|| address(ADMIN_DEFAULT))
}

/// How many shards: as many as asked for, else one for each core named or that this process may use.
pub fn shards(args: &NodeArgs) -> NonZeroUsize {
    let cores = || match &args.cpus {
        Some(cpus) => NonZeroUsize::new(cpus.numbers().len()),
        None => std::thread::available_parallelism().ok(),
    };
    args.shards.or_else(cores).unwrap_or(NonZeroUsize::MIN)
}

/// What the data plane is told.
///
/// # Errors
/// When there is no policy file, or what is asked for contradicts itself.
pub fn config(args: NodeArgs, on_ready: Option<OnReady>) -> Result<Config, Failure> {
    let (listen, admin, shards) = (listen(&args), admin(&args), shards(&args));
    let tls = tls::config(&args.tls)?;
    check_addresses(&listen, tls.as_ref(), admin)?;
    if let Some(cpus) = &args.cpus
        && shards.get() > cpus.numbers().len()
    {
        return Err(Failure::configuration(format!(
            "{shards} shards on {} cores: give --cpus at least as many cores as --shards, or leave one of them out",
            cpus.numbers().len()
        )));
    }
    let policy = policy(args.policy, args.control)?;
    let has_control = matches!(policy, PolicyFrom::Control(_));
    let data_dir = args.data_dir.unwrap_or_else(|| match &policy {
        PolicyFrom::File(path) => beside(path).join(DATA_DIR),
        PolicyFrom::Control(_) => PathBuf::from(DATA_DIR),
    });
    Ok(Config {
        listen,
        admin,
        tls,
        policy,
        shards,
        cpus: args.cpus,
        gateway_domain: args.gateway_domain.unwrap_or_default(),
        trusted_proxies: args.trusted_proxies,
        drain: args.drain_seconds.map_or(DRAIN_DEFAULT, Duration::from_secs),
        deadlines: args.deadlines.or_default(),
        data_dir,
        ring_dir: args.ring_dir,
        journal: journal::config(&args.journal, has_control)?,
        journal_full: args.journal.journal_full.unwrap_or_default(),
        log_client: args.journal.log_client.unwrap_or_default(),
        on_ready,
    })
}

/// Where the policy comes from: one of the two.
fn policy(file: Option<PathBuf>, control: ControlArgs) -> Result<PolicyFrom, Failure> {
    let urls = control.control_url;
    match (file, urls.is_empty()) {
        (Some(path), true) => Ok(PolicyFrom::File(path)),
        (Some(_), false) => Err(Failure::configuration(
            "both --policy and --control-url are given: a node has its policy from a file or from a control plane; leave one of them out",
        )),
        (None, true) => Err(Failure::configuration(format!(
            "no policy file: give --policy FILE, set PAYFENCE_POLICY, or write policy = \"FILE\" in {FILE}; or name a control plane with \
             --control-url URL and --node-token-file FILE"
        ))),
        (None, false) => {
            let Some(token_file) = control.node_token_file else {
                return Err(Failure::configuration(
                    "--control-url without --node-token-file: give the file with this node's token, which the control plane makes with \
                     POST /v1/nodes/{node_id}/tokens",
                ));
            };
            Ok(PolicyFrom::Control(ControlFrom {
                urls,
                token_file,
                ca_file: control.control_ca,
                allow_private_origins: control.allow_private_origins == Some(Switch::On),
            }))
        }
    }
}

fn check_addresses(
    listen: &[SocketAddr],
    tls: Option<&TlsConfig>,
    admin: SocketAddr,
) -> Result<(), Failure> {
    let mut all = listen.to_vec();
    if let Some(tls) = tls {
        all.extend(tls.listen.iter().chain(&tls.redirect_listen));
    }
    if all.len() > LISTENERS_MAX {
        return Err(Failure::configuration(format!(
            "{} addresses to listen on; at most {LISTENERS_MAX} are allowed",
            all.len()
        )));
    }
    all.push(admin);
    for (position, address) in all.iter().enumerate() {
        // Port 0 takes a free one each time.
        if address.port() != 0 && all[..position].contains(address) {
            return Err(Failure::configuration(format!(
                "{address} is given twice: each of the gateway's listeners and the admin listener needs an address of its own"
            )));
        }
    }
    Ok(())
}

/// The directory a file is in.
pub fn beside(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("the defaults are addresses")
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
