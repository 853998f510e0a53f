use super::*;

#[test]
fn a_key_has_its_burst_and_then_its_rate() {
    let limiter = Limiter::new(RateLimit { per_second: 10, burst: 3 });
    let check = |key: &str, now_ms: i64, expected: Result<(), u64>| {
        assert_eq!(limiter.take(key, now_ms), expected, "{key} at {now_ms}");
    };
    for _ in 0..3 {
        check("a", 1_000, Ok(()));
    }
    assert!(limiter.is_empty("a", 1_000) && !limiter.is_empty("b", 1_000));
    check("a", 1_000, Err(1));
    check("b", 1_000, Ok(()));
    check("a", 1_099, Err(1));
    assert!(!limiter.is_empty("a", 1_100), "asking takes nothing");
    check("a", 1_100, Ok(()));
    check("a", 1_100, Err(1));
    // A clock that goes back a day holds nobody up for a day.
    check("a", 1_100 - 86_400_000, Err(1));
    check("a", 1_100 - 86_400_000 + 400, Ok(()));
    check("a", 9_000, Ok(()));
}

#[test]
fn buckets_are_bounded_and_full_ones_go_first() {
    let limiter = Limiter::new(RateLimit { per_second: 1, burst: 1 });
    for at in 0..KEYS_MAX {
        assert_eq!(limiter.take(&at.to_string(), 1_000), Ok(()));
    }
    assert_eq!(limiter.take("one more", 1_000), Err(1));
    assert_eq!(limiter.take("one more", 2_000), Ok(()));
    assert_eq!(limiter.buckets.lock().len(), 1);
}
