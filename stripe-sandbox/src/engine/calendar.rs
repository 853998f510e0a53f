//! Periods: from an anchor on, by day, week, month or year, months clamped (31 → 28 → 31).
//!
//! In: an anchor and an interval. Out: the boundaries after it, seconds since 1970, in UTC.
//! Always holds: boundaries are counted from the anchor, never from one another, so a clamp does not stick.

use jiff::civil::DateTime;
use jiff::{Span, Timestamp, tz::TimeZone};

/// An interval of a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// 86,400 seconds each.
    Days(i64),
    /// Calendar months each.
    Months(i64),
}

impl Interval {
    /// From `interval` and `interval_count` of a price.
    pub fn of(interval: &str, count: i64) -> Option<Self> {
        let count = count.max(1);
        Some(match interval {
            "day" => Self::Days(count),
            "week" => Self::Days(7 * count),
            "month" => Self::Months(count),
            "year" => Self::Months(12 * count),
            _ => return None,
        })
    }

    /// The boundary `number` intervals from `anchor`; it may be negative.
    pub fn boundary(self, anchor: i64, number: i64) -> i64 {
        match self {
            Self::Days(days) => anchor + number * days * 86_400,
            Self::Months(months) => months_later(anchor, number * months).unwrap_or(anchor),
        }
    }

    /// The first boundary after `after`.
    pub fn next_after(self, anchor: i64, after: i64) -> i64 {
        let length = match self {
            Self::Days(days) => days * 86_400,
            // Never longer than the real ones, so the guess is never past the answer by more than the loops undo.
            Self::Months(months) => months * 30 * 86_400,
        };
        let mut number = (after - anchor).div_euclid(length) + 1;
        while self.boundary(anchor, number) > after {
            number -= 1;
        }
        while self.boundary(anchor, number) <= after {
            number += 1;
        }
        self.boundary(anchor, number)
    }

    /// The last boundary that is not after `at`.
    pub fn last_before(self, anchor: i64, at: i64) -> i64 {
        let next = self.next_after(anchor, at);
        let length = match self {
            Self::Days(days) => days * 86_400,
            Self::Months(months) => months * 31 * 86_400,
        };
        let mut found = self.next_after(anchor, next - length - 86_400);
        while self.next_after(anchor, found) <= at {
            found = self.next_after(anchor, found);
        }
        found
    }
}

fn months_later(anchor: i64, months: i64) -> Option<i64> {
    let civil: DateTime = TimeZone::UTC.to_datetime(Timestamp::from_second(anchor).ok()?);
    let later = civil.checked_add(Span::new().try_months(months).ok()?).ok()?;
    Some(TimeZone::UTC.to_timestamp(later).ok()?.as_second())
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
