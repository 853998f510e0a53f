//! Questions about decisions and use, answered from the control plane's own tables.
//!
//! In: an account's own sites, what is asked. Out: rows and sums.
//! Always holds: every statement narrows by the account of [`OwnSites`] before anything else; what a caller sent is bound, never part
//! of a statement's text.

use policy::decision::Reason;
use sea_orm::{ConnectionTrait as _, DbBackend, QueryResult, Statement, Value};

use super::roll_up::NO_PERIOD;
use super::{OwnSites, number, ordered};
use crate::analytics::{
    Analytics, AnalyticsError, Decision, DecisionId, DecisionQuery, Group, Interval, Subject,
    Usage, UsageQuery, denials,
};
use crate::domain::usage::{COLUMNS, Figures};
use crate::storage::Store;
use crate::storage::error::{StorageError, StorageResult};

/// A statement that is being written.
struct Question {
    text: String,
    values: Vec<Value>,
}

impl Question {
    fn new(text: String) -> Self {
        Self { text, values: Vec::new() }
    }

    /// A value's mark.
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// A condition; `?` in it stands for the value.
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        let mark = self.bind(value);
        let condition = condition.replace('?', &mark);
        self.text.push_str(" AND ");
        self.text.push_str(&condition);
    }

    /// The account's rows; of one site where one was asked for.
    fn of(&mut self, sites: &OwnSites, account: &str, site: &str) {
        let mark = self.bind(sites.account_id());
        self.text.push_str(&format!(" WHERE {account} = {mark}"));
        if let Some(key) = sites.only() {
            self.and(&format!("{site} = ?"), key);
        }
    }

    /// Whose; `whose` and `why` are the tables with the columns.
    fn narrow(&mut self, subject: &Subject, whose: &str, why: &str) {
        let parts = [
            ("customer", &subject.customer),
            ("subscription", &subject.subscription),
            ("token", &subject.token),
            ("resource", &subject.resource),
        ];
        for (column, value) in parts {
            if let Some(value) = value {
                self.and(&format!("{whose}.{column} = ?"), value.as_str());
            }
        }
        if let Some(reasons) = &subject.reasons {
            let numbers: Vec<String> =
                reasons.iter().map(|reason| (*reason as u8).to_string()).collect();
            // An empty list is no SQL; no reason has this number.
            let numbers = if numbers.is_empty() { "-1".to_owned() } else { numbers.join(", ") };
            self.text.push_str(&format!(" AND {why}.reason IN ({numbers})"));
        }
    }

    async fn rows(self, store: &Store) -> StorageResult<Vec<QueryResult>> {
        let backend = store.database.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, self.text, self.values);
        Ok(store.database.query_all_raw(statement).await?)
    }
}

impl Analytics for Store {
    async fn decisions(
        &self,
        sites: &OwnSites,
        query: &DecisionQuery,
    ) -> Result<Vec<Decision>, AnalyticsError> {
        let text = "SELECT d.*, s.id AS site_id, n.name AS node FROM decisions d JOIN sites s ON s.key = d.site_key \
            JOIN nodes n ON n.key = d.node_key";
        let mut question = Question::new(text.to_owned());
        question.of(sites, "d.account_id", "d.site_key");
        question.narrow(&query.subject, "d", "d");
        if let Some(from_us) = query.from_us {
            question.and("d.time_us >= ?", from_us);
        }
        if let Some(until_us) = query.until_us {
            question.and("d.time_us < ?", until_us);
        }
        if let Some(after) = query.after {
            let marks = [
                question.bind(after.time_us),
                question.bind(ordered(after.epoch)),
                question.bind(i64::from(after.shard)),
                question.bind(ordered(after.seq)),
            ];
            let marks = marks.join(", ");
            question
                .text
                .push_str(&format!(" AND (d.time_us, d.epoch, d.shard, d.seq) < ({marks})"));
        }
        let limit = question.bind(i64::try_from(query.limit).unwrap_or(i64::MAX));
        question.text.push_str(&format!(
            " ORDER BY d.time_us DESC, d.epoch DESC, d.shard DESC, d.seq DESC LIMIT {limit}"
        ));
        let rows = question.rows(self).await?;
        Ok(rows.iter().map(decision).collect::<StorageResult<_>>()?)
    }

    async fn usage(
        &self,
        sites: &OwnSites,
        query: &UsageQuery,
    ) -> Result<Vec<Usage>, AnalyticsError> {
        let backend = self.database.get_database_backend();
        // By bytes, in both databases, whatever the language of one is.
        let collation = if backend == DbBackend::Postgres { " COLLATE \"C\"" } else { "" };
        let mut question = Question::new(sums(query, collation));
        question.of(sites, "s.account_id", "u.site_key");
        question.and("u.at_s >= ?", query.from_s);
        question.and("u.at_s < ?", query.until_s);
        question.narrow(&query.subject, "k", "u");
        if let Some(period) = query.period {
            question.and("u.period = ?", period);
        }
        let limit = question.bind(i64::try_from(query.limit).unwrap_or(i64::MAX));
        question.text.push_str(&format!(
            " GROUP BY bucket, grp ORDER BY bucket DESC, requests DESC, grp LIMIT {limit}"
        ));
        let rows = question.rows(self).await?;
        Ok(rows.iter().map(|row| usage(row, query)).collect::<StorageResult<_>>()?)
    }
}

/// The sums that are asked for, up to the conditions.
fn sums(query: &UsageQuery, collation: &str) -> String {
    let table = if query.is_by_minute { "usage_minutes" } else { "usage_days" };
    let bucket = match query.interval {
        Interval::Total => "0",
        Interval::Minute | Interval::Day => "u.at_s",
    };
    let group = match query.group {
        None => "''".to_owned(),
        Some(Group::Site) => "s.id".to_owned(),
        Some(Group::Customer) => "COALESCE(k.customer, '')".to_owned(),
        Some(Group::Subscription) => "COALESCE(k.subscription, '')".to_owned(),
        Some(Group::Token) => "COALESCE(k.token, '')".to_owned(),
        Some(Group::Resource) => "COALESCE(k.resource, '')".to_owned(),
        Some(Group::Reason) => by_reason(Reason::as_str),
        Some(Group::Verdict) => by_reason(verdict),
        Some(Group::Period) => {
            format!("(CASE WHEN u.period = {NO_PERIOD} THEN '' ELSE CAST(u.period AS TEXT) END)")
        }
    };
    let sums = COLUMNS.iter().map(|column| format!("CAST(SUM(u.{column}) AS BIGINT) AS {column}"));
    let denied = denials().map(|reason| {
        let number = reason as u8;
        format!(
            "CAST(SUM(CASE WHEN u.reason = {number} THEN u.requests ELSE 0 END) AS BIGINT) AS denied_{number}"
        )
    });
    let columns: Vec<String> = sums.chain(denied).collect();
    format!(
        "SELECT {bucket} AS bucket, {group}{collation} AS grp, {} FROM {table} u JOIN sites s ON s.key = u.site_key \
         JOIN usage_keys k ON k.site_key = u.site_key AND k.id = u.key_id",
        columns.join(", ")
    )
}

/// The word of a reason's number.
fn by_reason(word: impl Fn(Reason) -> &'static str) -> String {
    let cases: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| format!("WHEN {} THEN '{}'", *reason as u8, word(*reason)))
        .collect();
    format!("(CASE u.reason {} ELSE '' END)", cases.join(" "))
}

/// The word of a verdict.
fn verdict(reason: Reason) -> &'static str {
    match reason.verdict() {
        policy::decision::Verdict::Allow => "allow",
        policy::decision::Verdict::Deny => "deny",
    }
}

fn decision(row: &QueryResult) -> StorageResult<Decision> {
    let shard: i64 = row.try_get("", "shard")?;
    let reason: i64 = row.try_get("", "reason")?;
    let reason = usize::try_from(reason).ok().and_then(|number| Reason::ALL.get(number));
    let reason =
        reason.ok_or_else(|| StorageError::Broken("a decision's reason is none".to_owned()))?;
    Ok(Decision {
        id: DecisionId {
            time_us: row.try_get("", "time_us")?,
            epoch: number(row.try_get("", "epoch")?),
            shard: u16::try_from(shard).unwrap_or_default(),
            seq: number(row.try_get("", "seq")?),
        },
        site_id: row.try_get("", "site_id")?,
        node: row.try_get("", "node")?,
        customer: row.try_get("", "customer")?,
        subscription: row.try_get("", "subscription")?,
        period: row.try_get("", "period")?,
        token: row.try_get("", "token")?,
        plan: row.try_get("", "plan")?,
        resource: row.try_get("", "resource")?,
        method: row.try_get("", "method")?,
        path: row.try_get("", "path")?,
        protocol: row.try_get("", "protocol")?,
        reason: *reason,
        status: row.try_get("", "status")?,
        charge: row.try_get("", "charge")?,
        remaining: row.try_get("", "remaining")?,
        request_bytes: row.try_get("", "request_bytes")?,
        response_bytes: row.try_get("", "response_bytes")?,
        origin_us: row.try_get("", "origin_us")?,
        total_us: row.try_get("", "total_us")?,
        request_id: row.try_get("", "request_id")?,
        client: row.try_get("", "client")?,
    })
}

fn usage(row: &QueryResult, query: &UsageQuery) -> StorageResult<Usage> {
    let mut columns = [0; COLUMNS.len()];
    for (value, column) in columns.iter_mut().zip(COLUMNS) {
        *value = row.try_get("", column)?;
    }
    let mut denied = Vec::new();
    for reason in denials() {
        let requests: i64 = row.try_get("", &format!("denied_{}", reason as u8))?;
        if requests > 0 {
            denied.push((reason, requests));
        }
    }
    let group: String = row.try_get("", "grp")?;
    let at_s = match query.interval {
        Interval::Total => None,
        Interval::Minute | Interval::Day => Some(row.try_get("", "bucket")?),
    };
    Ok(Usage {
        at_s,
        group: Some(group).filter(|group| query.group.is_some() && !group.is_empty()),
        figures: Figures::of_columns(columns),
        denied,
    })
}
