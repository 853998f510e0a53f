//! The decision log, and what it has charged.
//!
//! In: a site, subscriptions, a time. Out: units by subscription and period, as far as the log can know them.
//! Always holds: where the log is not (it is not shipped to whom is asked, or no longer kept) nothing is guessed; many
//! subscriptions are one question.

use std::collections::BTreeMap;
use std::pin::Pin;

use crate::analytics::{AnalyticsError, Backend};
use crate::storage::{OTHERS, OwnSites};

/// What is asked of the log: about some subscriptions of one site.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The site, and when its slug was its own.
    pub sites: OwnSites,
    /// The subscriptions' references.
    pub references: Vec<String>,
    /// When the earliest period that is asked about began, Unix seconds.
    pub since_s: i64,
}

/// What the log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// Units by the subscription's reference and the period's id.
    pub units: BTreeMap<(String, i64), i64>,
    /// Whether it has anything of the site since then. One that has nothing may not be where nodes send it.
    pub has_site: bool,
    /// How long rows are kept, milliseconds; none where they are kept for ever.
    pub kept_ms: Option<i64>,
}

/// How much the log knows of a subscription's period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// So many units were charged.
    All(i64),
    /// At least so many and no more than so many: the rest is counted with that of others.
    Between(i64, i64),
    /// It cannot be known.
    Nothing,
}

impl Charges {
    /// What is known of a subscription in a period that began so long ago, milliseconds.
    #[must_use]
    pub fn of(&self, reference: &str, period: i64, age_ms: i64) -> Known {
        if !self.has_site || self.kept_ms.is_some_and(|kept_ms| age_ms >= kept_ms) {
            return Known::Nothing;
        }
        let units = |name: &str| self.units.get(&(name.to_owned(), period)).copied();
        let own = units(reference).unwrap_or_default();
        match units(OTHERS) {
            Some(others) if others > 0 => Known::Between(own, own.saturating_add(others)),
            _ => Known::All(own),
        }
    }
}

/// An answer, later.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Charges, AnalyticsError>> + Send + 'a>>;

/// Who knows what the decision log has charged.
pub trait DecisionLog: Send + Sync {
    /// Units charged to subscriptions of a site, in periods that began at a time or later.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn charged<'a>(&'a self, asked: &'a Asked) -> Answer<'a>;
}

/// Nobody does.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDecisions;

impl DecisionLog for NoDecisions {
    fn charged<'a>(&'a self, _: &'a Asked) -> Answer<'a> {
        Box::pin(async { Ok(Charges::default()) })
    }
}

/// Whoever answers `GET /v1/usage`: ClickHouse where there is one, else what nodes ship to the control plane.
impl DecisionLog for Backend {
    fn charged<'a>(&'a self, asked: &'a Asked) -> Answer<'a> {
        Box::pin(async move {
            match self {
                Self::Sql { store, kept } => Ok(store.decisions_charged(asked, kept).await?),
                Self::ClickHouse(server) => server.charged(asked).await,
            }
        })
    }
}
