//! Talking to a ClickHouse server.
//!
//! In: SQL, rows. Out: answers, and errors that say what they mean for the rows. Always holds: everything has a deadline; an INSERT
//! has an id that says whose it is, and its rows say until when they may be stored.

use std::time::Duration;

use bytes::Bytes;
use clickhouse::error::Error;
use clickhouse::insert_formatted::{CompressedData, InsertFormatted};
use clickhouse::query::Query;
use clickhouse::{Client, Compression, RowOwned, RowRead};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::Instant;

use super::rows::{self, Common};
use super::schema::Dialect;
use super::{ClickHouseConfig, ConfigError};
use crate::ship::{Batch, RowAt};
use crate::sink::{Outcome, SinkError};
use crate::tls;

/// Servers close idle connections after 3 s, in their old default; a request on one that is being closed leaves a doubt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows are handed over in pieces of about so many bytes.
const PIECE_BYTES: usize = 128 << 10;
/// More than any row needs.
const PIECE_SPARE_BYTES: usize = 10 << 10;
/// Rows of one block: more than a batch has, so that the server makes one block of one INSERT.
const BLOCK_ROWS: &str = "1000000000";
const BLOCK_BYTES: &str = "4000000000";

/// A server, and what is known of its time.
pub(super) struct Server {
    client: Client,
    /// Without the database: it may not be there yet.
    anywhere: Client,
    compression: Compression,
    insert_timeout: Duration,
    query_timeout: Duration,
    /// The server's clock when it was read, Unix seconds, and when that was.
    clock: (u32, Instant),
    /// No INSERT of this sink begins once the server's clock is past this; `None` until it was read.
    quiet_after_s: Option<u32>,
    /// What the ids of this process' INSERTs begin with, and how many there were.
    id: u64,
    inserts: u64,
}

impl Server {
    pub(super) fn new(config: &ClickHouseConfig) -> Result<Self, ConfigError> {
        check(config)?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let mut http = HttpClient::builder(TokioExecutor::new());
        http.pool_idle_timeout(IDLE_TIMEOUT).pool_timer(hyper_util::rt::TokioTimer::new());
        let client = if config.url.starts_with("https:") {
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(
                    tls::client_config(config.ca_file.as_deref())
                        .map_err(ConfigError::Authorities)?,
                )
                .https_only()
                .enable_http1()
                .wrap_connector(connector);
            Client::with_http_client(http.build(connector))
        } else {
            Client::with_http_client(http.build(connector))
        };
        let compression = if config.is_compressed { Compression::Lz4 } else { Compression::None };
        let mut anywhere = client
            .with_url(&config.url)
            .with_user(&config.user)
            .with_validation(false)
            .with_compression(compression);
        if let Some(password) = &config.password {
            anywhere = anywhere.with_password(&password.0);
        }
        Ok(Self {
            client: anywhere.clone().with_database(&config.database),
            anywhere,
            compression,
            insert_timeout: config.insert_timeout,
            query_timeout: config.query_timeout,
            clock: (0, Instant::now()),
            quiet_after_s: None,
            id: getrandom::u64().unwrap_or(0),
            inserts: 0,
        })
    }

    /// Reads the server's clock, which is the only one that counts here.
    pub(super) async fn read_clock(&mut self) -> Result<u32, SinkError> {
        let asked = Instant::now();
        let now: Vec<u32> = self.rows_anywhere("SELECT toUInt32(now())").await?;
        let now_s = now.first().copied().unwrap_or(0);
        self.clock = (now_s, asked);
        // An earlier process of this node may have sent something just before it ended.
        let earliest = now_s.saturating_add(self.validity_s());
        self.quiet_after_s.get_or_insert(earliest);
        Ok(now_s)
    }

    /// Whether no INSERT of this node can still store anything.
    pub(super) async fn is_quiet(&mut self, node: &str) -> Result<bool, SinkError> {
        let now_s = self.read_clock().await?;
        if self.quiet_after_s.is_none_or(|quiet_after_s| now_s <= quiet_after_s) {
            return Ok(false);
        }
        let running = format!(
            "SELECT count() FROM system.processes WHERE position(query_id, {}) = 1",
            quote(&id_prefix(node))
        );
        let running: Vec<u64> = self.rows(&running).await?;
        Ok(running.first() == Some(&0))
    }

    /// Asks the server to give up INSERTs of this node that still run. It may lack the right to; then they end by themselves.
    pub(super) async fn give_up_inserts(&self, node: &str) {
        let prefix = quote(&id_prefix(node));
        let kill = format!("KILL QUERY WHERE position(query_id, {prefix}) = 1");
        if let Err(error) = self.execute(&kill).await {
            tracing::debug!("KILL QUERY: {error}");
        }
    }

    fn validity_s(&self) -> u32 {
        u32::try_from(self.insert_timeout.as_secs()).unwrap_or(u32::MAX).saturating_add(2)
    }

    /// The server's clock when an INSERT that is sent now is not worth storing any more, Unix seconds.
    fn valid_until_s(&self) -> u32 {
        let passed = u32::try_from(self.clock.1.elapsed().as_secs()).unwrap_or(u32::MAX);
        self.clock.0.saturating_add(passed).saturating_add(self.validity_s())
    }

    /// One INSERT of rows.
    pub(super) async fn insert(
        &mut self,
        batch: &Batch,
        rows: &[RowAt],
        dialect: Dialect,
        roll_ups: u8,
    ) -> Result<(), SinkError> {
        let valid_until_s = self.valid_until_s();
        let sql = format!("INSERT INTO decisions ({}) FORMAT RowBinary", rows::columns(dialect));
        let mut insert = self.client.insert_formatted_with(sql);
        for (name, value) in self.insert_settings(&batch.node, dialect) {
            insert = insert.with_setting(name, value);
        }
        let common = Common { dialect, valid_until_s, roll_ups };
        let compression = self.compression;
        let work = async {
            let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_SPARE_BYTES);
            for at in rows {
                let row = batch.read(at).map_err(|error| {
                    SinkError::new(Outcome::Rejected, format!("a row cannot be read: {error}"))
                })?;
                rows::write(&mut piece, &row, batch.origin_of(at), common);
                if piece.len() >= PIECE_BYTES {
                    send_piece(&mut insert, &piece, compression).await.map_err(sink_error)?;
                    piece.clear();
                }
            }
            send_piece(&mut insert, &piece, compression).await.map_err(sink_error)?;
            insert.end().await.map_err(sink_error)
        };
        let result = tokio::time::timeout(self.insert_timeout, work).await;
        self.note_answer(result, valid_until_s)
    }

    /// A statement that stores something, valid until a time that `sql` is given: `INSERT … SELECT`.
    pub(super) async fn insert_select(
        &mut self,
        node: &str,
        dialect: Dialect,
        sql: impl FnOnce(u32) -> String,
    ) -> Result<(), SinkError> {
        let valid_until_s = self.valid_until_s();
        let mut query = self.client.query_raw(&sql(valid_until_s));
        for (name, value) in self.insert_settings(node, dialect) {
            query = query.with_setting(name, value);
        }
        let work = async { query.execute().await.map_err(sink_error) };
        let result = tokio::time::timeout(self.insert_timeout, work).await;
        self.note_answer(result, valid_until_s)
    }

    /// Whether an INSERT may still be on its way after this outcome.
    fn note_answer(
        &mut self,
        result: Result<Result<(), SinkError>, tokio::time::error::Elapsed>,
        valid_until_s: u32,
    ) -> Result<(), SinkError> {
        let timeout = self.insert_timeout;
        let result = result.unwrap_or_else(|_| {
            let text = format!("ClickHouse did not answer an INSERT within {timeout:?}");
            Err(SinkError::new(Outcome::Doubtful, text))
        });
        let is_over = match &result {
            Ok(()) => true,
            Err(error) => error.outcome == Outcome::NotTaken || exception(&error.text).is_some(),
        };
        if !is_over {
            self.quiet_after_s = self.quiet_after_s.max(Some(valid_until_s));
        }
        result
    }

    fn insert_settings(&mut self, node: &str, dialect: Dialect) -> Vec<(&'static str, String)> {
        self.inserts += 1;
        let id = format!("{}{:016x}-{}", id_prefix(node), self.id, self.inserts);
        let mut settings = vec![
            ("query_id", id),
            // The status says how all of it ended, not how it began.
            ("wait_end_of_query", "1".into()),
            ("max_insert_block_size", BLOCK_ROWS.into()),
            ("min_insert_block_size_rows", BLOCK_ROWS.into()),
            ("min_insert_block_size_bytes", BLOCK_BYTES.into()),
        ];
        if dialect == Dialect::Full {
            // What is stored is stored when the answer comes, and a block like an earlier one is no duplicate.
            settings.push(("async_insert", "0".into()));
            settings.push(("insert_deduplicate", "0".into()));
            settings.push(("max_insert_threads", "1".into()));
            settings.push(("max_threads", "1".into()));
        }
        settings
    }

    /// A question whose values are bound afterwards.
    pub(super) fn query(&self, sql: &str) -> Query {
        self.client.query(sql)
    }

    pub(super) async fn execute(&self, sql: &str) -> Result<(), SinkError> {
        self.within(self.client.query_raw(sql).execute()).await
    }

    pub(super) async fn execute_anywhere(&self, sql: &str) -> Result<(), SinkError> {
        self.within(self.anywhere.query_raw(sql).execute()).await
    }

    pub(super) async fn rows<T: RowOwned + RowRead>(&self, sql: &str) -> Result<Vec<T>, SinkError> {
        self.within(self.client.query_raw(sql).fetch_all()).await
    }

    pub(super) async fn rows_anywhere<T: RowOwned + RowRead>(
        &self,
        sql: &str,
    ) -> Result<Vec<T>, SinkError> {
        self.within(self.anywhere.query_raw(sql).fetch_all()).await
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, SinkError> {
        match tokio::time::timeout(self.query_timeout, work).await {
            Ok(result) => result.map_err(sink_error),
            Err(_) => Err(SinkError::new(
                Outcome::Doubtful,
                format!("ClickHouse did not answer within {:?}", self.query_timeout),
            )),
        }
    }
}

/// Sends a piece of an INSERT. It is compressed from where it is, so that its buffer can take the next.
async fn send_piece(
    insert: &mut InsertFormatted,
    piece: &[u8],
    compression: Compression,
) -> Result<(), Error> {
    match compression {
        Compression::None => insert.send(Bytes::copy_from_slice(piece)).await,
        _ => insert.send_compressed(CompressedData::new(piece, compression)?).await,
    }
}

fn id_prefix(node: &str) -> String {
    format!("payfence/{node}/")
}

/// A string literal.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn check(config: &ClickHouseConfig) -> Result<(), ConfigError> {
    let rest = config.url.strip_prefix("http://").or_else(|| config.url.strip_prefix("https://"));
    let rest = rest.ok_or(ConfigError::Url)?.trim_end_matches('/');
    if rest.is_empty() || rest.contains(['@', '/', '?', '#', ' ']) || !rest.is_ascii() {
        return Err(ConfigError::Url);
    }
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !(1..=64).contains(&config.database.len()) || !config.database.bytes().all(is_word) {
        return Err(ConfigError::Database);
    }
    Ok(())
}

/// The number of the exception that the server's text tells of.
fn exception(text: &str) -> Option<u32> {
    let at = text.find("Code: ")?;
    let digits = text.get(at + "Code: ".len()..)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// What an error means for the rows of an INSERT.
pub(super) fn sink_error(error: Error) -> SinkError {
    let outcome = match &error {
        Error::BadResponse(text) => match exception(text) {
            // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: too late; TOO_MANY_SIMULTANEOUS_QUERIES; users and passwords.
            Some(395 | 202 | 192..=194 | 516) => Outcome::NotTaken,
            // Parsing, values and types: see ErrorCodes.cpp.
            Some(6 | 25..=28 | 32 | 33 | 38 | 41 | 53 | 69 | 70 | 72 | 117 | 131 | 349 | 469) => {
                Outcome::Rejected
            }
            _ => Outcome::Doubtful,
        },
        Error::Network(cause) if is_connect(cause.as_ref()) => Outcome::NotTaken,
        _ => Outcome::Doubtful,
    };
    let mut text = format!("ClickHouse: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    SinkError::new(outcome, text)
}

/// Whether not even a connection was made.
fn is_connect(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<hyper_util::client::legacy::Error>()
        .is_some_and(hyper_util::client::legacy::Error::is_connect)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
