//! What a node is told about its decision journal.
//!
//! In: the flags about the journal, completed by environment and file. Out: a [`JournalConfig`], none where it is off.
//! Always holds: rows name a node, whatever this machine is called.

use dataplane::config::{ClickHouseConfig, JournalConfig, NdjsonConfig, Password, Sinks};

use crate::cli::{ClickHouseArgs, JournalArgs, SinkArgs, Switch};
use crate::failure::Failure;

/// Bytes that rows on disk may take where nobody says: some four million decisions.
const MIB_DEFAULT: u64 = 1024;
/// The name of a node on a machine without one.
const NODE_DEFAULT: &str = "payfence";

/// What the data plane is told; `has_control` says whether the node is one of a control plane's.
///
/// # Errors
/// When a password cannot be read, or a flag has no effect as it stands.
pub fn config(args: &JournalArgs, has_control: bool) -> Result<Option<JournalConfig>, Failure> {
    if args.journal.unwrap_or_default() == Switch::Off {
        return Ok(None);
    }
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let name = if name.is_empty() { NODE_DEFAULT } else { &name };
    let clickhouse = clickhouse_sink(&args.sinks)?;
    let control = control_sink(&args.sinks, has_control, clickhouse.is_some())?;
    Ok(Some(JournalConfig {
        node: args.node_name.clone().unwrap_or_else(|| name.to_owned()),
        spool_bytes: args.journal_max_mib.unwrap_or(MIB_DEFAULT) << 20,
        sinks: Sinks {
            clickhouse,
            ndjson: args.sinks.ndjson_dir.clone().map(NdjsonConfig::new),
            control,
        },
    }))
}

/// Whether decisions go to the control plane: whoever has them in ClickHouse need not have them in the control plane's database, too.
fn control_sink(args: &SinkArgs, has_control: bool, is_elsewhere: bool) -> Result<bool, Failure> {
    match args.control_decisions {
        Some(Switch::On) if !has_control => Err(Failure::configuration(
            "--control-decisions on has no effect without --control-url: give the control plane's address, or leave it out",
        )),
        Some(switch) => Ok(switch == Switch::On),
        None => Ok(has_control && !is_elsewhere),
    }
}

fn clickhouse_sink(args: &SinkArgs) -> Result<Option<ClickHouseConfig>, Failure> {
    let config = clickhouse(&args.clickhouse)?;
    if config.is_none() && args.clickhouse_ttl_days.is_some() {
        return Err(without_address());
    }
    Ok(config.map(|config| ClickHouseConfig { ttl_days: args.clickhouse_ttl_days, ..config }))
}

fn without_address() -> Failure {
    Failure::configuration(
        "flags about ClickHouse have no effect without --clickhouse-url: give it, such as http://127.0.0.1:8123, or leave them \
         out",
    )
}

/// The server that is meant, where one is.
///
/// # Errors
/// When the password cannot be read, or a flag has no effect as it stands.
pub fn clickhouse(args: &ClickHouseArgs) -> Result<Option<ClickHouseConfig>, Failure> {
    let Some(url) = &args.clickhouse_url else {
        let more = args.clickhouse_database.is_some()
            || args.clickhouse_user.is_some()
            || args.clickhouse_password_file.is_some()
            || args.clickhouse_ca.is_some();
        return if more { Err(without_address()) } else { Ok(None) };
    };
    let mut config = ClickHouseConfig::new(url);
    if let Some(database) = &args.clickhouse_database {
        config.database.clone_from(database);
    }
    if let Some(user) = &args.clickhouse_user {
        config.user.clone_from(user);
    }
    config.password = match &args.clickhouse_password_file {
        Some(file) => Some(Password::from_file(file).map_err(|error| {
            Failure::configuration(format!(
                "cannot read the ClickHouse password from {}: {error}; give a file whose first line it is",
                file.display()
            ))
        })?),
        // In the environment and not among the flags, where every user of the machine could read it.
        None => std::env::var(PASSWORD_VARIABLE).ok().map(Password::new),
    };
    config.ca_file.clone_from(&args.clickhouse_ca);
    // A wrong address is wrong use, told before anything starts.
    link::sink::clickhouse::ClickHouseSink::new(config.clone())
        .map_err(|error| Failure::configuration(error.to_string()))?;
    Ok(Some(config))
}

/// Where the ClickHouse password may be instead of in a file.
const PASSWORD_VARIABLE: &str = "PAYFENCE_CLICKHOUSE_PASSWORD";
