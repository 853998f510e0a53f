//! Use: what its endpoint shows, and of which time.
//!
//! In: sums, periods of the ledger, times. Out: views; the time that is meant.
//! Always holds: sums are of whole minutes or whole days, as they are kept; what was used of a quota is the ledger's word alone, sums
//! of the log stand beside it.

pub mod get;

use std::collections::BTreeMap;

use policy::budget::Account as LedgerAccount;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::analytics::{Group, Interval, Usage};
use crate::api::time::shown;
use crate::domain::policy_text::Fault;
use crate::domain::usage::STEPS_US;

const MINUTE_S: i64 = 60;
const DAY_S: i64 = 86_400;
/// The longest time that is cut into minutes, seconds.
const MINUTES_MAX_S: i64 = 7 * DAY_S;
/// The longest time that is looked at, seconds.
const SPAN_MAX_S: i64 = 800 * DAY_S;
/// How far a named period is looked for, seconds: a year and some.
pub const PERIOD_SPAN_S: i64 = 400 * DAY_S;

/// How sums are cut by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntervalWord {
    /// One for each minute that has any.
    Minute,
    /// One for each day (UTC) that has any.
    Day,
    /// One for all of the time.
    #[default]
    Total,
}

impl IntervalWord {
    const fn interval(self) -> Interval {
        match self {
            Self::Minute => Interval::Minute,
            Self::Day => Interval::Day,
            Self::Total => Interval::Total,
        }
    }
}

/// What sums are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupWord {
    /// By the site's id.
    Site,
    /// By the customer's reference.
    Customer,
    /// By the subscription's reference.
    Subscription,
    /// By the token's reference.
    Token,
    /// By the resource's pattern.
    Resource,
    /// By the reason.
    Reason,
    /// By `allow` and `deny`.
    Verdict,
    /// By the number of the quota period.
    Period,
}

impl GroupWord {
    const fn group(self) -> Group {
        match self {
            Self::Site => Group::Site,
            Self::Customer => Group::Customer,
            Self::Subscription => Group::Subscription,
            Self::Token => Group::Token,
            Self::Resource => Group::Resource,
            Self::Reason => Group::Reason,
            Self::Verdict => Group::Verdict,
            Self::Period => Group::Period,
        }
    }
}

/// Some time, whole minutes or days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From then on, Unix seconds.
    pub from_s: i64,
    /// Before then.
    pub until_s: i64,
    /// Not both are the beginning of a day.
    pub is_by_minute: bool,
}

/// The time that is meant: by the minute the last hour, otherwise the last 30 days, or all in which a named period may be.
pub fn span(
    (since_ms, until_ms): (Option<i64>, Option<i64>),
    interval: IntervalWord,
    has_period: bool,
    now_ms: i64,
    faults: &mut Vec<Fault>,
) -> Span {
    let step_s = if interval == IntervalWord::Minute { MINUTE_S } else { DAY_S };
    let now_s = now_ms.div_euclid(1_000);
    let until_s =
        until_ms.map_or((now_s.div_euclid(step_s) + 1) * step_s, |at_ms| at_ms.div_euclid(1_000));
    let default_s = match interval {
        IntervalWord::Minute => 60 * MINUTE_S,
        _ if has_period => PERIOD_SPAN_S,
        _ => 30 * DAY_S,
    };
    // Before a time within a day: the days before that one.
    let begin = until_s.div_euclid(step_s) * step_s;
    let from_s = since_ms.map_or(begin - default_s, |at_ms| at_ms.div_euclid(1_000));
    let is_by_minute = step_s == MINUTE_S || from_s % DAY_S != 0 || until_s % DAY_S != 0;
    let needed_s = if interval == IntervalWord::Day { DAY_S } else { MINUTE_S };
    let mut check = |field: &str, at_ms: Option<i64>| {
        if at_ms.is_some_and(|at_ms| at_ms % (needed_s * 1_000) != 0) {
            let what = if needed_s == DAY_S { "day (UTC)" } else { "minute" };
            faults.push(Fault::new(field, format!("expected the beginning of a {what}")));
        }
    };
    check("since", since_ms);
    check("until", until_ms);
    let longest_s = if interval == IntervalWord::Minute { MINUTES_MAX_S } else { SPAN_MAX_S };
    if from_s > until_s || until_s - from_s > longest_s {
        let days = longest_s / DAY_S;
        let message = format!("expected a time before `until`, and at most {days} days before it");
        faults.push(Fault::new("since", message));
    }
    Span { from_s, until_s, is_by_minute }
}

/// How many requests took how long.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TookView {
    /// The longest of them, microseconds; null for those that took longer than all other steps.
    up_to_us: Option<u64>,
    /// How many took longer than the step before, and no longer than this.
    requests: i64,
}

/// Sums over decisions.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UsageView {
    /// When the minute or day begins; null for all of the time.
    #[schema(format = DateTime)]
    start: Option<String>,
    /// What it is of, by `group_by`; null without one, and for what has none, such as requests without a token. `…` is what a site has
    /// no room for to keep apart.
    group: Option<String>,
    /// Requests.
    requests: i64,
    /// Those that were forwarded.
    allowed: i64,
    /// Those that were not.
    denied: i64,
    /// Those that were not, by reason.
    denied_by_reason: BTreeMap<String, i64>,
    /// Units charged, after refunds and corrections.
    charge: i64,
    /// Bytes of the requests' bodies.
    request_bytes: i64,
    /// Bytes of the answers' bodies.
    response_bytes: i64,
    /// Microseconds from the first byte received to the last byte sent, on average.
    mean_us: i64,
    /// How many took how long, by fixed steps.
    took: Vec<TookView>,
}

/// A quota period of one subscription.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UsedPeriodView {
    /// Its number.
    id: i64,
    /// Its first second; null where the ledger has forgotten it.
    #[schema(format = DateTime)]
    start: Option<String>,
    /// The first second after it.
    #[schema(format = DateTime)]
    end: Option<String>,
    /// Units used, by the ledger, which alone counts against quotas; null where it has forgotten the period.
    used: Option<i64>,
    /// Units that nodes hold and have not used.
    leased: Option<i64>,
    /// Units charged, by the decisions that have come.
    charge: i64,
    /// How many decisions that are.
    requests: i64,
}

/// Use over some time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UsageAnswer {
    /// From then on.
    #[schema(format = DateTime)]
    since: String,
    /// Before then.
    #[schema(format = DateTime)]
    until: String,
    /// The newest minute or day first, and of it what has most requests.
    data: Vec<UsageView>,
    /// Whether there is more than `limit`.
    has_more: bool,
    /// With `subscription_id`: its quota periods, the newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    periods: Option<Vec<UsedPeriodView>>,
}

/// Sums as they are shown.
pub fn view_of(usage: &Usage) -> UsageView {
    let figures = &usage.figures;
    let denied = usage.denied.iter().map(|(_, requests)| requests).sum();
    let steps = STEPS_US.iter().copied().map(Some).chain([None]);
    UsageView {
        start: usage.at_s.map(|at_s| shown(at_s.saturating_mul(1_000))),
        group: usage.group.clone(),
        requests: figures.requests,
        allowed: figures.requests.saturating_sub(denied),
        denied,
        denied_by_reason: usage
            .denied
            .iter()
            .map(|(reason, requests)| (reason.as_str().to_owned(), *requests))
            .collect(),
        charge: figures.charge,
        request_bytes: figures.request_bytes,
        response_bytes: figures.response_bytes,
        mean_us: figures.total_us.checked_div(figures.requests).unwrap_or_default(),
        took: steps
            .zip(figures.took)
            .map(|(up_to_us, requests)| TookView { up_to_us, requests })
            .collect(),
    }
}

/// Periods of a subscription: those that the ledger knows, and those that decisions name.
pub fn periods(account: Option<&LedgerAccount>, logged: &[Usage]) -> Vec<UsedPeriodView> {
    let signed = |units: u64| i64::try_from(units).unwrap_or(i64::MAX);
    let none = |id| UsedPeriodView {
        id,
        start: None,
        end: None,
        used: None,
        leased: None,
        charge: 0,
        requests: 0,
    };
    let mut periods: BTreeMap<i64, UsedPeriodView> = BTreeMap::new();
    for books in account.iter().flat_map(|account| &account.books) {
        let (id, used) = (signed(books.period.id.0), books.used());
        let known = UsedPeriodView {
            start: Some(shown(books.period.start_s.saturating_mul(1_000))),
            end: Some(shown(books.period.end_s.saturating_mul(1_000))),
            used: Some(signed(used)),
            leased: Some(signed(books.committed().saturating_sub(used))),
            ..none(id)
        };
        periods.insert(id, known);
    }
    for usage in logged {
        // Decisions that charged nothing name no period.
        let Some(id) = usage.group.as_deref().and_then(|id| id.parse().ok()) else { continue };
        let period = periods.entry(id).or_insert_with(|| none(id));
        period.charge = usage.figures.charge;
        period.requests = usage.figures.requests;
    }
    periods.into_values().rev().collect()
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
