//! The bucket held against one that is filled whenever it is looked at.

use proptest::prelude::*;

use super::super::Unit;
use super::super::reference::SlowBucket;
use super::*;

proptest! {
    #[test]
    fn equals_the_slow_one(
        requests in 1..2_000_u64,
        unit in proptest::sample::select(vec![Unit::Second, Unit::Minute, Unit::Year]),
        burst in 1..500_u64,
        acts in proptest::collection::vec((0..2_000_000_u64, 1..40_u64), 1..80),
    ) {
        let terms = RateTerms { requests, unit, burst };
        let mut now_us = 7_000_000_000;
        let (mut fast, mut slow) = (Bucket::full(&terms, now_us), SlowBucket::full(&terms, now_us));
        for (pass_us, takes) in acts {
            now_us += pass_us;
            for _ in 0..takes {
                let there = fast.level(&terms, now_us) > 0;
                prop_assert_eq!(slow.take(&terms, now_us), there);
                prop_assert_eq!(there, fast.next_in_us(&terms, now_us) == 0);
                if there {
                    fast.take(&terms, now_us, 1);
                }
            }
            prop_assert_eq!(slow.holds(&terms), fast.level(&terms, now_us));
            let next_us = now_us + fast.next_in_us(&terms, now_us);
            prop_assert!(fast.level(&terms, next_us) > 0);
            let full_us = now_us + fast.full_in_us(&terms, now_us, 0);
            prop_assert_eq!(fast.level(&terms, full_us), burst);
        }
    }

    #[test]
    fn level_and_loans_stay_within_the_burst(
        burst in 1..200_u64,
        loans in proptest::collection::vec((0..900_000_u64, 1..60_u64, 0..60_u64), 1..50),
    ) {
        let terms = RateTerms { requests: 50, unit: Unit::Second, burst };
        let mut now_us = 1_000_000;
        let mut bucket = Bucket::full(&terms, now_us);
        let mut out = 0;
        for (pass_us, lend, unused) in loans {
            now_us += pass_us;
            bucket.cap(&terms, now_us, out);
            let lend = lend.min(bucket.level(&terms, now_us));
            bucket.take(&terms, now_us, lend);
            out += lend;
            prop_assert!(bucket.level(&terms, now_us) + out <= burst);
            let back = unused.min(out);
            bucket.put_back(&terms, back);
            out = if lend % 2 == 0 { out - back } else { 0 };
            prop_assert!(bucket.level(&terms, now_us) + out <= burst);
        }
    }
}

#[test]
fn new_terms_keep_what_is_missing() {
    let minute = RateTerms { requests: 60, unit: Unit::Minute, burst: 60 };
    let mut bucket = Bucket::full(&minute, 5_000_000);
    bucket.take(&minute, 5_000_000, 45);
    for (requests, unit, burst, level) in [
        (60, Unit::Minute, 60, 15),
        (1_000, Unit::Second, 100, 55),
        (1, Unit::Year, 45, 0),
        // Less than is missing: empty, not below.
        (10, Unit::Hour, 10, 0),
    ] {
        let new = RateTerms { requests, unit, burst };
        let reshaped = bucket.reshaped(&minute, &new, 5_000_000);
        assert_eq!(reshaped.level(&new, 5_000_000), level, "{new:?}");
    }
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let terms = RateTerms { requests: u64::MAX, unit: Unit::Year, burst: u64::MAX };
    let mut bucket = Bucket::full(&terms, u64::MAX / 2);
    bucket.take(&terms, u64::MAX / 2, u64::MAX / 2);
    assert!(bucket.level(&terms, u64::MAX / 2) > 0);
    let nothing = RateTerms { requests: 0, unit: Unit::Second, burst: 0 };
    assert_eq!(Bucket::full(&nothing, 9).level(&nothing, 9), 0);
    assert_eq!(Bucket::full(&nothing, 9).next_in_us(&nothing, 9), 0);
}
