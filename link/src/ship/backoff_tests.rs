//! Waits grow, spread, and have a bound.

use super::*;

#[test]
fn waits_double_up_to_the_longest_and_differ_by_seed() {
    let waits = |seed| {
        let mut backoff = Backoff::new(Backoff::FIRST, Backoff::LONGEST, seed);
        (0..40).map(|_| backoff.next()).collect::<Vec<_>>()
    };
    let all = waits(7);
    for (index, wait) in all.iter().enumerate() {
        let full = Duration::from_millis(100 << index.min(20)).min(Backoff::LONGEST);
        assert!(*wait >= full / 2 && *wait <= full, "wait {index} is {wait:?} of {full:?}");
    }
    assert_ne!(all, waits(1 << 40));
    let mut backoff = Backoff::new(Backoff::FIRST, Backoff::LONGEST, 7);
    backoff.next();
    backoff.next();
    backoff.reset();
    assert!(backoff.next() <= Backoff::FIRST);
}
