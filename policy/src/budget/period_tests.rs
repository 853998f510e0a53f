//! Cases of periods, and the arithmetic held against jiff's calendar.

use jiff::civil::{DateTime, Weekday, date};
use jiff::tz::Offset;
use jiff::{Span, Timestamp, ToSpan};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn check(unit: Unit, anchor: Option<&str>, now: &str, start: &str, end: &str) {
    let calendar = Calendar { unit, anchor_s: anchor.map(at) };
    let (start_s, end_s) = calendar.span(at(now));
    let shown = |s: i64| Timestamp::from_second(s).unwrap().to_string();
    assert_eq!(
        (shown(start_s), shown(end_s)),
        (start.into(), end.into()),
        "{unit:?} {anchor:?} {now}"
    );
}

#[test]
fn calendar_units() {
    let now = "2024-02-29T13:14:15Z";
    for (unit, start, end) in [
        (Unit::Second, now, "2024-02-29T13:14:16Z"),
        (Unit::Minute, "2024-02-29T13:14:00Z", "2024-02-29T13:15:00Z"),
        (Unit::Hour, "2024-02-29T13:00:00Z", "2024-02-29T14:00:00Z"),
        (Unit::Day, "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
        (Unit::Week, "2024-02-26T00:00:00Z", "2024-03-04T00:00:00Z"),
        (Unit::Month, "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        (Unit::Year, "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
    ] {
        check(unit, None, now, start, end);
    }
    check(Unit::Week, None, "2024-03-04T00:00:00Z", "2024-03-04T00:00:00Z", "2024-03-11T00:00:00Z");
    check(
        Unit::Month,
        None,
        "1969-12-31T23:59:59Z",
        "1969-12-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
    );
}

#[test]
fn anchors_on_days_that_some_months_lack() {
    let anchor = Some("2026-01-31T10:30:00Z");
    for (now, start, end) in [
        ("2026-02-01T00:00:00Z", "2026-01-31T10:30:00Z", "2026-02-28T10:30:00Z"),
        ("2026-02-28T10:29:59Z", "2026-01-31T10:30:00Z", "2026-02-28T10:30:00Z"),
        ("2026-02-28T10:30:00Z", "2026-02-28T10:30:00Z", "2026-03-31T10:30:00Z"),
        ("2026-04-29T00:00:00Z", "2026-03-31T10:30:00Z", "2026-04-30T10:30:00Z"),
        ("2026-04-30T23:00:00Z", "2026-04-30T10:30:00Z", "2026-05-31T10:30:00Z"),
        ("2028-02-29T10:30:00Z", "2028-02-29T10:30:00Z", "2028-03-31T10:30:00Z"),
        // Before the anchor.
        ("2025-11-30T10:30:00Z", "2025-11-30T10:30:00Z", "2025-12-31T10:30:00Z"),
    ] {
        check(Unit::Month, anchor, now, start, end);
    }
    let leap = Some("2024-02-29T00:00:00Z");
    check(Unit::Year, leap, "2025-03-01T00:00:00Z", "2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z");
    check(Unit::Year, leap, "2028-02-28T23:00:00Z", "2027-02-28T00:00:00Z", "2028-02-29T00:00:00Z");
    check(Unit::Year, leap, "2023-02-28T00:00:00Z", "2023-02-28T00:00:00Z", "2024-02-29T00:00:00Z");
}

#[test]
fn anchors_of_fixed_units() {
    let anchor = Some("2026-01-07T05:06:07Z");
    check(
        Unit::Minute,
        anchor,
        "2026-01-07T05:07:06Z",
        "2026-01-07T05:06:07Z",
        "2026-01-07T05:07:07Z",
    );
    check(
        Unit::Hour,
        anchor,
        "2025-01-01T00:00:00Z",
        "2024-12-31T23:06:07Z",
        "2025-01-01T00:06:07Z",
    );
    check(
        Unit::Day,
        anchor,
        "2026-01-08T05:06:06Z",
        "2026-01-07T05:06:07Z",
        "2026-01-08T05:06:07Z",
    );
    check(
        Unit::Week,
        anchor,
        "2026-01-06T00:00:00Z",
        "2025-12-31T05:06:07Z",
        "2026-01-07T05:06:07Z",
    );
}

#[test]
fn ids_only_grow() {
    let monthly = Calendar { unit: Unit::Month, anchor_s: None };
    let daily = Calendar { unit: Unit::Day, anchor_s: None };
    let june = Period::first(&monthly, at("2026-06-15T12:00:00Z"));
    assert_eq!(june.id, PeriodId(at("2026-06-01T00:00:00Z") as u64));
    // A clock that goes back stays in the period.
    assert_eq!(june.at(&monthly, at("2026-05-01T00:00:00Z")), june);
    // A plan change moves the end alone.
    let moved = june.moved_to(&daily, at("2026-06-15T12:00:00Z"));
    assert_eq!(
        (moved.id, moved.start_s, moved.end_s),
        (june.id, june.start_s, at("2026-06-16T00:00:00Z"))
    );
    let next = moved.next(&daily);
    assert_eq!((next.id, next.start_s), (PeriodId(moved.end_s as u64), moved.end_s));
    // Back to months: a period that would begin before its forerunner still gets a larger id.
    let back = next.at(&monthly, next.end_s);
    assert_eq!((back.start_s, back.id), (june.start_s, PeriodId(next.id.0 + 1)));
}

/// The slow way: step through the periods from the anchor, by jiff's calendar.
fn slow_span(unit: Unit, anchor: DateTime, now: DateTime) -> (i64, i64) {
    let step = |count: i64| -> DateTime {
        let span: Span = match unit {
            Unit::Month => count.months(),
            Unit::Year => count.years(),
            Unit::Week => (7 * count).days(),
            Unit::Day => count.days(),
            Unit::Hour => count.hours(),
            Unit::Minute => count.minutes(),
            Unit::Second => count.seconds(),
        };
        anchor.checked_add(span).unwrap()
    };
    let length_s = i64::try_from(unit.nominal_s()).unwrap();
    let unix_s = |at: DateTime| Offset::UTC.to_timestamp(at).unwrap().as_second();
    let mut count = (unix_s(now) - unix_s(anchor)) / length_s - 2;
    while step(count + 1) <= now {
        count += 1;
    }
    while step(count) > now {
        count -= 1;
    }
    (unix_s(step(count)), unix_s(step(count + 1)))
}

proptest! {
    #[test]
    fn spans_are_those_of_a_calendar(
        unit in proptest::sample::select(vec![
            Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year,
        ]),
        anchor_s in proptest::option::of(0..4_000_000_000_i64),
        now_s in -1_000_000_000..6_000_000_000_i64,
    ) {
        let civil = |s: i64| Offset::UTC.to_datetime(Timestamp::from_second(s).unwrap());
        let monday = date(1970, 1, 5);
        assert_eq!(monday.weekday(), Weekday::Monday);
        let default_s = if unit == Unit::Week { 4 * 86_400 } else { 0 };
        let calendar = Calendar { unit, anchor_s };
        let expected = slow_span(unit, civil(anchor_s.unwrap_or(default_s)), civil(now_s));
        prop_assert_eq!(calendar.span(now_s), expected);
    }

    #[test]
    fn spans_leave_no_gap(anchor_s in any::<Option<i64>>(), now_s in any::<i64>(), unit in 0..7_usize) {
        let units = [
            Unit::Second, Unit::Minute, Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year,
        ];
        let calendar = Calendar { unit: units[unit], anchor_s };
        let (start_s, end_s) = calendar.span(now_s);
        prop_assert!(start_s < end_s);
        prop_assert_eq!(calendar.span(start_s.max(-60_000_000_000)).0, start_s.max(calendar.span(-60_000_000_000).0));
    }
}
