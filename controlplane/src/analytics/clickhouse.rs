//! Questions about decisions and use, answered from ClickHouse, where nodes export to it.
//!
//! In: an account's own sites, what is asked. Out: rows and sums of `decisions`.
//! Always holds: every question names the slugs of [`OwnSites`] and the time in which they were theirs, before anything else; what a
//! caller sent is bound, never part of a statement's text. Sums are of rows and not of roll-ups, which have no token and no fixed steps
//! of time.

mod charged;

use link::sink::clickhouse::{Bound, ClickHouseConfig, ConfigError, Reader, Times};
use policy::decision::Reason;
use serde_json::{Map, Value};

use super::{
    Analytics, AnalyticsError, Decision, DecisionId, DecisionQuery, Group, Interval, Subject,
    Usage, UsageQuery, denials,
};
use crate::domain::usage::{COLUMNS, Figures, ROW_MAX, STEPS, STEPS_US, counted};
use crate::storage::{OwnSites, SiteSpan};

/// Recent decisions are looked for within the last hour first, then day, then month: seconds.
const WINDOWS_S: [Option<i64>; 4] = [Some(3_600), Some(86_400), Some(30 * 86_400), None];

/// A ClickHouse server that nodes export to.
#[derive(Debug)]
pub struct ClickHouse {
    reader: Reader,
}

/// A statement that is being written.
struct Question {
    text: String,
    values: Vec<Bound>,
}

impl Question {
    fn and(&mut self, condition: &str, value: Bound) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
        self.values.push(value);
    }

    /// Rows of the account's own sites.
    fn of(&mut self, sites: &OwnSites, us: &str) {
        let (always, bounded): (Vec<_>, Vec<_>) = sites
            .spans()
            .iter()
            .partition(|span| span.from_ms.is_none() && span.until_ms.is_none());
        let slugs = always.into_iter().map(|span| span.slug.clone()).collect();
        self.text.push_str(" WHERE (");
        self.is_one_of("site", slugs);
        for span in bounded {
            self.text.push_str(" OR ");
            self.span(span, us);
        }
        self.text.push(')');
    }

    /// Rows of a site whose slug was another's before or is since.
    fn span(&mut self, span: &SiteSpan, us: &str) {
        self.text.push_str(&format!("(site = ? AND {us} >= ? AND {us} < ?)"));
        let us_of =
            |at_ms: Option<i64>, none| at_ms.map_or(none, |at_ms| at_ms.saturating_mul(1_000));
        self.values.push(Bound::Text(span.slug.clone()));
        self.values.push(Bound::Signed(us_of(span.from_ms, i64::MIN + 1)));
        self.values.push(Bound::Signed(us_of(span.until_ms, i64::MAX)));
    }

    fn narrow(&mut self, subject: &Subject) {
        let parts = [
            ("customer = ?", &subject.customer),
            ("subscription = ?", &subject.subscription),
            ("token_id = ?", &subject.token),
            ("resource = ?", &subject.resource),
        ];
        for (condition, value) in parts {
            if let Some(value) = value {
                self.and(condition, Bound::Text(value.clone()));
            }
        }
        if let Some(reasons) = &subject.reasons {
            let words = reasons.iter().map(|reason| reason.as_str().to_owned()).collect();
            self.text.push_str(" AND ");
            self.is_one_of("reason", words);
        }
    }

    /// Whether a column's text is one of these. A list without any has no type.
    fn is_one_of(&mut self, column: &str, texts: Vec<String>) {
        if texts.is_empty() {
            self.text.push('0');
        } else {
            self.text.push_str(&format!("has(?, toString({column}))"));
            self.values.push(Bound::Texts(texts));
        }
    }
}

/// A time as the table's index knows it: what lies outside of its type is before or after all rows.
fn second(at_s: i64) -> Bound {
    Bound::Signed(at_s.clamp(0, u32::MAX.into()))
}

impl ClickHouse {
    /// Nothing is asked yet. To be called within a runtime.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn new(config: &ClickHouseConfig) -> Result<Self, ConfigError> {
        Ok(Self { reader: Reader::new(config)? })
    }

    async fn rows(&self, question: Question) -> Result<Vec<Map<String, Value>>, AnalyticsError> {
        self.reader.rows(&question.text, question.values).await.map_err(away)
    }

    async fn within(
        &self,
        sites: &OwnSites,
        query: &DecisionQuery,
        window_s: Option<i64>,
    ) -> Result<Vec<Decision>, AnalyticsError> {
        let Times { us, second: at } = self.reader.times().await.map_err(away)?;
        let text = format!(
            "SELECT {us} AS us, node, epoch, shard, seq, site, customer, subscription, period, token_id, plan, resource, method, path, \
             protocol, reason, status, charge, remaining, request_bytes, response_bytes, origin_us, total_us, \
             lower(hex(request_id_bytes)) AS request, client FROM decisions"
        );
        let mut question = Question { text, values: Vec::new() };
        question.of(sites, us);
        question.narrow(&query.subject);
        if let Some(from_us) = query.from_us {
            question.and(&format!("time >= {at}"), second(from_us.div_euclid(1_000_000)));
            question.and(&format!("{us} >= ?"), Bound::Signed(from_us));
        }
        let after_us = query.after.map(|after| after.time_us);
        let until_us = [query.until_us, after_us].into_iter().flatten().min();
        if let Some(until_us) = until_us {
            question.and(&format!("time < {at}"), second(until_us.div_euclid(1_000_000) + 1));
        }
        if let Some(until_us) = query.until_us {
            question.and(&format!("{us} < ?"), Bound::Signed(until_us));
        }
        if let Some(after) = query.after {
            // Written out: engines differ in how they compare tuples of several types.
            question.text.push_str(&format!(
                " AND ({us} < ? OR {us} = ? AND (epoch < ? OR epoch = ? AND (shard < ? OR shard = ? AND seq < ?)))"
            ));
            let (time_us, shard) = (after.time_us, i64::from(after.shard));
            question.values.extend([
                Bound::Signed(time_us),
                Bound::Signed(time_us),
                Bound::Unsigned(after.epoch),
                Bound::Unsigned(after.epoch),
                Bound::Signed(shard),
                Bound::Signed(shard),
                Bound::Unsigned(after.seq),
            ]);
        }
        match (window_s, until_us) {
            (Some(window_s), Some(until_us)) => {
                let from_s = until_us.div_euclid(1_000_000) - window_s;
                question.and(&format!("time >= {at}"), second(from_s));
            }
            (Some(window_s), None) => question.and("time >= now() - ?", Bound::Signed(window_s)),
            (None, _) => {}
        }
        question.text.push_str(" ORDER BY us DESC, epoch DESC, shard DESC, seq DESC LIMIT ?");
        question.values.push(Bound::Unsigned(query.limit));
        let rows = self.rows(question).await?;
        rows.iter().map(|row| decision(row, sites)).collect()
    }
}

impl Analytics for ClickHouse {
    async fn decisions(
        &self,
        sites: &OwnSites,
        query: &DecisionQuery,
    ) -> Result<Vec<Decision>, AnalyticsError> {
        let mut found = Vec::new();
        for window_s in WINDOWS_S {
            found = self.within(sites, query, window_s).await?;
            if found.len() as u64 >= query.limit {
                break;
            }
        }
        Ok(found)
    }

    async fn usage(
        &self,
        sites: &OwnSites,
        query: &UsageQuery,
    ) -> Result<Vec<Usage>, AnalyticsError> {
        let Times { us, second: at } = self.reader.times().await.map_err(away)?;
        let mut question = sums(sites, query, us);
        question.of(sites, us);
        question.and(&format!("time >= {at}"), second(query.from_s));
        question.and(&format!("time < {at}"), second(query.until_s));
        question.narrow(&query.subject);
        if let Some(period) = query.period {
            question.and("period = ?", Bound::Signed(period));
        }
        question.text.push_str(" GROUP BY bucket, grp ORDER BY bucket DESC, f_0 DESC, grp LIMIT ?");
        question.values.push(Bound::Unsigned(query.limit));
        let rows = self.rows(question).await?;
        rows.iter().map(|row| usage(row, query)).collect()
    }
}

/// The sums that are asked for, up to the conditions.
fn sums(sites: &OwnSites, query: &UsageQuery, us: &str) -> Question {
    let mut question = Question { text: "SELECT ".to_owned(), values: Vec::new() };
    question.text.push_str(&match query.interval {
        Interval::Total => "toInt64(0)".to_owned(),
        Interval::Minute => format!("intDiv({us}, 60000000) * 60"),
        Interval::Day => format!("intDiv({us}, 86400000000) * 86400"),
    });
    question.text.push_str(" AS bucket, ");
    match query.group {
        None => question.text.push_str("''"),
        Some(Group::Site) => site_ids(&mut question, sites, us),
        Some(Group::Customer) => question.text.push_str("toString(customer)"),
        Some(Group::Subscription) => question.text.push_str("toString(subscription)"),
        Some(Group::Token) => question.text.push_str("toString(token_id)"),
        Some(Group::Resource) => question.text.push_str("toString(resource)"),
        Some(Group::Reason) => question.text.push_str("toString(reason)"),
        Some(Group::Verdict) => question.text.push_str("toString(verdict)"),
        Some(Group::Period) => question.text.push_str("ifNull(toString(period), '')"),
    }
    question.text.push_str(" AS grp");
    let sum = |column: &str| format!("sum(least({column}, toUInt64({ROW_MAX})))");
    let mut columns = vec![
        "count()".to_owned(),
        sum("charge"),
        sum("request_bytes"),
        sum("response_bytes"),
        sum("total_us"),
    ];
    columns.extend((0..STEPS).map(|step| {
        let above = step.checked_sub(1).and_then(|below| STEPS_US.get(below));
        let above = above.map_or("1".to_owned(), |above| format!("total_us > {above}"));
        let below = STEPS_US.get(step).map_or("1".to_owned(), |end| format!("total_us <= {end}"));
        format!("countIf({above} AND {below})")
    }));
    for (at, column) in columns.iter().enumerate() {
        question.text.push_str(&format!(", {column} AS f_{at}"));
    }
    for reason in denials() {
        let (word, number) = (reason.as_str(), reason as u8);
        question.text.push_str(&format!(", countIf(reason = '{word}') AS denied_{number}"));
    }
    question.text.push_str(" FROM decisions");
    question
}

/// The id of a row's site.
fn site_ids(question: &mut Question, sites: &OwnSites, us: &str) {
    let (always, bounded): (Vec<_>, Vec<_>) =
        sites.spans().iter().partition(|span| span.from_ms.is_none() && span.until_ms.is_none());
    let ends = ")".repeat(bounded.len());
    for span in bounded {
        question.text.push_str("if(");
        question.span(span, us);
        question.text.push_str(", ?, ");
        question.values.push(Bound::Text(span.id.clone()));
    }
    if always.is_empty() {
        question.text.push_str("''");
    } else {
        question.text.push_str("transform(toString(site), ?, ?, '')");
        let texts = |text: fn(&SiteSpan) -> String| always.iter().map(|span| text(span)).collect();
        question.values.push(Bound::Texts(texts(|span| span.slug.clone())));
        question.values.push(Bound::Texts(texts(|span| span.id.clone())));
    }
    question.text.push_str(&ends);
}

fn away(error: link::sink::SinkError) -> AnalyticsError {
    AnalyticsError::ClickHouse(error.text)
}

/// The values of a row.
struct Values<'a>(&'a Map<String, Value>);

impl Values<'_> {
    fn text(&self, name: &str) -> Result<String, AnalyticsError> {
        let text = self.0.get(name).and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| AnalyticsError::ClickHouse(format!("{name} is no text")))
    }

    /// A text that is none where it is empty, as rows have it there.
    fn text_opt(&self, name: &str) -> Result<Option<String>, AnalyticsError> {
        Ok(Some(self.text(name)?).filter(|text| !text.is_empty()))
    }

    /// A number; servers write those of 64 bits as texts or not.
    fn number_opt(&self, name: &str) -> Result<Option<i128>, AnalyticsError> {
        let number = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(Value::Number(number)) => number.as_i128(),
            Some(_) => None,
        };
        let bad = || AnalyticsError::ClickHouse(format!("{name} is no number"));
        number.map(Some).ok_or_else(bad)
    }

    fn number(&self, name: &str) -> Result<i128, AnalyticsError> {
        let bad = || AnalyticsError::ClickHouse(format!("{name} is missing"));
        self.number_opt(name)?.ok_or_else(bad)
    }

    fn signed(&self, name: &str) -> Result<i64, AnalyticsError> {
        Ok(i64::try_from(self.number(name)?).unwrap_or(i64::MAX))
    }

    fn unsigned(&self, name: &str) -> Result<u64, AnalyticsError> {
        Ok(u64::try_from(self.number(name)?).unwrap_or_default())
    }

    fn counted(&self, name: &str) -> Result<i64, AnalyticsError> {
        Ok(counted(self.unsigned(name)?))
    }

    fn counted_opt(&self, name: &str) -> Result<Option<i64>, AnalyticsError> {
        let number = self.number_opt(name)?;
        Ok(number.map(|number| counted(u64::try_from(number).unwrap_or_default())))
    }
}

fn decision(row: &Map<String, Value>, sites: &OwnSites) -> Result<Decision, AnalyticsError> {
    let row = Values(row);
    let (time_us, slug, word) = (row.signed("us")?, row.text("site")?, row.text("reason")?);
    let time_ms = time_us.div_euclid(1_000);
    let is_it = |span: &&SiteSpan| {
        span.slug == slug
            && span.from_ms.is_none_or(|from_ms| from_ms <= time_ms)
            && span.until_ms.is_none_or(|until_ms| time_ms < until_ms)
    };
    let site = sites.spans().iter().find(is_it);
    let site =
        site.ok_or_else(|| AnalyticsError::ClickHouse("a row of another site".to_owned()))?;
    let reason = Reason::ALL.iter().copied().find(|reason| reason.as_str() == word);
    let reason =
        reason.ok_or_else(|| AnalyticsError::ClickHouse(format!("{word} is no reason")))?;
    Ok(Decision {
        id: DecisionId {
            time_us,
            epoch: row.unsigned("epoch")?,
            shard: u16::try_from(row.number("shard")?).unwrap_or_default(),
            seq: row.unsigned("seq")?,
        },
        site_id: site.id.clone(),
        node: row.text("node")?,
        customer: row.text_opt("customer")?,
        subscription: row.text_opt("subscription")?,
        period: row.number_opt("period")?.map(|id| i64::try_from(id).unwrap_or(i64::MAX)),
        token: row.text_opt("token_id")?,
        plan: row.text_opt("plan")?,
        resource: row.text_opt("resource")?,
        method: row.text("method")?,
        path: row.text("path")?,
        protocol: row.text("protocol")?,
        reason,
        status: row.counted_opt("status")?,
        charge: row.counted("charge")?,
        remaining: row.counted_opt("remaining")?,
        request_bytes: row.counted("request_bytes")?,
        response_bytes: row.counted("response_bytes")?,
        origin_us: row.counted_opt("origin_us")?,
        total_us: row.counted("total_us")?,
        request_id: row.text("request")?,
        client: row.text_opt("client")?,
    })
}

fn usage(row: &Map<String, Value>, query: &UsageQuery) -> Result<Usage, AnalyticsError> {
    let row = Values(row);
    let mut columns = [0; COLUMNS.len()];
    for (at, value) in columns.iter_mut().enumerate() {
        *value = row.signed(&format!("f_{at}"))?;
    }
    let mut denied = Vec::new();
    for reason in denials() {
        let requests = row.signed(&format!("denied_{}", reason as u8))?;
        if requests > 0 {
            denied.push((reason, requests));
        }
    }
    let at_s = match query.interval {
        Interval::Total => None,
        Interval::Minute | Interval::Day => Some(row.signed("bucket")?),
    };
    let group = row.text_opt("grp")?.filter(|_| query.group.is_some());
    Ok(Usage { at_s, group, figures: Figures::of_columns(columns), denied })
}
