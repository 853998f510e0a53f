use super::*;

/// 2026-11-27T10:20:30Z.
const NOW_MS: i64 = 1_795_774_830_000;
const TODAY_S: i64 = 1_795_737_600;

#[test]
fn the_time_that_is_meant() {
    use IntervalWord::{Day, Minute, Total};
    let ms = |at_s: i64| Some(at_s * 1_000);
    let minute_s = NOW_MS / 60_000 * 60 + 60;
    let tomorrow_s = TODAY_S + DAY_S;
    let of = |from_s, until_s, is_by_minute| Some(Span { from_s, until_s, is_by_minute });
    type Case = (Option<i64>, Option<i64>, IntervalWord, bool, Option<Span>);
    let cases: Vec<Case> = vec![
        (None, None, Total, false, of(tomorrow_s - 30 * DAY_S, tomorrow_s, false)),
        (None, None, Day, false, of(tomorrow_s - 30 * DAY_S, tomorrow_s, false)),
        (None, None, Day, true, of(tomorrow_s - PERIOD_SPAN_S, tomorrow_s, false)),
        (None, None, Minute, false, of(minute_s - 3_600, minute_s, true)),
        (ms(TODAY_S), None, Total, false, of(TODAY_S, tomorrow_s, false)),
        (ms(TODAY_S + 60), None, Total, false, of(TODAY_S + 60, tomorrow_s, true)),
        (None, ms(TODAY_S + 60), Total, false, of(TODAY_S - 30 * DAY_S, TODAY_S + 60, true)),
        (ms(TODAY_S), ms(TODAY_S + 60), Minute, false, of(TODAY_S, TODAY_S + 60, true)),
        (ms(TODAY_S), ms(TODAY_S), Total, false, of(TODAY_S, TODAY_S, false)),
        // Not as sums are kept, backwards, too long.
        (ms(TODAY_S + 60), None, Day, false, None),
        (ms(TODAY_S + 1), None, Total, false, None),
        (Some(TODAY_S * 1_000 + 1), None, Minute, false, None),
        (ms(TODAY_S + DAY_S), ms(TODAY_S), Total, false, None),
        (ms(TODAY_S - 8 * DAY_S), None, Minute, false, None),
        (ms(TODAY_S - 900 * DAY_S), None, Day, false, None),
    ];
    for (since_ms, until_ms, interval, has_period, expected) in cases {
        let mut faults = Vec::new();
        let span = span((since_ms, until_ms), interval, has_period, NOW_MS, &mut faults);
        let found = faults.is_empty().then_some(span);
        assert_eq!(
            found, expected,
            "{since_ms:?} {until_ms:?} {interval:?} {has_period} {faults:?}"
        );
    }
}
