//! Questions about the rows that are in ClickHouse.
//!
//! In: SQL with a `?` for each value, the values. Out: rows as JSON objects. Always holds: a value is written as a literal by the client
//! library, never pasted into a statement; every question has a deadline, and an answer is read up to a bound.

use clickhouse::error::Error;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::client::{Server, sink_error};
use super::schema::{self, Dialect};
use super::{ClickHouseConfig, ConfigError};
use crate::sink::{Outcome, SinkError};

/// An answer is no longer.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Questions that are longer than a server takes by itself ask it to take more.
const QUESTION_BYTES_LONG: usize = 200 << 10;

/// A value in a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A text.
    Text(String),
    /// Texts, for `IN ?` and as an array.
    Texts(Vec<String>),
    /// A number.
    Signed(i64),
    /// One of 64 bits without a sign.
    Unsigned(u64),
}

/// Expressions of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When a row was decided, Unix microseconds.
    pub us: &'static str,
    /// What the column `time` is compared with: a second, which is a value.
    pub second: &'static str,
}

/// A server that is asked.
pub struct Reader {
    server: Server,
    config: ClickHouseConfig,
    is_full: OnceCell<bool>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reader").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Reader {
    /// Nothing is asked yet. To be called within a runtime, which connections belong to.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn new(config: &ClickHouseConfig) -> Result<Self, ConfigError> {
        let server = Server::new(config)?;
        Ok(Self { server, config: config.clone(), is_full: OnceCell::new() })
    }

    /// How times are said, in the tables' form that the server has.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn times(&self) -> Result<Times, SinkError> {
        let ask = || async {
            let dialect = schema::dialect(&self.server, &self.config).await?;
            Ok::<_, SinkError>(dialect == Dialect::Full)
        };
        Ok(match self.is_full.get_or_try_init(ask).await? {
            // 26.9 finds no rows by some comparisons of a DateTime64 with a DateTime.
            true => {
                Times { us: "toUnixTimestamp64Micro(time)", second: "toDateTime64(?, 6, 'UTC')" }
            }
            false => Times {
                us: "(toInt64(toUnixTimestamp(time)) * 1000000 + toInt64(time_us))",
                second: "toDateTime(?)",
            },
        })
    }

    /// How many days the server keeps decisions; none where it keeps them for ever.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn days_kept(&self) -> Result<Option<u32>, SinkError> {
        schema::days_kept(&self.server, &self.config).await
    }

    /// The rows of an answer; numbers of 64 bits may be texts in them.
    ///
    /// # Errors
    /// When the server does not answer, or not with rows.
    pub async fn rows(
        &self,
        sql: &str,
        values: Vec<Bound>,
    ) -> Result<Vec<Map<String, Value>>, SinkError> {
        let length = |value: &Bound| match value {
            Bound::Text(text) => text.len(),
            Bound::Texts(texts) => texts.iter().map(|text| text.len() + 4).sum(),
            Bound::Signed(_) | Bound::Unsigned(_) => 20,
        };
        let bytes = sql.len() + values.iter().map(length).sum::<usize>();
        let mut query = self.server.query(sql);
        if bytes > QUESTION_BYTES_LONG {
            query = query.with_setting("max_query_size", (4 * bytes).to_string());
        }
        for value in values {
            query = match value {
                Bound::Text(text) => query.bind(text),
                Bound::Texts(texts) => query.bind(texts),
                Bound::Signed(number) => query.bind(number),
                Bound::Unsigned(number) => query.bind(number),
            };
        }
        let work = async {
            let mut answer = Vec::new();
            let mut cursor = query.fetch_bytes("JSONEachRow")?;
            while let Some(piece) = cursor.next().await? {
                answer.extend_from_slice(&piece);
                if answer.len() > ANSWER_BYTES_MAX {
                    return Err(Error::BadResponse("the answer is too long".to_owned()));
                }
            }
            Ok(answer)
        };
        let answer = match tokio::time::timeout(self.config.query_timeout, work).await {
            Ok(answer) => answer.map_err(sink_error)?,
            Err(_) => {
                let text = format!("no answer within {:?}", self.config.query_timeout);
                return Err(SinkError::new(Outcome::NotTaken, text));
            }
        };
        let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let read = |line| {
            serde_json::from_slice(line).map_err(|error| {
                SinkError::new(Outcome::NotTaken, format!("ClickHouse answered no rows: {error}"))
            })
        };
        lines.map(read).collect()
    }
}
