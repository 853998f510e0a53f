//! Quota periods: calendar units in UTC and periods counted from an anchor.
//!
//! In: a calendar and a time in Unix seconds. Out: the period that holds it.
//! Always holds: the periods of one calendar cover all time without gap or overlap. An anchored month begins on the
//! anchor's day, or on the month's last day where it has no such day, and on the anchor's day again after it (as
//! Stripe's billing cycle does: 31 January, 28 February, 31 March). Own arithmetic on the proleptic Gregorian
//! calendar (days from civil, as in Howard Hinnant's "chrono-compatible low-level date algorithms").

use serde::{Deserialize, Serialize};

use super::PeriodId;
use super::terms::{Calendar, Unit};

const DAY_S: i64 = 86_400;

/// One quota period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Its name.
    pub id: PeriodId,
    /// First second, Unix.
    pub start_s: i64,
    /// First second after it.
    pub end_s: i64,
}

impl Period {
    /// The first period of an entitlement that has none yet.
    #[must_use]
    pub fn first(calendar: &Calendar, now_s: i64) -> Self {
        let (start_s, end_s) = calendar.span(now_s);
        Self { id: PeriodId(u64::try_from(start_s).unwrap_or(0)), start_s, end_s }
    }

    /// The period that holds `now_s`, which may be this one still. The id never goes back, nor does the period when
    /// a clock does.
    #[must_use]
    pub fn at(&self, calendar: &Calendar, now_s: i64) -> Self {
        if now_s < self.end_s {
            return *self;
        }
        let fresh = Self::first(calendar, now_s);
        Self { id: fresh.id.max(PeriodId(self.id.0.saturating_add(1))), ..fresh }
    }

    /// The period after this one.
    #[must_use]
    pub fn next(&self, calendar: &Calendar) -> Self {
        self.at(calendar, self.end_s)
    }

    /// This period under another calendar: only its end moves.
    #[must_use]
    pub fn moved_to(&self, calendar: &Calendar, now_s: i64) -> Self {
        Self { end_s: calendar.span(now_s).1.max(self.start_s.saturating_add(1)), ..*self }
    }

    /// Seconds of the whole period.
    #[must_use]
    pub fn length_s(&self) -> u64 {
        u64::try_from(self.end_s.saturating_sub(self.start_s)).unwrap_or(0)
    }

    /// Seconds left at `now_s`; 0 past the end.
    #[must_use]
    pub fn left_s(&self, now_s: i64) -> u64 {
        u64::try_from(self.end_s.saturating_sub(now_s)).unwrap_or(0)
    }
}

impl Calendar {
    /// Start and end of the period that holds `now_s`. Times are held within the years 1 to 9999.
    #[must_use]
    pub fn span(&self, now_s: i64) -> (i64, i64) {
        const FIRST_S: i64 = -62_135_596_800;
        const LAST_S: i64 = 253_402_300_799;
        let now_s = now_s.clamp(FIRST_S, LAST_S);
        let anchor_s = self.anchor_s.map(|anchor_s| anchor_s.clamp(FIRST_S, LAST_S));
        match self.unit {
            Unit::Month => months(anchor_s.unwrap_or(0), 1, now_s),
            Unit::Year => months(anchor_s.unwrap_or(0), 12, now_s),
            // 5 January 1970 was a Monday.
            Unit::Week => fixed(anchor_s.unwrap_or(4 * DAY_S), 7 * DAY_S, now_s),
            Unit::Second => fixed(anchor_s.unwrap_or(0), 1, now_s),
            Unit::Minute => fixed(anchor_s.unwrap_or(0), 60, now_s),
            Unit::Hour => fixed(anchor_s.unwrap_or(0), 3_600, now_s),
            Unit::Day => fixed(anchor_s.unwrap_or(0), DAY_S, now_s),
        }
    }
}

fn fixed(anchor_s: i64, length_s: i64, now_s: i64) -> (i64, i64) {
    let start_s = now_s - (now_s - anchor_s).rem_euclid(length_s);
    (start_s, start_s + length_s)
}

/// Periods of `step` months from an anchor; each bound is reckoned from the anchor itself, so a short month leaves
/// no trace.
fn months(anchor_s: i64, step: i64, now_s: i64) -> (i64, i64) {
    let (year, month, day) = civil(anchor_s.div_euclid(DAY_S));
    let clock_s = anchor_s.rem_euclid(DAY_S);
    let bound = |count: i64| {
        let index = year * 12 + (month - 1) + count * step;
        let (year, month) = (index.div_euclid(12), index.rem_euclid(12) + 1);
        days(year, month, day.min(month_days(year, month))) * DAY_S + clock_s
    };
    let (now_year, now_month, _) = civil(now_s.div_euclid(DAY_S));
    let count = ((now_year - year) * 12 + now_month - month).div_euclid(step);
    // The estimate by month may be one too high, when the day in the month has not come yet.
    if bound(count) > now_s {
        (bound(count - 1), bound(count))
    } else {
        (bound(count), bound(count + 1))
    }
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year.rem_euclid(4) == 0
            && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) =>
        {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1 January 1970 of a date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month, day of a day since 1 January 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
#[path = "period_tests.rs"]
mod tests;
