//! The times at which increments count, around a period's end.

use super::*;

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
/// When the billing period turned.
const TURN: i64 = 1_700_000_000;

#[test]
fn a_time_is_moved_on_where_its_invoice_is_made() {
    let month =
        |start_s: i64| BillingPeriod { start_s, end_s: start_s + 30 * DAY, trial_end_s: None };
    let year = BillingPeriod { start_s: TURN, end_s: TURN + 365 * DAY, trial_end_s: None };
    let trial = |end_s: i64| BillingPeriod { trial_end_s: Some(end_s), ..month(TURN) };
    let (known, stale) = (Some(month(TURN)), Some(month(TURN - 30 * DAY)));
    // (used, what is known, now, counts)
    let cases = [
        // In the period that runs.
        (TURN, known, TURN, TURN),
        (TURN + DAY, known, TURN + 2 * DAY, TURN + DAY),
        // While the invoice is a draft, whether or not the renewal is known.
        (TURN - 1, known, TURN + DRAFT_S - 1, TURN - 1),
        (TURN - 1, stale, TURN + DRAFT_S - 1, TURN - 1),
        (TURN - 27 * DAY, known, TURN, TURN - 27 * DAY),
        // After it.
        (TURN - 1, known, TURN + DRAFT_S, TURN + DRAFT_S - 1),
        (TURN - 1, stale, TURN + DRAFT_S, TURN + DRAFT_S - 1),
        (TURN - 20 * DAY, known, TURN + 10 * DAY, TURN + 10 * DAY - 1),
        // Of the period before the one that is a draft.
        (TURN - 32 * DAY, known, TURN + HOUR / 2, TURN - 1),
        // Longer ago than Stripe takes, within one invoice or not.
        (TURN, Some(year), TURN + 34 * DAY, TURN),
        (TURN, Some(year), TURN + 35 * DAY, TURN + 35 * DAY - 1),
        (TURN - 40 * DAY, known, TURN + DAY, TURN + DAY - 1),
        (TURN - 34 * DAY, None, TURN, TURN - 34 * DAY),
        (TURN - 35 * DAY, None, TURN, TURN - 1),
        // A trial is free; what comes after it is not.
        (TURN - 1, Some(trial(TURN)), TURN + 2 * HOUR, TURN - 1),
        (TURN - 1, Some(trial(TURN - 20 * DAY)), TURN + 2 * HOUR, TURN + 2 * HOUR - 1),
    ];
    for (used_s, period, now_s, expected) in cases {
        assert_eq!(
            at_s(used_s, period, now_s),
            expected,
            "{} {period:?} {}",
            used_s - TURN,
            now_s - TURN
        );
    }
}

#[test]
fn a_time_is_never_moved_back() {
    for used in -60..=60 {
        for now in used..=60 {
            for turned in -60..=60 {
                let (used_s, now_s, start_s) = (used * DAY, now * DAY, turned * DAY);
                let period =
                    BillingPeriod { start_s, end_s: start_s + 30 * DAY, trial_end_s: None };
                let counts_s = at_s(used_s, Some(period), now_s);
                assert!((used_s..=now_s).contains(&counts_s), "{used} {now} {turned}: {counts_s}");
            }
        }
    }
}
