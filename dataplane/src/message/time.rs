//! Moments as text.
//!
//! In: Unix seconds. Out: `Date` (RFC 9110 §5.6.7) and RFC 3339, both in UTC.
//! Always holds: a time outside the years 1 to 9999 leaves the field out or becomes null, and never
//! stops an answer. Own arithmetic (days to civil, as in Howard Hinnant's "chrono-compatible
//! low-level date algorithms"), for each refusal writes two of them.

use std::cell::RefCell;

const DAY_S: i64 = 86_400;

/// 1 January of year 1 and of year 10000, Unix seconds.
const WRITABLE_S: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment in UTC, taken apart.
struct Civil {
    year: i64,
    /// From 1.
    month: i64,
    /// From 1.
    day: i64,
    /// From 0, Sunday.
    weekday: i64,
    second_of_day: i64,
}

impl Civil {
    fn new(time_s: i64) -> Option<Self> {
        if !WRITABLE_S.contains(&time_s) {
            return None;
        }
        let days = time_s.div_euclid(DAY_S);
        // Days since 1 March of year 0, in eras of 400 years.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Some(Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            weekday: (days + 4).rem_euclid(7),
            second_of_day: time_s.rem_euclid(DAY_S),
        })
    }

    /// `hh:mm:ss`
    fn clock(&self, out: &mut Vec<u8>) {
        digits(out, self.second_of_day / 3_600, 2);
        out.push(b':');
        digits(out, self.second_of_day / 60 % 60, 2);
        out.push(b':');
        digits(out, self.second_of_day % 60, 2);
    }
}

/// A text and the moment it is of. Nearly all answers of a second have the same two.
type Kept = RefCell<(Option<i64>, Vec<u8>)>;

thread_local! {
    static DATE: Kept = const { RefCell::new((None, Vec::new())) };
    static JSON: Kept = const { RefCell::new((None, Vec::new())) };
}

/// Appends `time_s` as `write` writes it, or as it wrote it last.
fn append(out: &mut Vec<u8>, kept: &Kept, time_s: i64, write: impl Fn(&mut Vec<u8>, i64)) {
    let (known_s, text) = &mut *kept.borrow_mut();
    if *known_s != Some(time_s) {
        text.clear();
        write(text, time_s);
        *known_s = Some(time_s);
    }
    out.extend_from_slice(text);
}

/// Appends a `Date` header line.
pub(super) fn date_header(out: &mut Vec<u8>, now_s: i64) {
    DATE.with(|kept| append(out, kept, now_s, write_date_header));
}

/// Appends a moment as JSON: a string in RFC 3339, or null.
pub(super) fn json_time(out: &mut Vec<u8>, time_s: i64) {
    JSON.with(|kept| append(out, kept, time_s, write_json_time));
}

fn write_date_header(out: &mut Vec<u8>, now_s: i64) {
    let Some(civil) = Civil::new(now_s) else { return };
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(WEEKDAYS[civil.weekday as usize].as_bytes());
    out.extend_from_slice(b", ");
    digits(out, civil.day, 2);
    out.push(b' ');
    out.extend_from_slice(MONTHS[civil.month as usize - 1].as_bytes());
    out.push(b' ');
    digits(out, civil.year, 4);
    out.push(b' ');
    civil.clock(out);
    out.extend_from_slice(b" GMT\r\n");
}

fn write_json_time(out: &mut Vec<u8>, time_s: i64) {
    let Some(civil) = Civil::new(time_s) else {
        out.extend_from_slice(b"null");
        return;
    };
    out.push(b'"');
    digits(out, civil.year, 4);
    out.push(b'-');
    digits(out, civil.month, 2);
    out.push(b'-');
    digits(out, civil.day, 2);
    out.push(b'T');
    civil.clock(out);
    out.extend_from_slice(b"Z\"");
}

/// Appends a number that is not negative with so many digits, at most 4.
fn digits(out: &mut Vec<u8>, number: i64, count: usize) {
    for unit in &[1_000, 100, 10, 1][4 - count..] {
        out.push(b'0' + (number / unit % 10) as u8);
    }
}

#[cfg(test)]
#[path = "time_tests.rs"]
mod tests;
