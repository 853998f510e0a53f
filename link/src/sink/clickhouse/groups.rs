//! Which rows of a batch go in one INSERT.
//!
//! In: the rows to send, and which roll-ups have them already. Out: groups of one month and one set of roll-ups. Always holds: of
//! each stream and month, the rows of a group follow one another among the batch's rows, so that first and last number say which
//! they are; the order of the batch is kept.

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::civil::Date;
use jiff::tz::Offset;

use super::schema::View;
use crate::row;
use crate::ship::{Batch, RowAt};

/// The rows of one INSERT.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub rows: Cow<'a, [RowAt]>,
    /// The beginning of the month, Unix seconds.
    pub month_s: u32,
    /// Roll-ups that have these rows already.
    pub ahead: Vec<View>,
    /// The place of the last row of each stream, among the batch's rows of the stream and month.
    last: HashMap<u32, usize>,
}

impl<'a> Group<'a> {
    /// All rows of a batch, which are of one month; `month_s` is not used then.
    pub(super) fn whole(rows: &'a [RowAt]) -> Self {
        Self { rows: Cow::Borrowed(rows), month_s: 0, ahead: Vec::new(), last: HashMap::new() }
    }
}

/// The time of a row as ClickHouse can have it, Unix microseconds: from 1970 to 2106.
pub(super) fn time_us(time_ns: i64) -> i64 {
    (time_ns / 1_000).clamp(0, i64::from(u32::MAX) * 1_000_000 + 999_999)
}

/// A month, Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Month {
    pub from_s: u32,
    /// The first second after it.
    pub to_s: u32,
}

impl Month {
    /// The month of a time, Unix microseconds as [`time_us`] gives them.
    fn of(time_us: i64) -> Self {
        let seconds = |date: Option<Date>| {
            let time = date.and_then(|date| {
                Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight())).ok()
            });
            time.and_then(|time| u32::try_from(time.as_second()).ok()).unwrap_or(u32::MAX)
        };
        let time =
            jiff::Timestamp::from_microsecond(time_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let first = Offset::UTC.to_datetime(time).date().first_of_month();
        let next = first.checked_add(jiff::Span::new().months(1)).ok();
        Self { from_s: seconds(Some(first)), to_s: seconds(next) }
    }

    fn contains(self, time_us: i64) -> bool {
        (i64::from(self.from_s)..i64::from(self.to_s)).contains(&(time_us / 1_000_000))
    }
}

/// The month of each row of a batch.
pub(super) fn months(batch: &Batch) -> impl Iterator<Item = Month> {
    let mut month = Month::default();
    batch.rows.iter().map(move |row| {
        let time_us = time_us(row::time_ns(batch.bytes_of(row)).unwrap_or_default());
        if !month.contains(time_us) {
            month = Month::of(time_us);
        }
        month
    })
}

/// Whether all rows of a batch are.
pub(super) fn is_of_one_month(batch: &Batch) -> bool {
    let month = |time_ns| Month::of(time_us(time_ns));
    batch.times_ns.is_none_or(|(first, last)| month(first) == month(last))
}

/// Some rows of a batch, in its order, in as few groups as may be.
pub(super) fn groups(
    batch: &Batch,
    rows: &[RowAt],
    ahead: impl Fn(&RowAt, u32) -> Vec<View>,
) -> Vec<Group<'static>> {
    let mut groups: Vec<Group<'static>> = Vec::new();
    let mut places: HashMap<(u32, u32), usize> = HashMap::new();
    let mut wanted = rows.iter().peekable();
    for (row, month) in batch.rows.iter().zip(months(batch)) {
        let place = places.entry((row.stream, month.from_s)).or_default();
        *place += 1;
        if wanted.next_if_eq(&row).is_none() {
            continue;
        }
        let ahead = ahead(row, month.from_s);
        let group = groups.iter_mut().find(|group| {
            let follows = group.last.get(&row.stream).is_none_or(|last| last + 1 == *place);
            group.month_s == month.from_s && group.ahead == ahead && follows
        });
        if let Some(group) = group {
            group.rows.to_mut().push(*row);
            group.last.insert(row.stream, *place);
        } else {
            groups.push(Group {
                rows: Cow::Owned(vec![*row]),
                month_s: month.from_s,
                ahead,
                last: HashMap::from([(row.stream, *place)]),
            });
        }
    }
    groups
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
