//! Rows in ClickHouse: the table `decisions` and its roll-ups per minute and per day.
//!
//! In: batches. Out: one INSERT of one block for each month of a batch. Always holds: a row is in `decisions` and in each roll-up
//! once, and when a server dies between them the roll-ups are made up for (see `settle.rs`); an INSERT that arrives late does
//! nothing, since its rows say until when they may be stored; no text of an error holds a password.

mod client;
mod compare;
mod groups;
mod probe;
mod read;
mod rows;
mod schema;
mod settle;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::compare::{AskError, Comparison, Part};
pub use self::probe::{Probe, probe};
pub use self::read::{Bound, Reader, Times};

use self::client::Server;
use self::groups::{Group, groups, is_of_one_month};
use self::schema::{Dialect, View};
use self::settle::Marks;
use super::{Outcome, Sink, SinkError};
use crate::ship::{Batch, Held, Position, RowAt};

/// Where the server is and who asks.
#[derive(Clone, Debug)]
pub struct ClickHouseConfig {
    /// `http://` or `https://`, a host and a port; nothing else.
    pub url: String,
    /// The database; made where it is missing and may be.
    pub database: String,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: Option<Password>,
    /// Rows of `decisions` go after so many days, where the server knows how; `None` keeps them.
    pub ttl_days: Option<u16>,
    /// Whether rows are compressed (LZ4) on their way.
    pub is_compressed: bool,
    /// Certificates (PEM) of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long an INSERT may take from its first byte to its answer. The server's clock and this together say when an INSERT that
    /// was given up can do nothing any more; after a lost answer the sink waits that long where rows are missing.
    pub insert_timeout: Duration,
    /// How long anything else may take.
    pub query_timeout: Duration,
}

impl ClickHouseConfig {
    /// Database `payfence`, user `default`, compressed, rows kept.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            database: "payfence".into(),
            user: "default".into(),
            password: None,
            ttl_days: None,
            is_compressed: true,
            ca_file: None,
            insert_timeout: Duration::from_secs(30),
            query_timeout: Duration::from_secs(10),
        }
    }
}

/// A password, which nothing prints.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    const FILE_BYTES_MAX: u64 = 4_096;

    /// As given.
    #[must_use]
    pub const fn new(password: String) -> Self {
        Self(password)
    }

    /// The first line of a file.
    ///
    /// # Errors
    /// When it cannot be read, is no text, or is longer than 4 KiB.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        File::open(path)?.take(Self::FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > Self::FILE_BYTES_MAX {
            return Err(io::Error::other("longer than 4096 bytes: not a password"));
        }
        Ok(Self(text.lines().next().unwrap_or_default().to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The address.
    #[error(
        "the ClickHouse address must be http:// or https://, a host and perhaps a port, without user, path or query"
    )]
    Url,
    /// The database's name.
    #[error("the ClickHouse database must be 1 to 64 of a-z, A-Z, 0-9 and _")]
    Database,
    /// The authorities.
    #[error("the certificates to trust ClickHouse by cannot be had: {0}")]
    Authorities(String),
}

/// Rows in ClickHouse.
pub struct ClickHouseSink {
    config: ClickHouseConfig,
    server: Server,
    /// `None` until the server has said what it is.
    dialect: Option<Dialect>,
    /// Rows of the batch that begins there which roll-ups have, perhaps before `decisions` has.
    ahead: (Position, Marks),
}

impl ClickHouseSink {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// When the configuration cannot work whatever the server says.
    pub fn new(config: ClickHouseConfig) -> Result<Self, ConfigError> {
        let server = Server::new(&config)?;
        Ok(Self { config, server, dialect: None, ahead: Default::default() })
    }

    fn dialect(&self) -> Result<Dialect, SinkError> {
        self.dialect.ok_or_else(|| {
            SinkError::new(Outcome::NotTaken, "the ClickHouse server was not asked what it is")
        })
    }

    async fn send_group(&mut self, batch: &Batch, group: &Group<'_>) -> Result<(), SinkError> {
        let dialect = self.dialect()?;
        let mask = View::ALL
            .iter()
            .filter(|view| !group.ahead.contains(view))
            .fold(0, |mask, view| mask | view.bit());
        self.server.insert(batch, &group.rows, dialect, mask).await
    }
}

impl Sink for ClickHouseSink {
    async fn prepare(&mut self) -> Result<(), SinkError> {
        self.server.read_clock().await?;
        let dialect = schema::apply(&self.server, &self.config).await?;
        if self.dialect.replace(dialect) != Some(dialect) {
            let url = &self.config.url;
            tracing::info!("ClickHouse at {url}: schema in {} form", dialect.as_str());
        }
        Ok(())
    }

    async fn send(&mut self, batch: &Batch, rows: &[RowAt]) -> Result<(), SinkError> {
        if self.ahead.0 != batch.start {
            self.ahead = (batch.start, Marks::default());
        }
        let (_, ahead) = &self.ahead;
        let is_all = rows.len() == batch.rows.len() && ahead.is_empty();
        if is_all && is_of_one_month(batch) {
            return self.send_group(batch, &Group::whole(rows)).await;
        }
        let groups = groups(batch, rows, |row, month_s| {
            ahead.views_with(batch.stream_of(row), row.seq, month_s)
        });
        for group in &groups {
            self.send_group(batch, group).await?;
        }
        Ok(())
    }

    async fn held(&mut self, batch: &Batch) -> Result<Held, SinkError> {
        self.settle(batch).await
    }
}

#[cfg(test)]
#[path = "clickhouse_tests.rs"]
mod tests;
