//! Tests of the cells: buckets by their inclusive upper bound, labels beyond the bound, reading while another writes.

use super::*;

#[test]
fn a_duration_falls_into_the_first_bucket_that_holds_it() {
    let check = |duration_ns: u64, bucket: usize| {
        let histogram = Histogram::default();
        histogram.observe_ns(duration_ns);
        let (counts, sum_ns) = histogram.read();
        assert_eq!(counts.iter().position(|&count| count == 1), Some(bucket), "{duration_ns} ns");
        assert_eq!(counts.iter().sum::<u64>(), 1);
        assert_eq!(sum_ns, duration_ns);
    };
    check(0, 0);
    check(10_000, 0);
    check(10_001, 1);
    check(1_000_000, 6);
    check(60_000_000_000, DURATION_BUCKETS - 2);
    check(60_000_000_001, DURATION_BUCKETS - 1);
    check(u64::MAX, DURATION_BUCKETS - 1);
}

#[test]
fn bounds_ascend() {
    assert!(DURATION_BOUNDS_NS.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn labels_count_apart_and_the_last_ones_together() {
    let labelled = Labelled::default();
    labelled.inc("head");
    labelled.add("idle", 3);
    labelled.inc("head");
    assert_eq!(labelled.read().collect::<Vec<_>>(), [("head", 2), ("idle", 3)]);
    for number in 0..LABELS_MAX {
        labelled.inc(Box::leak(format!("l{number}").into_boxed_str()));
    }
    assert_eq!(labelled.read().last(), Some(("other", 2)));
    assert_eq!(labelled.read().map(|(_, count)| count).sum::<u64>(), 5 + LABELS_MAX as u64);
}

#[test]
fn a_gauge_does_not_fall_below_zero() {
    let gauge = Gauge::new();
    gauge.dec();
    assert_eq!(gauge.get(), 0);
    gauge.inc();
    gauge.inc();
    gauge.dec();
    assert_eq!(gauge.get(), 1);
}

#[test]
fn a_reader_never_sees_a_count_go_down() {
    let counter = Counter::new();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..100_000).for_each(|_| counter.inc()));
        let mut last = 0;
        while last < 100_000 {
            let seen = counter.get();
            assert!(seen >= last);
            last = seen;
        }
    });
}
