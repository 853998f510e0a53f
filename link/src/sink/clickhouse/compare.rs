//! Whether ClickHouse has what the journal has: `payfence journal verify`.
//!
//! In: parts of the journal that the sink was said to have. Out: what is missing, there twice, or charged otherwise; roll-ups that
//! are not the sums of their rows. Always holds: nothing is changed, on either side; a part is as much as one question brings.

use std::ops::Range;

use super::client::{Server, quote};
use super::{ClickHouseConfig, ConfigError};
use crate::row::Row;
use crate::ship::Stream;
use crate::sink::SinkError;

const DAY_S: i64 = 86_400;
/// Single problems of a part that are told; the rest is counted.
const TOLD_MAX: usize = 10;

/// Rows of one stream that follow one another.
#[derive(Clone, Debug)]
pub struct Part {
    stream: Stream,
    numbers: Range<u64>,
    charge: u64,
    /// When they were decided: from the first second to the last.
    seconds: (i64, i64),
}

impl Part {
    const ROWS_MAX: u64 = 50_000;

    /// Nothing yet, from this number on.
    #[must_use]
    pub const fn new(stream: Stream, from: u64) -> Self {
        Self { stream, numbers: from..from, charge: 0, seconds: (i64::MAX, i64::MIN) }
    }

    /// Adds a row; false where it does not follow or the part has enough, and it belongs into the next.
    pub fn add(&mut self, seq: u64, row: &Row<'_>) -> bool {
        let is_next = seq == self.numbers.end && seq - self.numbers.start < Self::ROWS_MAX;
        if is_next {
            self.numbers.end += 1;
            self.charge += row.ended.charge;
            let second = row.opened.time_ns.div_euclid(1_000_000_000);
            self.seconds = (self.seconds.0.min(second), self.seconds.1.max(second));
        }
        is_next
    }

    fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}

/// A server that is compared to a journal.
pub struct Comparison {
    runtime: tokio::runtime::Runtime,
    server: Server,
    /// The days that were compared: their first second and the one behind them.
    days: (i64, i64),
}

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This process.
    #[error("nothing can be asked: {0}")]
    Runtime(#[from] std::io::Error),
    /// The server.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl Comparison {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn new(config: &ClickHouseConfig) -> Result<Self, AskError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // What belongs to connections is made within the runtime.
        let server = runtime.block_on(async { Server::new(config) })?;
        Ok(Self { runtime, server, days: (i64::MAX, i64::MIN) })
    }

    /// What is wrong with these rows, for a person; nothing where they are there as they should.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub fn part(&mut self, node: &str, part: &Part) -> Result<Vec<String>, AskError> {
        if part.is_empty() {
            return Ok(Vec::new());
        }
        let (first_s, last_s) = part.seconds;
        // Whole days: by them the server finds rows quickly enough.
        let (from_s, to_s) =
            (first_s.div_euclid(DAY_S) * DAY_S, (last_s.div_euclid(DAY_S) + 1) * DAY_S);
        self.days = (self.days.0.min(from_s), self.days.1.max(to_s));
        let condition = format!(
            "node = {} AND epoch = {} AND shard = {} AND seq >= {} AND seq < {} \
             AND time >= toDateTime({from_s}) AND time < toDateTime({to_s})",
            quote(node),
            part.stream.epoch,
            part.stream.shard,
            part.numbers.start,
            part.numbers.end
        );
        let expected = part.numbers.end - part.numbers.start;
        let sums = format!(
            "SELECT toUInt64(count()), toUInt64(uniqExact(seq)), toUInt64(sum(charge)) FROM decisions WHERE {condition}"
        );
        let sums: Vec<(u64, u64, u64)> = self.runtime.block_on(self.server.rows(&sums))?;
        let (rows, different, charge) = sums.first().copied().unwrap_or_default();
        let mut problems = Vec::new();
        if (rows, different) != (expected, expected) {
            let numbers = format!(
                "SELECT seq, toUInt64(count()) FROM decisions WHERE {condition} GROUP BY seq ORDER BY seq"
            );
            let numbers: Vec<(u64, u64)> = self.runtime.block_on(self.server.rows(&numbers))?;
            problems = differences(&part.numbers, &numbers);
            let told = problems.len().min(TOLD_MAX);
            let more = problems.split_off(told).len();
            problems.extend((more > 0).then(|| format!("and {more} more")));
        } else if charge != part.charge {
            problems.push(format!(
                "rows {} to {} were charged {} units and have {charge} in ClickHouse",
                part.numbers.start,
                part.numbers.end - 1,
                part.charge
            ));
        }
        let Stream { epoch, shard } = part.stream;
        let of = |problem| format!("shard {shard} in epoch {epoch:016x}: {problem}");
        Ok(problems.into_iter().map(of).collect())
    }

    /// Which roll-ups are not the sums of their rows, on the days of all parts so far; for a person.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub fn roll_ups(&self) -> Result<Vec<String>, AskError> {
        let (from_s, to_s) = self.days;
        if from_s >= to_s {
            return Ok(Vec::new());
        }
        let of = |table: &str, sums: &str| {
            let day = "toUInt32(toDateTime(toDate(time, 'UTC'), 'UTC'))";
            let sql = format!(
                "SELECT {day} AS of_day, {sums} FROM {table} WHERE time >= toDateTime({from_s}) AND time < toDateTime({to_s}) \
                 GROUP BY of_day ORDER BY of_day"
            );
            self.runtime.block_on(self.server.rows::<(u32, u64, u64)>(&sql))
        };
        let rows = of("decisions", "toUInt64(count()), toUInt64(sum(charge))")?;
        let mut problems = Vec::new();
        for table in ["decisions_per_minute", "decisions_per_day"] {
            let sums = of(table, "toUInt64(sum(requests)), toUInt64(sum(charge))")?;
            for day in rows.iter().filter(|day| !sums.contains(day)) {
                let (day_s, requests, charge) = *day;
                let other = sums.iter().find(|other| other.0 == day_s);
                let (_, has, has_charge) = other.copied().unwrap_or_default();
                problems.push(format!(
                    "{table} has {has} requests and {has_charge} units on {}, and decisions {requests} and {charge}",
                    day_text(day_s)
                ));
            }
        }
        Ok(problems)
    }
}

fn day_text(day_s: u32) -> String {
    jiff::Timestamp::from_second(day_s.into())
        .map_or_else(|_| day_s.to_string(), |day| day.strftime("%Y-%m-%d").to_string())
}

/// Numbers that are missing or there more than once, of `found` in rising order with how often each is there.
fn differences(expected: &Range<u64>, found: &[(u64, u64)]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut next = expected.start;
    let end = (expected.end, 1);
    for (seq, count) in found.iter().copied().chain([end]) {
        if seq > next {
            let rows = if seq - next == 1 {
                format!("row {next} is")
            } else {
                format!("rows {next} to {} are", seq - 1)
            };
            problems.push(format!("{rows} not in ClickHouse"));
        }
        if count > 1 {
            problems.push(format!("row {seq} is in ClickHouse {count} times"));
        }
        next = seq + 1;
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let check = |found: &[(u64, u64)], expected: &[&str]| {
            assert_eq!(differences(&(3..9), found), expected);
        };
        check(&[(3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1)], &[]);
        check(&[], &["rows 3 to 8 are not in ClickHouse"]);
        check(
            &[(4, 1), (5, 3), (7, 1)],
            &[
                "row 3 is not in ClickHouse",
                "row 5 is in ClickHouse 3 times",
                "row 6 is not in ClickHouse",
                "row 8 is not in ClickHouse",
            ],
        );
    }
}
