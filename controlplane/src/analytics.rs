//! Questions about decisions and use, and who answers them: the control plane's own database, or ClickHouse.
//!
//! In: an account's own sites, what is asked. Out: decisions, newest first; sums.
//! Always holds: nothing can be asked without [`OwnSites`], which only the account's view of the database makes; both implementations
//! answer alike over the same rows.

mod clickhouse;

use std::fmt;
use std::sync::Arc;

pub use clickhouse::ClickHouse;
use policy::decision::Reason;

use crate::domain::usage::Figures;
use crate::storage::{OwnSites, Retention, StorageError, Store};

/// What a decision is known by: when it was decided and which row of which shard it is. Its order is that of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionId {
    /// When, Unix microseconds.
    pub time_us: i64,
    /// The start of the node.
    pub epoch: u64,
    /// The shard.
    pub shard: u16,
    /// The row's number there.
    pub seq: u64,
}

const ID_PREFIX: &str = "dec_";

impl fmt::Display for DecisionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time_us, epoch, shard, seq } = self;
        let time_us = time_us.cast_unsigned();
        write!(formatter, "{ID_PREFIX}{time_us:016x}{epoch:016x}{shard:04x}{seq:016x}")
    }
}

impl DecisionId {
    /// From its text; none where that is another.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(ID_PREFIX)?;
        let is_plain = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() != 52 || !is_plain {
            return None;
        }
        let part = |from, to| u64::from_str_radix(digits.get(from..to)?, 16).ok();
        Some(Self {
            time_us: part(0, 16)?.cast_signed(),
            epoch: part(16, 32)?,
            shard: u16::try_from(part(32, 36)?).ok()?,
            seq: part(36, 52)?,
        })
    }
}

/// Whose decisions; each narrows further.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The customer's reference.
    pub customer: Option<String>,
    /// The subscription's reference.
    pub subscription: Option<String>,
    /// The token's reference.
    pub token: Option<String>,
    /// The resource's pattern.
    pub resource: Option<String>,
    /// Of these reasons; none: of all.
    pub reasons: Option<Vec<Reason>>,
}

/// Which decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecisionQuery {
    /// Whose.
    pub subject: Subject,
    /// From then on, Unix microseconds.
    pub from_us: Option<i64>,
    /// Before then.
    pub until_us: Option<i64>,
    /// The one to go on after.
    pub after: Option<DecisionId>,
    /// At most so many.
    pub limit: u64,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What it is known by.
    pub id: DecisionId,
    /// The site's id.
    pub site_id: String,
    /// The node's name.
    pub node: String,
    /// The customer's reference.
    pub customer: Option<String>,
    /// The subscription's.
    pub subscription: Option<String>,
    /// The number of the period that was charged.
    pub period: Option<i64>,
    /// The token's reference.
    pub token: Option<String>,
    /// The plan's.
    pub plan: Option<String>,
    /// The pattern that decided.
    pub resource: Option<String>,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// `http/1.1`.
    pub protocol: String,
    /// Why.
    pub reason: Reason,
    /// The status sent.
    pub status: Option<i64>,
    /// Units.
    pub charge: i64,
    /// Units left after it.
    pub remaining: Option<i64>,
    /// Bytes of the body.
    pub request_bytes: i64,
    /// Bytes of the answer's body.
    pub response_bytes: i64,
    /// The origin's part of the time, microseconds.
    pub origin_us: Option<i64>,
    /// All of the time.
    pub total_us: i64,
    /// 32 hex digits.
    pub request_id: String,
    /// The client's address, where it is logged.
    pub client: Option<String>,
}

/// How sums are cut by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// A minute.
    Minute,
    /// A day, UTC.
    Day,
    /// Not at all.
    Total,
}

/// What sums are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The site's id.
    Site,
    /// The customer's reference.
    Customer,
    /// The subscription's reference.
    Subscription,
    /// The token's reference.
    Token,
    /// The resource's pattern.
    Resource,
    /// The reason.
    Reason,
    /// `allow` or `deny`.
    Verdict,
    /// The number of the quota period.
    Period,
}

/// Which sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// Of whose decisions.
    pub subject: Subject,
    /// Charged to this period alone.
    pub period: Option<i64>,
    /// From then on, Unix seconds; at the beginning of a minute or a day, as the sums are kept by.
    pub from_s: i64,
    /// Before then, likewise.
    pub until_s: i64,
    /// Whether sums by the minute are needed: times that are no days' beginnings.
    pub is_by_minute: bool,
    /// How they are cut.
    pub interval: Interval,
    /// What they are made by.
    pub group: Option<Group>,
    /// At most so many.
    pub limit: u64,
}

/// Sums over some decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The beginning of the minute or day, Unix seconds; none for all of the time.
    pub at_s: Option<i64>,
    /// What they are of, by [`UsageQuery::group`]; none where that is not known, as of requests without a token.
    pub group: Option<String>,
    /// The sums.
    pub figures: Figures,
    /// How many were denied for which reason, by the reasons' numbers.
    pub denied: Vec<(Reason, i64)>,
}

/// Reasons for which requests are denied, by their numbers.
pub fn denials() -> impl Iterator<Item = Reason> {
    let is_denial = |reason: &Reason| reason.verdict() == policy::decision::Verdict::Deny;
    Reason::ALL.iter().copied().filter(is_denial)
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnalyticsError {
    /// The control plane's own database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// ClickHouse does not answer, or cannot.
    #[error("ClickHouse: {0}")]
    ClickHouse(String),
}

/// Who answers.
pub trait Analytics {
    /// Decisions, newest first.
    ///
    /// # Errors
    /// When nobody can be asked.
    fn decisions(
        &self,
        sites: &OwnSites,
        query: &DecisionQuery,
    ) -> impl Future<Output = Result<Vec<Decision>, AnalyticsError>> + Send;

    /// Sums: the newest minute or day first, and of it what has most requests.
    ///
    /// # Errors
    /// When nobody can be asked.
    fn usage(
        &self,
        sites: &OwnSites,
        query: &UsageQuery,
    ) -> impl Future<Output = Result<Vec<Usage>, AnalyticsError>> + Send;
}

/// One of the two.
#[derive(Clone, Debug)]
pub enum Backend {
    /// The control plane's own database, from what nodes ship to it.
    Sql {
        /// The database.
        store: Store,
        /// How much it keeps.
        kept: Retention,
    },
    /// ClickHouse, to which nodes export.
    ClickHouse(Arc<ClickHouse>),
}

impl Backend {
    /// How long use is kept by the minute, milliseconds; none: as long as decisions themselves.
    #[must_use]
    pub fn minutes_kept_ms(&self) -> Option<i64> {
        match self {
            Self::Sql { kept, .. } => Some(kept.minutes_ms),
            Self::ClickHouse(_) => None,
        }
    }
}

impl Analytics for Backend {
    async fn decisions(
        &self,
        sites: &OwnSites,
        query: &DecisionQuery,
    ) -> Result<Vec<Decision>, AnalyticsError> {
        if sites.spans().is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Sql { store, .. } => store.decisions(sites, query).await,
            Self::ClickHouse(server) => server.decisions(sites, query).await,
        }
    }

    async fn usage(
        &self,
        sites: &OwnSites,
        query: &UsageQuery,
    ) -> Result<Vec<Usage>, AnalyticsError> {
        if sites.spans().is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Sql { store, .. } => store.usage(sites, query).await,
            Self::ClickHouse(server) => server.usage(sites, query).await,
        }
    }
}

#[cfg(test)]
#[path = "analytics_tests.rs"]
mod tests;
