//! Whether a ClickHouse server could be a sink: `payfence doctor`.
//!
//! In: a configuration. Out: what the server says of itself. Always holds: nothing is made or changed there.

use super::client::Server;
use super::compare::AskError;
use super::{ClickHouseConfig, schema};

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its version.
    pub version: String,
    /// The form that the schema has there, or would have: `full` or `reduced`.
    pub form: &'static str,
    /// The last step of the schema that was carried out; none before the first start of a node.
    pub schema: Option<u32>,
    /// The last step there is.
    pub schema_wanted: u32,
    /// Its clock, Unix seconds.
    pub now_s: u32,
}

/// Asks the server.
///
/// # Errors
/// When the configuration cannot work, or the server does not answer or not let this user ask.
pub fn probe(config: &ClickHouseConfig) -> Result<Probe, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut server = Server::new(config)?;
        let now_s = server.read_clock().await?;
        let version: Vec<String> = server.rows_anywhere("SELECT version()").await?;
        let dialect = schema::dialect(&server, config).await?;
        // Where it is not there yet, that is no error.
        let schema = server.rows::<u32>("SELECT max(version) FROM payfence_migrations").await;
        Ok(Probe {
            version: version.into_iter().next().unwrap_or_default(),
            form: dialect.as_str(),
            schema: schema.ok().and_then(|steps| steps.first().copied()),
            schema_wanted: dialect.last_step(),
            now_s,
        })
    })
}
