use super::Interval;
use jiff::Timestamp;

fn at(text: &str) -> i64 {
    format!("{text}T10:20:30Z").parse::<Timestamp>().expect(text).as_second()
}

#[test]
fn months_are_clamped_and_the_clamp_does_not_stick() {
    for (interval, count, anchor, boundaries) in [
        ("month", 1, "2026-01-31", vec!["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("month", 1, "2028-01-30", vec!["2028-02-29", "2028-03-30"]),
        ("month", 3, "2026-11-30", vec!["2027-02-28", "2027-05-30", "2027-08-30"]),
        ("year", 1, "2028-02-29", vec!["2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]),
        ("week", 2, "2026-01-31", vec!["2026-02-14", "2026-02-28"]),
        ("day", 1, "2026-02-28", vec!["2026-03-01"]),
        ("month", 1, "2026-12-15", vec!["2027-01-15", "2027-02-15"]),
    ] {
        let interval = Interval::of(interval, count).expect(interval);
        let anchor_s = at(anchor);
        let mut after = anchor_s;
        for expected in boundaries {
            let next = interval.next_after(anchor_s, after);
            assert_eq!(next, at(expected), "{interval:?} of {anchor} after {after}");
            assert_eq!(interval.last_before(anchor_s, next), next, "a boundary is its own last");
            assert_eq!(
                interval.last_before(anchor_s, next - 1),
                after,
                "the one before {expected}"
            );
            after = next;
        }
    }
}

#[test]
fn anchors_may_lie_ahead() {
    let month = Interval::Months(1);
    assert_eq!(month.last_before(at("2026-06-15"), at("2026-05-20")), at("2026-05-15"));
    assert_eq!(month.next_after(at("2026-06-15"), at("2026-05-20")), at("2026-06-15"));
    assert_eq!(Interval::of("fortnight", 1), None);
}
