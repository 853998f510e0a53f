//! The keys of `[[sites.plans]]`.
//!
//! In: their tables and the site's patterns. Out: the site's plans.
//! Always holds: plans keep the order of the file; a plan with a fault still keeps its place, so that what names it is
//! not reported as dangling too.

use super::diagnostic::Sink;
use super::file::{Names, UNIQUE_ID};
use super::site_keys::{PatternNames, read_id};
use super::table::Table;
use super::{
    CONCURRENCY_MAX, COST_MAX, GRACE_DAYS_DEFAULT, GRACE_DAYS_MAX, Overage, Plan, Quota, RateLimit,
    UNIT_WORDS, UNITS_MAX, Unit,
};

pub(super) const KEYS: &[&str] = &[
    "id",
    "quota",
    "rate_limit",
    "concurrency",
    "overage",
    "overage_cap",
    "grace_days",
    "resources",
];
const PLANS_MAX: usize = 10_000;

/// Reads a site's plans.
pub(super) fn read(
    site: &Table<'_>,
    patterns: &PatternNames<'_>,
    sink: &mut Sink<'_>,
) -> Vec<Plan> {
    let tables = site.tables("plans", "sites.plans", KEYS, PLANS_MAX, sink);
    let mut plans = Vec::with_capacity(tables.len());
    let mut lines = Names::default();
    for table in tables {
        let id = read_id(&table, "id", sink).unwrap_or_default();
        lines.claim(&id, &table, "id", UNIQUE_ID, sink);
        plans.push(Plan {
            id,
            quota: quota(&table, sink),
            rate_limit: rate_limit(&table, sink),
            concurrency: table
                .number("concurrency", 1..=CONCURRENCY_MAX, sink)
                .and_then(|slots| u32::try_from(slots).ok()),
            overage: overage(&table, sink),
            grace_days: table
                .number("grace_days", 0..=GRACE_DAYS_MAX, sink)
                .and_then(|days| u32::try_from(days).ok())
                .unwrap_or(GRACE_DAYS_DEFAULT),
            resources: patterns.read(&table, sink),
            earlier: Vec::new(),
        });
    }
    plans
}

fn quota(plan: &Table<'_>, sink: &mut Sink<'_>) -> Option<Quota> {
    let table = plan.table("quota", "sites.plans.quota", &["requests", "per"], sink)?;
    let (requests, per) = amount(&table, 0, UNITS_MAX, sink);
    Some(Quota { requests: requests?, per: per? })
}

fn rate_limit(plan: &Table<'_>, sink: &mut Sink<'_>) -> Option<RateLimit> {
    let keys = &["requests", "per", "burst"];
    let table = plan.table("rate_limit", "sites.plans.rate_limit", keys, sink)?;
    let (requests, per) = amount(&table, 1, COST_MAX, sink);
    let burst = table.number("burst", 1..=COST_MAX, sink);
    Some(RateLimit { requests: requests?, per: per?, burst: burst.or(requests)? })
}

fn amount(
    table: &Table<'_>,
    requests_min: u64,
    requests_max: u64,
    sink: &mut Sink<'_>,
) -> (Option<u64>, Option<Unit>) {
    let requests = table.require("requests", "an integer", sink, |value| {
        super::table::number(value, requests_min..=requests_max)
    });
    let words = "one of second, minute, hour, day, week, month, year";
    let per = table.require("per", words, sink, |value| super::table::word(value, UNIT_WORDS));
    (requests, per)
}

fn overage(plan: &Table<'_>, sink: &mut Sink<'_>) -> Overage {
    let allowed = plan.word("overage", &[("deny", false), ("allow", true)], sink);
    let cap = plan.number("overage_cap", 0..=UNITS_MAX, sink);
    match allowed {
        Some(true) => {
            if !plan.has("quota") {
                sink.warn(
                    plan.offset_of("overage"),
                    plan.key("overage"),
                    "has no effect: this plan has no quota",
                );
            }
            Overage::Allow { cap }
        }
        _ => {
            if plan.has("overage_cap") {
                plan.fault("overage_cap", "only allowed together with overage = \"allow\"", sink);
            }
            Overage::Deny
        }
    }
}
