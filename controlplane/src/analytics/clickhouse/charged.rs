//! What rows in ClickHouse have charged, for reconciliation.
//!
//! In: subscriptions of a site, a time. Out: units by subscription and period; how far back rows are kept.
//! Always holds: rows are those of the site while its slug was its own; times are compared with times of their own type.

use std::collections::BTreeMap;

use link::sink::clickhouse::{Bound, Times};

use super::{ClickHouse, Question, Values, away, second};
use crate::analytics::AnalyticsError;
use crate::domain::usage::ROW_MAX;
use crate::reconcile::{Asked, Charges};
use crate::storage::DAY_MS;

/// Clocks of nodes may be ahead of each other by so much.
const CLOCKS_S: i64 = 3_600;

impl ClickHouse {
    /// Units charged to subscriptions of a site, in periods that began at a time or later.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn charged(&self, asked: &Asked) -> Result<Charges, AnalyticsError> {
        let Times { us, second: at } = self.reader.times().await.map_err(away)?;
        let since_s = asked.since_s.saturating_sub(CLOCKS_S);
        let question = |text: String| {
            let mut question = Question { text, values: Vec::new() };
            question.of(&asked.sites, us);
            question.and(&format!("time >= {at}"), second(since_s));
            question
        };
        let sum = format!("sum(least(charge, toUInt64({ROW_MAX})))");
        let mut sums = question(format!(
            "SELECT toString(subscription) AS of, assumeNotNull(period) AS id, {sum} AS units FROM decisions"
        ));
        sums.text.push_str(" AND period IS NOT NULL AND ");
        sums.is_one_of("subscription", asked.references.clone());
        sums.text.push_str(" GROUP BY of, id");
        let mut units = BTreeMap::new();
        for row in self.rows(sums).await? {
            let row = Values(&row);
            units.insert((row.text("of")?, row.signed("id")?), row.signed("units")?);
        }
        let mut has_site = !units.is_empty();
        if !has_site {
            let mut any = question("SELECT 1 AS one FROM decisions".to_owned());
            any.text.push_str(" LIMIT ?");
            any.values.push(Bound::Unsigned(1));
            has_site = !self.rows(any).await?.is_empty();
        }
        let days = self.reader.days_kept().await.map_err(away)?;
        Ok(Charges { units, has_site, kept_ms: days.map(|days| i64::from(days) * DAY_MS) })
    }
}
