//! The answer to `GET /.payfence/usage`.
//!
//! In: a subscription, its plan, its figures. Out: 200 with a JSON object and the limit headers.
//! Always holds: what an unlimited plan does not have (limit, remaining, period, rate limit) is null;
//! times are RFC 3339 in UTC.

use policy::budget::Figures;
use policy::model::UNIT_WORDS;
use policy::snapshot::{PlanView, SubscriptionView};

use super::answer::{Asker, Head, write_answer};
use super::json::json_text;
use super::opening;
use super::time::json_time;
use crate::http1::write::decimal;

/// What is told.
#[derive(Clone, Copy)]
pub struct UsageReport<'a> {
    /// The site's slug.
    pub site: &'a str,
    /// The subscription.
    pub subscription: SubscriptionView<'a>,
    /// Its plan.
    pub plan: PlanView<'a>,
    /// Its figures.
    pub figures: &'a Figures,
    /// Unix seconds.
    pub now_s: i64,
}

/// Appends the whole answer; for `HEAD` without its body.
pub fn usage(out: &mut Vec<u8>, asker: &Asker<'_>, report: &UsageReport<'_>) {
    opening::write_head(out, 200, "application/json");
    let head = Head {
        status: 200,
        figures: Some(report.figures),
        retry_after_s: None,
        now_s: report.now_s,
    };
    write_answer(out, asker, &head, |out| body(out, report));
}

fn body(out: &mut Vec<u8>, report: &UsageReport<'_>) {
    let figures = report.figures;
    let texts = [
        ("{\"site\":", report.site),
        (",\"plan\":", report.plan.id()),
        (",\"subscription\":", report.subscription.id()),
        (",\"status\":", report.subscription.status().as_str()),
    ];
    for (key, text) in texts {
        out.extend_from_slice(key.as_bytes());
        json_text(out, text);
    }
    let numbers = [
        (",\"limit\":", figures.limit),
        (",\"used\":", Some(figures.used)),
        (",\"remaining\":", figures.remaining),
    ];
    for (key, number) in numbers {
        out.extend_from_slice(key.as_bytes());
        match number {
            Some(number) => decimal(out, number),
            None => out.extend_from_slice(b"null"),
        }
    }
    let times =
        [(",\"period_start\":", figures.period.start_s), (",\"reset\":", figures.period.end_s)];
    for (key, time_s) in times {
        out.extend_from_slice(key.as_bytes());
        match figures.limit {
            Some(_) => json_time(out, time_s),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(b",\"rate_limit\":");
    rate_limit(out, report);
    out.push(b'}');
}

fn rate_limit(out: &mut Vec<u8>, report: &UsageReport<'_>) {
    let Some(terms) = report.plan.rate_limit() else {
        out.extend_from_slice(b"null");
        return;
    };
    let per = UNIT_WORDS.iter().find(|(_, unit)| *unit == terms.unit).map(|(word, _)| *word);
    out.extend_from_slice(b"{\"requests\":");
    decimal(out, terms.requests);
    out.extend_from_slice(b",\"per\":");
    json_text(out, per.unwrap_or_default());
    out.extend_from_slice(b",\"burst\":");
    decimal(out, terms.burst);
    out.extend_from_slice(b",\"remaining\":");
    // A limit that the figures do not know yet has refused nothing so far.
    decimal(out, report.figures.rate.map_or(terms.burst, |rate| rate.holds));
    out.push(b'}');
}

#[cfg(test)]
#[path = "usage_tests.rs"]
mod tests;
