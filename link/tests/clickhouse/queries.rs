//! The questions of the handbook, asked on the real engines.
//!
//! In: each block of SQL under "Decision log in ClickHouse" of docs/OPERATIONS.md. Out: answers that agree with the rows. Always
//! holds: what is asked is what the document says, but for the time it is asked at and the customer.

use std::path::Path;
use std::time::Duration;

use super::engine::{Engine, Kind};
use super::shipping::{Decisions, config, limits, ship};

const HEADING: &str = "## Decision log in ClickHouse\n";
/// Instead of the present, times within a day of all rows: one near midnight, one at no full hour, the last before a row is too old.
const NOW: [&str; 3] = ["2026-12-01 00:30:00", "2026-12-01 12:34:56", "2026-12-01 23:58:59"];

/// The blocks of SQL under the heading.
fn queries() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once(HEADING).expect("the heading is there");
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sql\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_handbooks_queries_answer_on_the_real_engines() {
    let queries = queries();
    assert_eq!(queries.len(), 8, "each is looked at below");
    for kind in [Kind::Today, Kind::Old] {
        let Some(engine) = Engine::start(kind) else { continue };
        let (data, decisions) = (tempfile::tempdir().unwrap(), Decisions::default());
        decisions.make(5, 0, 600);
        decisions.make(5, 1, 600);
        let shipper = ship(data.path(), &decisions, config(&engine, &engine.url()), limits());
        assert!(shipper.flush(Duration::from_secs(60)));
        for now in NOW {
            check_answers(&engine, &queries, now);
        }
    }
}

/// Asks all at a time, and holds what they say against the rows.
fn check_answers(engine: &Engine, queries: &[String], now: &str) {
    let kind = engine.kind;
    let answers: Vec<Vec<Vec<String>>> = queries
        .iter()
        .map(|query| {
            engine.ask(query);
            let now = format!("toDateTime('{now}', 'UTC')");
            let asked = query.replace("now()", &now).replace("'acme'", "'customer 0\\'s \\\\ 2'");
            let answer = engine.ask(&asked);
            assert!(!answer.is_empty(), "{kind:?}, {now}: no rows of {query}");
            let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
            answer.lines().map(cells).collect()
        })
        .collect();
    let sum = |query: usize, column: usize| -> u64 {
        answers[query].iter().map(|line| line[column].parse::<u64>().unwrap()).sum()
    };
    let told = |what: &str| {
        engine
            .ask(&format!("SELECT {what} FROM decisions WHERE site = 'weather'"))
            .parse::<u64>()
            .unwrap()
    };
    assert_eq!(sum(0, 1), told("count()"), "top customers: calls");
    assert_eq!(sum(0, 2), told("sum(charge)"), "top customers: units");
    assert_eq!(sum(1, 2), told("countIf(verdict = 'deny')"), "denials");
    assert!(answers[1].iter().all(|line| line[1] == "quota_exhausted"));
    assert_eq!(sum(2, 1), told("countIf(verdict = 'allow')"), "latency: calls");
    for line in &answers[2] {
        let ms: Vec<f64> = line[2..].iter().map(|cell| cell.parse().unwrap()).collect();
        assert!(ms[0] > 1.0 && ms[0] < ms[1] && ms[1] < 1.7 && ms[2] < ms[1], "latency: {line:?}");
    }
    assert_eq!(sum(3, 6), told("sumIf(charge, subscription != '')"), "use per period");
    assert_eq!(sum(4, 2), told("countIf(reason = 'quota_exhausted')"), "limits met");
    assert!(answers[5].iter().all(|line| line[2].starts_with("/v1/5/")), "{:?}", answers[5]);
    assert_eq!(answers[6].len(), 2, "both shards have a request 12");
    let whole: Vec<&[String]> = answers[7].iter().map(|line| &line[1..]).collect();
    assert_eq!(whole, [["5", "0", "600", "0", "0"], ["5", "1", "600", "0", "0"]], "{kind:?}");
}

/// Times that rows are asked from; those of the rows go from 2026-11-30 23:59:00 to 2026-12-01 00:00:40.
const FROM: [&str; 9] = [
    "2026-11-01 00:00:00",
    "2026-11-30 00:00:00",
    "2026-11-30 12:34:56",
    "2026-11-30 23:59:00",
    "2026-11-30 23:59:30",
    "2026-12-01 00:00:00",
    "2026-12-01 00:00:07",
    "2026-12-01 00:30:00",
    "2026-12-02 12:34:56",
];

#[test]
fn the_index_finds_the_rows_since_any_time_of_day() {
    for kind in [Kind::Today, Kind::Old] {
        let Some(engine) = Engine::start(kind) else { continue };
        let (data, decisions) = (tempfile::tempdir().unwrap(), Decisions::default());
        decisions.make(5, 0, 1_000);
        decisions.make(5, 1, 600);
        let shipper = ship(data.path(), &decisions, config(&engine, &engine.url()), limits());
        assert!(shipper.flush(Duration::from_secs(60)));
        for (table, count, count_if) in [
            ("decisions", "count()", "countIf(FROM)"),
            ("decisions_per_minute", "sum(requests)", "sumIf(requests, FROM)"),
            ("decisions_per_day", "sum(requests)", "sumIf(requests, FROM)"),
        ] {
            for from in FROM {
                // A constant of the type that `now() - INTERVAL 1 DAY` has; within an aggregate no index can be asked.
                let since = format!(
                    "time >= toDateTime('{from}', 'UTC') + INTERVAL 1 DAY - INTERVAL 1 DAY"
                );
                for site in ["site != ''", "site = 'weather'"] {
                    let found = engine
                        .ask(&format!("SELECT {count} FROM {table} WHERE {site} AND {since}"));
                    let there = engine.ask(&format!(
                        "SELECT {} FROM {table} WHERE {site}",
                        count_if.replace("FROM", &since)
                    ));
                    assert_eq!(found, there, "{kind:?}: {table}, {site}, {since}");
                }
            }
        }
    }
}
