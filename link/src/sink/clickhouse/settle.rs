//! What ClickHouse has of a batch after a doubt, and making it whole.
//!
//! In: a batch of which some may be stored. Out: which of its rows `decisions` has, each of them in every roll-up. Always holds:
//! nothing is concluded while an earlier INSERT can still store something.
//!
//! An INSERT is one block of one month, so it is one part in `decisions` and one in each roll-up, each stored whole or not at all;
//! but a server that dies, or a view that fails, leaves some of them stored and others not. So each INSERT's part of a roll-up has
//! rows that say which numbers are in it. After a doubt the sink waits until the server's clock is past the time until which the
//! INSERT was valid and no INSERT of this node runs, and then compares: what `decisions` has and a roll-up has not is filled in from
//! `decisions`; what a roll-up has and `decisions` has not is sent again, marked so that this roll-up passes it over.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::ClickHouseSink;
use super::client::quote;
use super::groups::{groups, months};
use super::schema::View;
use crate::ship::{Batch, Held, Range, RowAt, Stream};
use crate::sink::{Outcome, SinkError};

/// How often the server is asked while an INSERT may still run: from the first to the last.
const ASK_FIRST: Duration = Duration::from_millis(50);
const ASK_LONGEST: Duration = Duration::from_secs(1);
/// Fillings of roll-ups in one go; the shipper asks again after that.
const FILLS_MAX: usize = 64;
/// Marks are dropped 30 days after they were stored (`schema/0002_roll_ups_full.sql`): older rows have none, and need none.
const MARK_AGE_MAX_S: u32 = 29 * 86_400;

/// Which rows the roll-ups have, by roll-up and month.
#[derive(Debug, Default)]
pub(super) struct Marks(HashMap<(u8, u32), Held>);

impl Marks {
    fn contains(&self, view: View, month_s: u32, stream: Stream, seq: u64) -> bool {
        let held = self.0.get(&(view.bit(), month_s));
        held.is_some_and(|held| held.contains(stream, seq))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The roll-ups that have a row.
    pub(super) fn views_with(&self, stream: Stream, seq: u64, month_s: u32) -> Vec<View> {
        let has = |view: &View| self.contains(*view, month_s, stream, seq);
        View::ALL.into_iter().filter(has).collect()
    }
}

/// What the server has of a batch.
struct Found {
    rows: Held,
    /// Rows of so long ago that the roll-ups do not tell of them any more.
    old: Held,
    marks: Marks,
}

impl ClickHouseSink {
    pub(super) async fn settle(&mut self, batch: &Batch) -> Result<Held, SinkError> {
        let begun = Instant::now();
        let patience = self.config.insert_timeout * 2 + self.config.query_timeout;
        let mut wait = ASK_FIRST;
        let mut fills = 0;
        loop {
            // Asked before looking: what is found after that is what there will be.
            let is_quiet = self.server.is_quiet(&batch.node).await?;
            let found = self.look(batch).await?;
            let lacking = lacking(batch, &found);
            let is_whole = lacking.iter().all(|(_, rows)| rows.is_empty())
                && batch.rows.iter().all(|row| found.rows.contains(batch.stream_of(row), row.seq));
            if is_whole {
                return Ok(found.rows);
            }
            if is_quiet {
                if lacking.iter().all(|(_, rows)| rows.is_empty()) {
                    self.ahead = (batch.start, found.marks);
                    return Ok(found.rows);
                }
                if fills >= FILLS_MAX {
                    let text =
                        "roll-ups in ClickHouse do not have what was filled in: look at its log";
                    return Err(SinkError::new(Outcome::Doubtful, text));
                }
                fills += self.fill(batch, &lacking).await?;
                continue;
            }
            if begun.elapsed() > patience {
                self.server.give_up_inserts(&batch.node).await;
                let text = "an INSERT without an answer still runs in ClickHouse; nothing is sent until it ends";
                return Err(SinkError::new(Outcome::Doubtful, text));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(ASK_LONGEST);
        }
    }

    async fn look(&self, batch: &Batch) -> Result<Found, SinkError> {
        let ranges = batch.ranges();
        let (from_s, to_s) = months(batch)
            .fold((u32::MAX, 0), |(from, to), month| (from.min(month.from_s), to.max(month.to_s)));
        let node = quote(&batch.node);
        let numbers: Vec<(u64, u16, u64, u8)> = self
            .server
            .rows(&format!(
                "SELECT epoch, shard, seq, toUInt8(now() - stored_at > {MARK_AGE_MAX_S}) FROM decisions \
                 WHERE node = {node} AND time >= toDateTime({from_s}) AND time < toDateTime({to_s}) AND ({}) \
                 ORDER BY epoch, shard, seq",
                in_ranges(&ranges, "epoch", "shard", "seq", "seq")
            ))
            .await?;
        let numbers: Vec<((Stream, u64), bool)> = numbers
            .into_iter()
            .map(|(epoch, shard, seq, is_old)| ((Stream { epoch, shard }, seq), is_old != 0))
            .collect();
        let twice = numbers
            .windows(2)
            .filter(|pair| pair.first().map(|row| row.0) == pair.last().map(|row| row.0));
        let twice = twice.count();
        if twice > 0 {
            tracing::error!(
                "{twice} rows are in ClickHouse twice; something other than this node wrote them"
            );
        }
        let mut marks: HashMap<(u8, u32), Vec<Range>> = HashMap::new();
        for view in View::ALL {
            let found: Vec<(u64, u16, u32, u64, u64)> = self
                .server
                .rows(&format!(
                    "SELECT of_epoch, of_shard, toUInt32(of_time), seq_from, seq_to FROM {} \
                     WHERE of_site = '' AND of_time >= toDateTime({from_s}) AND of_time < toDateTime({to_s}) \
                     AND of_node = {node} AND ({})",
                    view.table(),
                    in_ranges(&ranges, "of_epoch", "of_shard", "seq_to", "seq_from")
                ))
                .await?;
            for (epoch, shard, month_s, from, to) in found {
                let range = Range { stream: Stream { epoch, shard }, from, to: to + 1 };
                marks.entry((view.bit(), month_s)).or_default().push(range);
            }
        }
        let old = numbers.iter().filter(|(_, is_old)| *is_old).map(|(row, _)| *row);
        Ok(Found {
            rows: Held::of_numbers(numbers.iter().map(|(row, _)| *row)),
            old: Held::of_numbers(old),
            marks: Marks(marks.into_iter().map(|(key, ranges)| (key, Held::new(ranges))).collect()),
        })
    }

    /// Fills roll-ups from `decisions`; how many statements that took.
    async fn fill(
        &mut self,
        batch: &Batch,
        lacking: &[(View, Vec<RowAt>)],
    ) -> Result<usize, SinkError> {
        let dialect = self.dialect()?;
        let mut fills = 0;
        for (view, rows) in lacking {
            for group in groups(batch, rows, |_, _| Vec::new()) {
                let ranges = ranges_of(batch, &group.rows);
                let condition = format!(
                    "node = {} AND toStartOfMonth(time, 'UTC') = toDate(toDateTime({}), 'UTC') AND ({})",
                    quote(&batch.node),
                    group.month_s,
                    in_ranges(&ranges, "epoch", "shard", "seq", "seq")
                );
                self.server
                    .insert_select(&batch.node, dialect, |valid_until_s| {
                        let in_time = format!(
                            "{condition} AND throwIf(now() > toDateTime({valid_until_s})) = 0"
                        );
                        format!(
                            "INSERT INTO {} ({}) {}",
                            view.table(),
                            View::COLUMNS,
                            view.fill(&in_time)
                        )
                    })
                    .await?;
                fills += 1;
            }
        }
        tracing::warn!(
            "{fills} parts of roll-ups that a doubtful INSERT had left out were filled in"
        );
        Ok(fills)
    }
}

/// The rows that `decisions` has and a roll-up has not.
fn lacking(batch: &Batch, found: &Found) -> Vec<(View, Vec<RowAt>)> {
    let lacks = |view: View, (row, month_s): &(&RowAt, u32)| {
        let stream = batch.stream_of(row);
        found.rows.contains(stream, row.seq)
            && !found.old.contains(stream, row.seq)
            && !found.marks.contains(view, *month_s, stream, row.seq)
    };
    let of = |view: View| {
        let rows = batch.rows.iter().zip(months(batch).map(|month| month.from_s));
        rows.filter(|row| lacks(view, row)).map(|(row, _)| *row).collect()
    };
    View::ALL.into_iter().map(|view| (view, of(view))).collect()
}

/// First and last number of each stream.
fn ranges_of(batch: &Batch, rows: &[RowAt]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for row in rows {
        let stream = batch.stream_of(row);
        match ranges.iter_mut().find(|range| range.stream == stream) {
            Some(range) => range.to = row.seq + 1,
            None => ranges.push(Range { stream, from: row.seq, to: row.seq + 1 }),
        }
    }
    ranges
}

/// A condition for rows, or marks from `from` to `to`, that touch any of the ranges.
fn in_ranges(ranges: &[Range], epoch: &str, shard: &str, to: &str, from: &str) -> String {
    let one = |range: &Range| {
        format!(
            "({epoch} = {} AND {shard} = {} AND {to} >= {} AND {from} < {})",
            range.stream.epoch, range.stream.shard, range.from, range.to
        )
    };
    if ranges.is_empty() {
        return "0".into();
    }
    ranges.iter().map(one).collect::<Vec<_>>().join(" OR ")
}
